"""Whether what our processes held of a card's memory is free again: a pure judgement of readings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from dreamseed_cli.supervisor.gpu.reading import CardReading

_GIB = 1 << 30
EMPTY_BYTES = _GIB
"""A card with less than this in use counts as free: contexts and reserves, but no model."""
_FALLEN_BYTES = _GIB // 4
_STEADY_LOOKS = 4
_STIR_BYTES = 64 << 20
"""Another program's memory is never quite still."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether it is free, and what there is to say."""

    free: bool
    detail: str = ""


def judge(reading: CardReading, ours: frozenset[int], used_bytes: Sequence[int]) -> Verdict:
    """Whether our memory on the card is free.

    ours: the pids of our processes on it before they were ended. used_bytes: the memory in use at each look,
    from the one before they were ended to this one.
    """
    if reading.pids is None:
        return _by_memory(reading, used_bytes)
    left = sorted(ours.intersection(reading.pids))
    if left:
        return Verdict(False, f"{_processes(left)} of ours still on the card, {_used(reading)}")
    if reading.pids:
        # Another program's memory is not ours to wait for: the engine says if what is left is too little.
        return Verdict(True, f"another program uses the card: {_processes(reading.pids)}, {_used(reading)}")
    if (reading.memory_used_bytes or 0) <= EMPTY_BYTES:
        return Verdict(True)
    return Verdict(False, f"{_used(reading)} although no process is on the card")


def _by_memory(reading: CardReading, used_bytes: Sequence[int]) -> Verdict:
    """For cards that do not list processes: little in use, or less than before and no longer falling."""
    if reading.memory_used_bytes is None:
        return Verdict(True, "the card tells neither its processes nor its memory")
    if reading.memory_used_bytes <= EMPTY_BYTES:
        return Verdict(True)
    latest = used_bytes[-_STEADY_LOOKS:]
    steady = len(latest) == _STEADY_LOOKS and latest[0] - min(latest) <= _STIR_BYTES
    if steady and used_bytes[0] - latest[-1] >= _FALLEN_BYTES:
        return Verdict(True, f"{_used(reading)} by others, it seems: the card does not list its processes")
    return Verdict(False, f"{_used(reading)}, and the card does not list its processes")


def _processes(pids: Sequence[int]) -> str:
    listed = ", ".join(str(pid) for pid in pids[:5])
    more = f" and {len(pids) - 5} more" if len(pids) > 5 else ""
    return f"process {listed}" if len(pids) == 1 else f"processes {listed}{more}"


def _used(reading: CardReading) -> str:
    used = reading.memory_used_bytes
    return "memory in use unknown" if used is None else f"{used / _GIB:.1f} GiB in use"
