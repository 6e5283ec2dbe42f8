"""Profiles: shipped ones load, wrong ones say everything that is wrong."""

import re
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from dreamseed_cli.core.errors import DreamseedError, ErrorGroup, UsageError
from dreamseed_cli.profile.load import load_profile, parse_profile, shipped_names, with_gpus
from dreamseed_cli.profile.schema import Admission

MINIMAL: dict[str, Any] = {
    "name": "mine",
    "description": "a test's",
    "engine": {"kind": "vllm", "device": "cpu", "model": "smollm2-135m-instruct"},
}


def test_the_shipped_profiles_are_these_five_with_the_default_first() -> None:
    """A profile that is not packaged or does not load is noticed here."""
    names = shipped_names()
    assert names[0] == "laptop"
    assert set(names) == {"laptop", "rtx5090x1", "rtx5090x3", "rtx5090x3-document", "emulated-rtx5090x3"}
    assert [load_profile(name).name for name in names] == names


def test_every_error_is_told_at_once_with_its_path() -> None:
    """One round for the operator, not one a mistake."""
    wrong = {
        **MINIMAL,
        "engine": {**MINIMAL["engine"], "replicas": "3", "max_model_len": 0, "modle": "x"},
        "gateway": {"port": 70000},
        "extra": 1,
    }
    with pytest.raises(ErrorGroup) as caught:
        parse_profile(wrong, source="mine.toml")
    assert {error.place for error in caught.value.causes()} == {
        "mine.toml: engine.replicas",
        "mine.toml: engine.max_model_len",
        "mine.toml: engine.modle",
        "mine.toml: gateway.port",
        "mine.toml: extra",
    }
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(
    ("engine", "place", "remedy"),
    [
        ({"kind": "emulated"}, "engine.card", "Add it; .*profile show emulated-rtx5090x3 --json"),
        ({"kind": "vllm", "device": "cpu"}, "engine.model", "Add it; .*profile show laptop --json"),
        (MINIMAL["engine"] | {"replicas": 0}, "engine.replicas", "Mend it; .*profile show"),
        (MINIMAL["engine"] | {"modle": "x"}, "engine.modle", r"Did you mean model\?"),
        (MINIMAL["engine"] | {"max_num_seq": 4}, "engine.max_num_seq", "Did you mean max_num_seqs"),
        (MINIMAL["engine"] | {"qqq": "x"}, "engine.qqq", "Remove it, or mind the spelling"),
    ],
)
def test_a_mistake_tells_what_to_do(engine: dict[str, Any], place: str, remedy: str) -> None:
    """A profile that is named as a pattern has the field."""
    with pytest.raises(ErrorGroup) as caught:
        parse_profile({**MINIMAL, "engine": engine}, source="mine.toml")
    (told,) = (error for error in caught.value.causes() if error.place == f"mine.toml: {place}")
    assert re.search(remedy, told.remedy)
    named = re.search(r"profile show (\S+)", told.remedy)
    if named:
        fields = load_profile(named[1]).model_dump()["engine"]
        assert place.removeprefix("engine.") in fields


def test_a_profile_is_frozen() -> None:
    """What was validated stays what runs."""
    profile = parse_profile(MINIMAL, source="x")
    with pytest.raises(ValueError, match="frozen"):
        profile.name = "other"  # type: ignore[misc]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"engine": {"kind": "vllm", "device": "cuda", "model": "m", "replicas": 2}},
            "is 2 cards, box.gpus is 0",
        ),
        ({"box": {"gpus": 1}}, "gpu_model is not"),
        ({"engine": {"kind": "remote", "urls": ["10.0.0.1:8000"], "model": "m"}}, "is not an address"),
        ({"engine": {"kind": "remote", "urls": ["https://a", "https://a"], "model": "m"}}, "twice"),
        ({"failover": {"urls": ["http://10.0.0.1:8000"]}}, "in clear"),
        ({"engine": {"kind": "tgi"}}, "tgi"),
        ({"gateway": {"generation": {"default_top_p": float("nan")}}}, "top_p|JSON|valid"),
    ],
)
def test_contradictions_are_refused(change: dict[str, Any], message: str) -> None:
    """Values that are fine one by one and wrong together."""
    with pytest.raises(ErrorGroup, match=message):
        parse_profile({**MINIMAL, **change}, source="x")


@pytest.mark.parametrize(
    ("url", "taken"),
    [
        ("https://engine.example.org", True),
        ("http://127.0.0.1:8000", True),
        ("http://localhost:8000", True),
        ("http://[::1]:8000", True),
        ("http://100.64.1.20:8000", True),
        ("http://100.128.0.1:8000", False),
        ("http://10.0.0.1:8000", False),
        ("http://gpu.example.ts.net:8000", False),
        ("http://127.0.0.1@engine.example.org", False),
        ("http://", False),
    ],
)
def test_prompts_do_not_travel_in_clear(url: str, taken: bool) -> None:
    """Plain HTTP stays on this machine or inside Tailscale's encryption."""
    data = {**MINIMAL, "engine": {"kind": "remote", "urls": [url], "model": "m"}}
    if taken:
        assert parse_profile(data, source="x").engine.model_dump()["urls"] == (url,)
        return
    with pytest.raises(DreamseedError, match="in clear") as caught:
        parse_profile(data, source="x")
    assert [error.place for error in caught.value.causes()] == ["x: engine"]


def test_an_unknown_name_lists_the_shipped_ones() -> None:
    """The remedy is in the message."""
    with pytest.raises(UsageError, match="laptop") as caught:
        load_profile("labtop")
    assert caught.value.place == "labtop"


def test_a_missing_file_and_broken_toml_are_named(tmp_path: Path) -> None:
    """With the line where the TOML breaks."""
    with pytest.raises(UsageError, match="no such file"):
        load_profile(str(tmp_path / "none.toml"))
    broken = tmp_path / "broken.toml"
    broken.write_text("name = \n")
    with pytest.raises(UsageError, match=r"not valid TOML: .*line 1"):
        load_profile(str(broken))
    broken.write_bytes(b"name = '\xff'\n")
    with pytest.raises(UsageError, match="not valid TOML"):
        load_profile(str(broken))


def test_gpus_sets_one_replica_a_card() -> None:
    """Three replicas become two on two cards; the box shrinks with them."""
    profile = with_gpus(load_profile("rtx5090x3"), 2)
    assert profile.engine.kind == "vllm"
    assert (profile.engine.replicas, profile.box.gpus) == (2, 2)


def test_gpus_respects_tensor_parallel_groups_and_profiles_without_cards() -> None:
    """Cards that cannot be shared out, or that nobody would use, are refused."""
    with pytest.raises(UsageError, match="groups of 3"):
        with_gpus(load_profile("rtx5090x3-document"), 4)
    with pytest.raises(UsageError, match="uses no cards"):
        with_gpus(load_profile("laptop"), 1)


def test_guaranteed_shares_must_leave_something_to_premium() -> None:
    """Two shares that add up to everything would turn the order of the classes around."""
    with pytest.raises(ValidationError, match="leave PREMIUM less than a tenth"):
        Admission(share_standard=0.5, share_batch=0.45)
