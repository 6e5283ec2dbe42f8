"""What came of one cell before anything is computed from it."""

from __future__ import annotations

from dataclasses import dataclass, field

from dreamseed_cli.bench.records import Record
from dreamseed_cli.bench.shapes import Cell

Looks = tuple[tuple[float, int], ...]
"""When somebody looked (seconds since the cell's start), and how many requests there were."""


@dataclass(frozen=True, slots=True)
class ServerView:
    """What the engines told of themselves, summed; None where they tell nothing.

    peak_in_flight: running and waiting at most, in our gateway's own queue too; looked at twice a second or
    more often.
    Token counts are the growth of the counters over the cell.
    looks: at all engines together, and at our gateway or front, in whose own queue no engine sees requests.
    """

    peak_in_flight: int | None = None
    generation_tokens: int | None = None
    prompt_tokens: int | None = None
    prefix_queries: int | None = None
    prefix_hits: int | None = None
    looks: tuple[Looks, ...] = ()


@dataclass(frozen=True, slots=True)
class PowerSample:
    """Power of all cards together. t_s: since the cell's start."""

    t_s: float
    watts: float


@dataclass(frozen=True, slots=True)
class CellRun:
    """Records of all processes, in the order they were due.

    ended_s: when the load was over (seconds since the cell's start). interrupted: Ctrl-C ended it early.
    lost_processes: processes of the load that died; their records are missing.
    lags: how late the event loops of the load were, of all processes: `lag.Lags`.
    """

    cell: Cell
    records: tuple[Record, ...]
    ended_s: float
    interrupted: bool = False
    server: ServerView = field(default_factory=ServerView)
    power: tuple[PowerSample, ...] = ()
    lost_processes: int = 0
    lags: tuple[tuple[float, float], ...] = ()
