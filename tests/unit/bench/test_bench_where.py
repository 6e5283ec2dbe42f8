"""The machine as results name it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from dreamseed_cli.bench import where
from dreamseed_cli.core import nvml
from dreamseed_cli.profile.load import load_profile

_CARD = "NVIDIA GeForce RTX 5090"


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """One with a processor by a name, 8 cores and three cards."""
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text("processor\t: 0\nmodel name\t: Test CPU: 9000\nprocessor\t: 1\nmodel name\t: Other\n")
    monkeypatch.setattr(where, "_CPUINFO", cpuinfo)
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    monkeypatch.setattr(nvml, "look", lambda *_: nvml.Seen(names=(_CARD,) * 3))
    return cpuinfo


@pytest.mark.parametrize(
    ("cards", "name"),
    [
        ((), "Test CPU: 9000, 8 cores"),
        ((_CARD,), _CARD),
        ((_CARD, _CARD, "NVIDIA L4"), f"2 x {_CARD}, NVIDIA L4"),
    ],
)
def test_cards_are_counted_and_name_the_machine(machine: Path, cards: tuple[str, ...], name: str) -> None:
    """Without any it is the processor, as other benchmarks stamp it."""
    assert where.device(cards) == name


@pytest.mark.parametrize(
    ("profile", "name"),
    [
        ("rtx5090x3", f"3 x {_CARD}"),
        ("rtx5090x1", _CARD),
        ("emulated-rtx5090x3", "Test CPU: 9000, 8 cores"),
        ("laptop", "Test CPU: 9000, 8 cores"),
    ],
)
def test_only_cards_that_compute_are_named(machine: Path, profile: str, name: str) -> None:
    """An emulated card is none, even on a machine that has real ones."""
    assert where.this_device(load_profile(profile)) == name
    assert where.this_device(None) == "Test CPU: 9000, 8 cores"


def test_a_processor_without_a_name_still_has_one(machine: Path) -> None:
    """ARM's /proc/cpuinfo tells none; a jail may have no such file."""
    machine.write_text("processor\t: 0\n")
    assert where.processor()
    machine.unlink()
    assert where.processor()
