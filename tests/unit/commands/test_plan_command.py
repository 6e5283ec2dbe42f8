"""`dreamseed plan`, as people and machines see it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from dreamseed_cli.app import main
from dreamseed_cli.profile.load import shipped_names


@pytest.fixture(autouse=True)
def _wide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "160")


def _run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main(["plan", *arguments])
    return int(ended.value.code or 0)


def _data(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 0) -> dict[str, Any]:
    assert _run(*arguments, "--json") == code
    document = json.loads(capsys.readouterr().out)
    assert (document["command"], document["ok"]) == ("plan", code == 0)
    data: dict[str, Any] = document["data"]
    return data


def test_a_mixture_of_experts_reads_some_of_its_weights(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Mixtral-8x7B on two H100: 93.4 GB are kept, a token reads 25.8; said in words and in numbers."""
    folder = _mixtral(tmp_path, sliding_window=None)
    asked = ("--model", folder, "--card", "h100-sxm", "--gpus", "2")
    assert _run(*asked) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "93.41 GB of weights" in shown
    assert "2 of 8 work on a token, so 12.9 of 46.7 billion weights do" in shown
    memory = _data(capsys, *asked)
    assert memory["memory"]["active_parameters"] == 12_879_925_248
    assert memory["memory"]["experts"]["routed"] == 8
    assert memory["single_stream_one_card_tok_s"] == pytest.approx(3350 / 25.76, abs=0.1)


def test_a_window_and_what_is_not_counted_are_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Mixtral with its first window, inside a model that sees with a tower nobody knows."""
    folder = _mixtral(tmp_path, sliding_window=4096, inside=True)
    assert _run("--model", folder, "--card", "h100-sxm", "--gpus", "2") == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "32 of 32 layers keep the last 4,096 tokens only" in shown
    assert "not counted: the weights of what sees or hears (its towers)" in shown


def test_a_latent_vector_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    """DeepSeek's: of 16 heads' keys and values 576 numbers are kept."""
    asked = ("--model", "deepseek-ai/DeepSeek-V2-Lite-Chat", "--card", "h100-sxm", "--gpus", "1")
    assert _run(*asked) == 0
    assert "a layer keeps 576 numbers of a token" in " ".join(capsys.readouterr().out.split())
    memory = _data(capsys, *asked)["memory"]
    assert (memory["latent"], memory["kv_bytes_per_token"]) == ({"rank": 512, "rope": 64}, 31_104)


def _mixtral(folder: Path, *, sliding_window: int | None, inside: bool = False) -> str:
    config: dict[str, Any] = {
        "model_type": "mixtral", "hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32,
        "num_attention_heads": 32, "num_key_value_heads": 8, "num_local_experts": 8,
        "num_experts_per_tok": 2, "max_position_embeddings": 32768, "vocab_size": 32000,
        "sliding_window": sliding_window,
    }  # fmt: skip
    whole = {"model_type": "seer", "text_config": config, "vision_config": {}} if inside else config
    (folder / "config.json").write_text(json.dumps(whole))
    return str(folder)


@pytest.mark.parametrize("name", shipped_names())
def test_every_shipped_profile_is_planned(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit code 1 for the document's alone; the same verdict for people and machines."""
    code = 1 if name == "rtx5090x3-document" else 0
    assert _run("--profile", name) == code
    shown = capsys.readouterr().out
    assert ("cannot start" in shown) is bool(code)
    data = _data(capsys, "--profile", name, code=code)
    assert data["profile"] == name
    assert data["can_start"] is not bool(code)
    assert data["provenance"] == "computed"


def test_the_documents_plan_says_why_not_and_what_instead(capsys: pytest.CaptureFixture[str]) -> None:
    """Contradictions 2, 3, 4 and 8 on one page, each computed; sentences are broken between words."""
    assert _run("--profile", "rtx5090x3-document") == 1
    page = capsys.readouterr().out
    assert max(map(len, page.splitlines())) <= 160
    shown = " ".join(page.split())
    for words in (
        "3 does not divide the model's 40 attention heads",
        "with 1 it does not fit (26.0 GB of weights a card, KV cache for 3,816 tokens",
        "at most 68.8 tok/s from one card (computed)",
        "2,253 W from the wall is 753 W more than the UPS's 1,500 W",
        "351 W a card for the UPS. The driver takes no less than 400 W: this UPS carries 2 of the 3 cards",
        "Profiles that can start on these cards: rtx5090x3, rtx5090x1",
        "Qwen/Qwen2.5-14B-Instruct-AWQ",
    ):
        assert words in shown


def test_the_document_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    """The figures that a verdict on the document needs."""
    data = _data(capsys, "--profile", "rtx5090x3-document", code=1)
    assert [reason["place"] for reason in data["reasons"]] == ["engine.tensor_parallel_size"]
    assert data["memory"]["weights_bytes"] == 26_031_728_640
    assert data["single_stream_one_card_tok_s"] == 68.84
    assert data["power"]["draw_w"] == 2005
    assert data["profiles_that_can_start"][0] == "rtx5090x3"
    assert data["best_layout"]["tensor_parallel"] == 2


def test_a_model_and_a_card_need_no_profile(capsys: pytest.CaptureFixture[str]) -> None:
    """The best layout is looked for."""
    arguments = ("--model", "Qwen/Qwen3-8B", "--card", "rtx4090", "--gpus", "2")
    data = _data(capsys, *arguments)
    assert (data["profile"], data["gpus"]) == ("plan", 2)
    assert data["layout"]["replicas"] == 2
    assert data["speed_per_replica"]["decode"][0]["batch"] == 1


def test_a_model_that_fits_nowhere_exits_1(capsys: pytest.CaptureFixture[str]) -> None:
    """With what fits instead."""
    arguments = ("--model", "meta-llama/Llama-3.3-70B-Instruct", "--card", "l4")
    data = _data(capsys, *arguments, code=1)
    assert data["best_layout"] is None
    assert data["models_that_fit"]
    assert _run(*arguments) == 1
    assert "Models that fit these cards instead" in capsys.readouterr().out


def test_a_folder_and_files_extend_the_tables(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A config.json, a card and a model of one's own."""
    (tmp_path / "cards.toml").write_text(
        '[mine]\ntitle = "Mine"\nmemory_gib = 48.0\nbandwidth_gb_s = 1000\n'
        'board_power_w = 300\nsource = "x"\n'
    )
    (tmp_path / "models.toml").write_text(
        '["me/model"]\nparameters = 5_000_000_000\nlayers = 10\nattention_heads = 8\nkv_heads = 8\n'
        "head_dim = 128\nmax_positions = 2048\n"
    )
    files = ("--cards", str(tmp_path / "cards.toml"), "--models", str(tmp_path / "models.toml"))
    data = _data(capsys, *files, "--card", "mine", "--model", "me/model")
    assert data["single_stream_one_card_tok_s"] == 100.0
    assert data["speed_per_replica"]["prefill_bound_tok_s"] is None
    assert _run(*files, "--card", "mine", "--model", "me/model") == 0
    assert "does not know the card's compute" in capsys.readouterr().out
    sizes = {"hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 32, "vocab_size": 32000}
    config = {"model_type": "llama", **sizes, "num_attention_heads": 32, "max_position_embeddings": 4096}
    (tmp_path / "config.json").write_text(json.dumps(config))
    data = _data(capsys, "--card", "rtx5090", "--model", str(tmp_path))
    assert data["single_stream_one_card_tok_s"] == 132.97


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--profile", "rtx5090x3", "--card", "voodoo2"), "no card of this name"),
        (("--profile", "rtx5090x3", "--model", "nobody/nothing"), "no model of this name"),
        (("--profile", "laptop", "--gpus", "2"), "names no card"),
        (("--profile", "rtx5090x3", "--gpus", "0"), "greater than or equal to 1"),
        (("--card", "l4"), "a card alone is no plan"),
    ],
)
def test_wrong_usage_exits_2(
    arguments: tuple[str, ...], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """And says what is known."""
    assert _run(*arguments) == 2
    assert said in capsys.readouterr().err


def test_many_cards_keep_the_page_short(capsys: pytest.CaptureFixture[str]) -> None:
    """A hundred cards have hundreds of layouts: JSON has them all, the page the smallest that fit."""
    assert _run("--profile", "rtx5090x3", "--gpus", "100") == 0
    assert len(capsys.readouterr().out.splitlines()) < 60
