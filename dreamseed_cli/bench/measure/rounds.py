"""The rounds of a cell, laid one after another on one line of time: then they can be counted as one run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import ceil

import msgspec

from dreamseed_cli.bench.cell_run import CellRun, PowerSample, ServerView
from dreamseed_cli.bench.records import Record

_TIMES = ("scheduled_s", "sent_s", "first_token_s", "last_token_s", "end_s")


def begins_s(runs: Sequence[CellRun]) -> list[float]:
    """When each round begins on the common line: whole seconds, so that no second has two rounds in it."""
    begins = [0.0]
    for run in runs[:-1]:
        begins.append(begins[-1] + ceil(run.ended_s))
    return begins


def laid_together(runs: Sequence[CellRun]) -> CellRun:
    """All rounds as one run. Times count from the first one's begin."""
    if len(runs) == 1:
        return runs[0]
    begins = begins_s(runs)
    rounds = list(zip(runs, begins, strict=True))
    return CellRun(
        cell=runs[0].cell,
        records=tuple(_later(record, begin) for run, begin in rounds for record in run.records),
        ended_s=begins[-1] + runs[-1].ended_s,
        interrupted=any(run.interrupted for run in runs),
        server=_views([run.server for run in runs]),
        power=tuple(PowerSample(one.t_s + begin, one.watts) for run, begin in rounds for one in run.power),
        lost_processes=sum(run.lost_processes for run in runs),
        lags=tuple((at + begin, lag) for run, begin in rounds for at, lag in run.lags),
    )


def _later(record: Record, begin_s: float) -> Record:
    moved = {name: at + begin_s for name in _TIMES if (at := getattr(record, name)) is not None}
    return msgspec.structs.replace(record, piece_s=[at + begin_s for at in record.piece_s], **moved)


def _views(views: Sequence[ServerView]) -> ServerView:
    """What every round tells is summed, the peak is the highest of them; what one did not see is not told.

    The single looks stay with their rounds, which are judged by them one by one.
    """

    def told(name: str, of: Callable[[list[int]], int]) -> int | None:
        values = [getattr(view, name) for view in views]
        return None if None in values else of(values)

    return ServerView(
        peak_in_flight=told("peak_in_flight", max),
        generation_tokens=told("generation_tokens", sum),
        prompt_tokens=told("prompt_tokens", sum),
        prefix_queries=told("prefix_queries", sum),
        prefix_hits=told("prefix_hits", sum),
    )
