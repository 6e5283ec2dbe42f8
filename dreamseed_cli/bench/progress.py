"""Live progress of a cell, from what its processes tell. Pure."""

from __future__ import annotations

import statistics
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from dreamseed_cli.bench.messages import Tick
from dreamseed_cli.bench.shapes import Cell

_LOOKS = 4


@dataclass(frozen=True, slots=True)
class Progress:
    """A cell at one moment. Rates are over the last two seconds; failed: ended otherwise than whole."""

    name: str
    elapsed_s: float
    left_s: float
    begun: int
    ended: int
    failed: int
    in_flight: int
    requests_per_s: float
    """Requests begun a second."""
    tokens_per_s: float
    ttft_p50_s: float | None
    """Of the answers that ended since the look before; None if there were none."""


class Board:
    """Adds up what the processes tell."""

    def __init__(self, cell: Cell) -> None:
        self._cell = cell
        # The processes tell at their own moments: from one look to the next they told twice, or not at all.
        self._looks: deque[tuple[float, int, int]] = deque([(0.0, 0, 0)], maxlen=_LOOKS)

    def look(self, at_s: float, ticks: Sequence[Tick]) -> Progress:
        """The cell at `at_s` (seconds since its start)."""
        begun, in_flight = sum(tick.begun for tick in ticks), sum(tick.in_flight for tick in ticks)
        tokens = sum(tick.tokens for tick in ticks)
        ttfts_s = [ttft_s for tick in ticks for ttft_s in tick.ttfts_s]
        before_s, begun_before, tokens_before = self._looks[0]
        past_s = at_s - before_s
        self._looks.append((at_s, begun, tokens))
        return Progress(
            name=self._cell.name,
            elapsed_s=max(at_s, 0.0),
            left_s=max(self._cell.duration_s - at_s, 0.0),
            begun=begun,
            ended=begun - in_flight,
            failed=sum(tick.failed for tick in ticks),
            in_flight=in_flight,
            requests_per_s=_rate(begun - begun_before, past_s),
            tokens_per_s=_rate(tokens - tokens_before, past_s),
            ttft_p50_s=statistics.median(ttfts_s) if ttfts_s else None,
        )


def _rate(growth: int, past_s: float) -> float:
    """A process that was lost takes its counts along: that is no negative rate."""
    return max(growth, 0) / past_s if past_s > 0 else 0.0
