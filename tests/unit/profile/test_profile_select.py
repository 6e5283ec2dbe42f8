"""Which profile runs without --profile."""

import pytest

from dreamseed_cli.core import nvml
from dreamseed_cli.core.errors import FailedError
from dreamseed_cli.profile.select import choose_profile


@pytest.mark.parametrize(
    ("cards", "name", "replicas"),
    [
        ([], "laptop", 1),
        (["RTX 5090"], "rtx5090x1", 1),
        (["RTX 5090"] * 2, "rtx5090x3", 2),
        (["RTX 5090"] * 3, "rtx5090x3", 3),
        (["RTX 5090"] * 4, "rtx5090x3", 3),
    ],
)
def test_the_cards_that_nvml_sees_decide(cards: list[str], name: str, replicas: int) -> None:
    """And the reason is told with the number of cards."""
    choice = choose_profile(None, None, lambda: cards)
    engine = choice.profile.engine
    assert choice.profile.name == name
    assert engine.kind != "remote"
    assert engine.replicas == replicas
    assert (str(len(cards)) if cards else "no card") in choice.why


def test_what_is_asked_for_beats_what_is_seen() -> None:
    """--profile and --gpus win."""
    choice = choose_profile("emulated-rtx5090x3", 2, lambda: ["RTX 5090"])
    assert choice.profile.engine.kind == "emulated"
    assert choice.profile.engine.replicas == 2
    assert "--profile" in choice.why
    assert "--gpus 2" in choice.why


def test_the_boxs_own_profile_beats_what_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """$DREAMSEED_PROFILE, as the command of a box has it; --profile still wins."""
    monkeypatch.setenv("DREAMSEED_PROFILE", "rtx5090x3-document")
    choice = choose_profile(None, None, lambda: ["RTX 5090"])
    assert (choice.profile.name, choice.source) == ("rtx5090x3-document", "rtx5090x3-document")
    assert "$DREAMSEED_PROFILE" in choice.why
    assert choose_profile("laptop", None, list).profile.name == "laptop"


def test_a_named_profile_never_asks_the_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    """It may hang: a watcher of the UPS, a backup or a restore must not hang with it."""

    def hangs() -> list[str]:
        pytest.fail("it was asked")

    assert choose_profile("laptop", None, hangs).profile.name == "laptop"
    monkeypatch.setenv("DREAMSEED_PROFILE", "rtx5090x1")
    assert choose_profile(None, None, hangs).profile.name == "rtx5090x1"


def test_a_driver_that_fails_is_no_machine_without_cards(monkeypatch: pytest.MonkeyPatch) -> None:
    """The profile for machines without cards would be taken, and the model started on the processor."""
    monkeypatch.setattr(nvml, "look", lambda *_: nvml.Seen(fault="NVML: mismatch; reboot this machine"))
    with pytest.raises(FailedError, match=r"reboot this machine.*--profile"):
        choose_profile(None)
