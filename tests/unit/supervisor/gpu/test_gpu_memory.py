"""When a card's memory counts as free: what is ours must be gone, what is another's is not waited for."""

from __future__ import annotations

import pytest

from dreamseed_cli.supervisor.gpu.memory import judge
from dreamseed_cli.supervisor.gpu.reading import CardReading

_GIB = 1 << 30
_OURS = frozenset({100, 101})


def _card(used_gib: float | None, pids: tuple[int, ...] | None) -> CardReading:
    used = None if used_gib is None else int(used_gib * _GIB)
    return CardReading(0, "GPU-0", "Fake", memory_used_bytes=used, pids=pids)


@pytest.mark.parametrize(
    ("used_gib", "pids", "free", "said"),
    [
        (0.4, (), True, ""),
        (28.0, (101, 7), False, "process 101 of ours still on the card, 28.0 GiB in use"),
        (28.0, (100, 101), False, "processes 100, 101 of ours still"),
        (9.0, (7,), True, "another program uses the card: process 7, 9.0 GiB in use"),
        (28.0, (), False, "28.0 GiB in use although no process is on the card"),
        (None, (), True, ""),
        (None, (100,), False, "memory in use unknown"),
    ],
)
def test_by_processes(used_gib: float | None, pids: tuple[int, ...], free: bool, said: str) -> None:
    """Ours gone, or named; others named; a driver that keeps memory for nobody is not free."""
    verdict = judge(_card(used_gib, pids), _OURS, [])
    assert (verdict.free, said in verdict.detail) == (free, True)
    assert bool(said) == bool(verdict.detail)


def test_many_processes_are_not_all_listed() -> None:
    """A detail stays one line."""
    assert "1, 2, 3, 4, 5 and 3 more" in judge(_card(9.0, tuple(range(1, 9))), _OURS, []).detail


@pytest.mark.parametrize(
    ("looks_gib", "free"),
    [
        ((30, 0.5), True),
        ((30, 30, 30, 30, 30, 30), False),
        ((30, 9, 9, 9), False),
        ((30, 9, 9, 9, 9), True),
        ((30, 12, 11, 10, 9), False),
        ((30, 9, 9.01, 10, 9), True),
    ],
)
def test_by_memory_where_no_processes_are_listed(looks_gib: tuple[float, ...], free: bool) -> None:
    """Nearly empty is free; so is less than before that no longer falls; what never fell is held."""
    used = [int(gib * _GIB) for gib in looks_gib]
    assert judge(_card(looks_gib[-1], None), _OURS, used).free is free


def test_a_card_that_tells_nothing() -> None:
    """It is tried, and what is not known is said."""
    verdict = judge(_card(None, None), _OURS, [])
    assert (verdict.free, verdict.detail) == (True, "the card tells neither its processes nor its memory")
