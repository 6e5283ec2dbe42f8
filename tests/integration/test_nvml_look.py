"""The cards as every command sees them: the real bindings, in their process, over a stand-in for NVML."""

from __future__ import annotations

from pathlib import Path

import psutil
import pytest
from fake_nvml import FakeNvml

from dreamseed_cli.core import nvml


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


def test_a_driver_that_hangs_holds_nobody_up(cards: FakeNvml, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is told, and the process that hangs is killed."""
    monkeypatch.setattr(nvml, "WITHIN_S", 2.0)
    cards.set(hang=1)
    assert "does not answer within 2 s" in nvml.look().fault
    assert not [child for child in psutil.Process().children() if "core.nvml" in " ".join(child.cmdline())]
