"""The tables: complete, sourced, extendable from files."""

import json
from pathlib import Path

import pytest

from dreamseed_cli.core.errors import ErrorGroup, UsageError
from dreamseed_cli.plan.check import check_profile
from dreamseed_cli.plan.tables import cards, extended, find_model, models, shipped
from dreamseed_cli.profile.load import load_profile, shipped_names
from dreamseed_cli.profile.schema import VllmEngine

_CARD = """
[mine]
title = "A card of mine"
memory_gib = 16
bandwidth_gb_s = 500
board_power_w = 200
source = "its box"
"""


def test_every_card_names_its_source_and_its_figures_hang_together() -> None:
    """FP8, where a card has it, is twice FP16; nobody reports more memory than is sold."""
    for card in cards().values():
        assert "NVIDIA" in card.source
        assert "nvidia-smi" in card.source
        assert card.tflops_fp16 == card.tflops_bf16
        if card.tflops_fp8 is not None and card.tflops_fp16 is not None:
            assert card.tflops_fp8 == pytest.approx(2 * card.tflops_fp16, rel=0.02)


def test_a_format_the_card_lacks_is_computed_in_fp16() -> None:
    """A 3090 has no FP8."""
    assert cards()["rtx3090"].peak_tflops("fp8") == 71
    assert cards()["rtx5090"].peak_tflops("fp8") == 419


def test_every_shipped_profiles_model_and_card_are_known() -> None:
    """What we ship, is computed."""
    for profile in map(load_profile, shipped_names()):
        if isinstance(profile.engine, VllmEngine):
            assert profile.engine.model in models()
            assert check_profile(profile).unchecked is None


def test_files_add_to_the_tables(tmp_path: Path) -> None:
    """And replace a line of the same name; what is left out is not known."""
    file = tmp_path / "cards.toml"
    file.write_text(_CARD + _CARD.replace("mine", "rtx5090"))
    tables = extended(file, None)
    assert tables.cards["mine"].bandwidth_gb_s == 500
    assert tables.cards["mine"].peak_tflops("fp16") is None
    assert tables.cards["rtx5090"].title == "A card of mine".replace("mine", "rtx5090")
    assert tables.models == models()
    assert "mine" not in cards()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[mine\n", "not valid TOML"),
        (_CARD.replace("memory_gib = 16\n", ""), r"mine\.memory_gib': Field required"),
        (_CARD.replace("500", '"fast"'), r"mine\.bandwidth_gb_s"),
        (_CARD + "colour = 'red'\n", r"mine\.colour"),
    ],
)
def test_a_wrong_file_names_the_place(tmp_path: Path, text: str, said: str) -> None:
    """The file, the line's name, the field."""
    file = tmp_path / "cards.toml"
    file.write_text(text)
    with pytest.raises((UsageError, ErrorGroup), match=said):
        extended(file, None)
    with pytest.raises(UsageError, match="cannot be read"):
        extended(None, tmp_path / "nowhere.toml")


_MODEL = """
[mine]
parameters = 1000
layers = 4
attention_heads = 8
kv_heads = 2
head_dim = 16
max_positions = 4096
"""


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ("plain_parameters = 1001", "its parts have 1,001 parameters"),
        ("plain_parameters = 501\ntower_parameters = 500", "its parts have 1,001 parameters"),
        ("experts = { routed = 8, active = 2, parameters = 1001 }", "its parts have 1,001 parameters"),
        ("experts = { routed = 2, active = 5, parameters = 900 }", "5 of 2 experts cannot be active"),
        ("window = { layers = 5, tokens = 128 }", "5 of 4 layers cannot have a window"),
    ],
)
def test_a_model_of_ones_own_hangs_together(tmp_path: Path, more: str, said: str) -> None:
    """No part of it is more than the whole."""
    file = tmp_path / "models.toml"
    file.write_text(_MODEL)
    assert extended(None, file).models["mine"].kv_heads == 2
    file.write_text(_MODEL + more)
    with pytest.raises(ErrorGroup, match=said):
        extended(None, file)
    file.write_text(_MODEL.replace("kv_heads = 2", "kv_heads = 3"))
    with pytest.raises(ErrorGroup, match="3 KV heads do not divide 8"):
        extended(None, file)


def test_a_folder_is_a_model_to_the_check_before_a_start_too(tmp_path: Path) -> None:
    """One that cannot be computed is left unchecked, not refused."""
    profile = load_profile("rtx5090x1")
    own = profile.model_copy(update={"engine": profile.engine.model_copy(update={"model": str(tmp_path)})})
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "mamba"}))
    assert "model_type 'mamba' is not computed" in (check_profile(own).unchecked or "")
    sizes = {"hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 32}
    more = {"num_attention_heads": 32, "max_position_embeddings": 4096, "vocab_size": 32000}
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "llama", **sizes, **more}))
    assert find_model(shipped(), str(tmp_path)) is not None
    assert check_profile(own).findings == ()
    assert check_profile(own).fit == check_profile(profile).fit
