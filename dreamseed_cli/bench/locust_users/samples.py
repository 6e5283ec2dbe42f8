"""What every request took, exact: one binary file a process. Locust's own histogram rounds to 2 digits.

Times are seconds of CLOCK_MONOTONIC, which all processes of a machine share.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Final

import numpy as np
import numpy.typing as npt

from dreamseed_cli.bench.locust_users.plan import Kind
from dreamseed_cli.bench.records import Ending

KINDS: Final = tuple(Kind)
ENDINGS: Final = tuple(Ending)
SIMULATED: Final = 1
"""Flag: an emulated engine answered."""
REVALIDATED: Final = 2
"""Flag: 304, the user's copy is still good."""
HELD: Final = 4
"""Flag: the answer before it came later than this request would have been due."""
UNCOUNTED: Final = 0xFFFFFFFF
"""As a tick's users: nobody counted them when it came."""

Table = npt.NDArray[np.void]
_SAMPLE = struct.Struct("<BBBxIddddI")
_TICK = struct.Struct("<ddI")
_SAMPLE_TYPE = np.dtype(
    [
        ("kind", "u1"),
        ("ending", "u1"),
        ("flags", "u1"),
        ("", "u1"),
        ("user", "<u4"),
        ("due_s", "<f8"),
        ("begun_s", "<f8"),
        ("first_s", "<f8"),
        ("end_s", "<f8"),
        ("tokens", "<u4"),
    ]
)
_TICK_TYPE = np.dtype([("at_s", "<f8"), ("lag_ms", "<f8"), ("users", "<u4")])


@dataclass(slots=True)
class Sample:
    """One request. due_s: when its user's pause was over; begun_s: when it really began; first_s: the first
    text of a streamed answer. tokens: by the server's count.
    """

    kind: Kind
    user: int
    due_s: float
    begun_s: float
    end_s: float = math.nan
    first_s: float = math.nan
    tokens: int = 0
    ending: Ending = Ending.ABANDONED
    flags: int = 0
    detail: str = ""


class Recorder:
    """Appends to `samples-INDEX.bin` and `ticks-INDEX.bin`; a killed process loses what it did not flush."""

    def __init__(self, folder: Path, index: int) -> None:
        self._samples: BinaryIO = (folder / f"samples-{index}.bin").open("wb")
        self._ticks: BinaryIO = (folder / f"ticks-{index}.bin").open("wb")
        self.details: dict[str, int] = {}

    def add(self, sample: Sample) -> None:
        """Store one request, and count why it failed."""
        one = sample
        numbers = (one.due_s, one.begun_s, one.first_s, one.end_s, one.tokens)
        places = (KINDS.index(one.kind), ENDINGS.index(one.ending))
        self._samples.write(_SAMPLE.pack(*places, one.flags, one.user, *numbers))
        if one.detail:
            self.details[one.detail] = self.details.get(one.detail, 0) + 1

    def tick(self, at_s: float, lag_ms: float, users: int = UNCOUNTED) -> None:
        """Store how late the process's loop was, and how many users it had then."""
        self._ticks.write(_TICK.pack(at_s, lag_ms, users))

    def flush(self) -> None:
        self._samples.flush()
        self._ticks.flush()

    def close(self) -> None:
        self._samples.close()
        self._ticks.close()


def read_samples(folder: Path) -> Table:
    """Every process's requests, by the time they were due."""
    found = [_read(path, _SAMPLE_TYPE) for path in sorted(folder.glob("samples-*.bin"))]
    whole = np.concatenate(found) if found else np.zeros(0, _SAMPLE_TYPE)
    return whole[np.argsort(whole["due_s"], kind="stable")]


def read_ticks(folder: Path) -> tuple[Table, ...]:
    """Each process's ticks."""
    return tuple(_read(path, _TICK_TYPE) for path in sorted(folder.glob("ticks-*.bin")))


def as_samples(samples: Iterable[Sample]) -> Table:
    """The same table from samples in memory."""
    rows = [
        (
            KINDS.index(one.kind),
            ENDINGS.index(one.ending),
            one.flags,
            0,
            one.user,
            one.due_s,
            one.begun_s,
            one.first_s,
            one.end_s,
            one.tokens,
        )
        for one in samples
    ]
    return np.array(rows, _SAMPLE_TYPE)


def as_ticks(ticks: Iterable[tuple[float, float, int]]) -> Table:
    """The same table from ticks in memory: seconds, milliseconds late, users."""
    return np.array(list(ticks), _TICK_TYPE)


def _read(path: Path, kind: np.dtype[Any]) -> Table:
    """A record that a killed process left half-written is not one."""
    held = path.read_bytes()
    return np.frombuffer(held, kind, count=len(held) // kind.itemsize)
