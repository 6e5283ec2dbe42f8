"""The cards as every command sees them: the real bindings, in their process, over a stand-in for NVML."""

from __future__ import annotations

from pathlib import Path

import psutil
import pytest
from fake_nvml import FakeNvml

from dreamseed_cli.core import nvml
from dreamseed_cli.core.paths import StateDir
from dreamseed_cli.doctor import driver, engine
from dreamseed_cli.doctor.examine import examine
from dreamseed_cli.profile.load import load_profile, with_gpus
from dreamseed_cli.supervisor.preflight import machine_needs


@pytest.fixture
def cards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeNvml:
    """Two of them, and the trace of a loaded driver."""
    fake = FakeNvml(tmp_path)
    for name, value in fake.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(nvml, "_TRACES", (tmp_path,))
    return fake


def test_cards_are_seen_with_their_limits_and_their_cuda(cards: FakeNvml) -> None:
    """In one answer."""
    cards.set(c1_limit=450000)
    seen = nvml.look()
    assert len(seen.names) == 2
    assert seen.limits_w == (575.0, 450.0)
    assert seen.cuda == 12080
    assert not seen.fault


def test_a_card_that_is_lost_hides_none_of_the_others(
    cards: FakeNvml, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Those beside it serve on; it is told with NVML's word, and so are all of them."""
    monkeypatch.setattr(driver, "version", lambda: "580.95")
    cards.set(cards=3, c1_error=15)
    seen = nvml.look()
    assert (len(seen.names), seen.limits_w, seen.fault) == (2, (575.0, 575.0), "")
    assert [one.partition(":")[0] for one in seen.lost] == ["card 1"]
    profile = load_profile("rtx5090x3")
    told = [*machine_needs(profile, StateDir(tmp_path)), *engine.cards(profile)]
    assert sum("NVML sees 2; card 1: " in str(one) for one in told) == 2
    assert not any("NVML" in str(one) for one in machine_needs(with_gpus(profile, 2), StateDir(tmp_path)))
    cards.set(c0_error=999, c2_error=16)
    seen = nvml.look()
    assert not seen.names
    assert seen.fault


def test_a_driver_that_was_updated_while_loaded_is_explained(cards: FakeNvml) -> None:
    """NVML's own words help nobody at 3 a.m."""
    cards.set(init=18)
    assert "reboot this machine" in nvml.look().fault


def test_a_machine_without_a_driver_has_no_cards_and_no_fault(
    cards: FakeNvml, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether NVML says so, or nothing of a driver is there: then it is not even asked."""
    cards.set(init=9)
    assert nvml.look() == nvml.Seen()
    monkeypatch.setattr(nvml, "_TRACES", ())
    cards.set(init=0)
    assert nvml.look() == nvml.Seen()


def test_a_driver_that_hangs_holds_nobody_up(cards: FakeNvml) -> None:
    """It is told, and the process that hangs is killed."""
    cards.set(hang=1)
    assert "does not answer within 2 s" in nvml.look(2.0).fault
    assert not _asking()


def test_doctor_tells_that_the_driver_hangs_and_leaves_nothing_behind(
    cards: FakeNvml, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Both of its looks that ask are given less time than `examine` gives them."""
    monkeypatch.setattr(driver, "version", lambda: "580.95")
    cards.set(hang=1)
    profile, state = load_profile("rtx5090x3"), StateDir(tmp_path / "state")
    found = examine(
        {
            ("engine", "needs"): lambda: engine.packages(profile, state),
            ("engine", "cards"): lambda: engine.cards(profile),
        }
    )
    told = {one.name: one.level.value for one in found if "NVIDIA's driver hangs" in one.said}
    assert told == {"NVML": "problem", "cards": "problem"}
    assert not any("--profile" in one.remedy for one in found), "a named profile is what asked it"
    assert not _asking()


def _asking() -> list[psutil.Process]:
    return [one for one in psutil.Process().children() if "core.nvml" in " ".join(one.cmdline())]
