"""Cells with known answers, made by arithmetic: no clock, no server."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from dreamseed_cli.bench.cell_run import CellRun
from dreamseed_cli.bench.measure.columns import Floats
from dreamseed_cli.bench.records import Ending, Record
from dreamseed_cli.bench.result import Slo
from dreamseed_cli.bench.shapes import Cell, Rate, Shape

SLO = Slo(ttft_ms=1000.0, tpot_ms=100.0, attainment=0.99)


def upto(count: int) -> Floats:
    """0, 1, 2, ... as so many samples."""
    return np.arange(count, dtype=np.float64)


def record(
    number: int,
    scheduled_s: float,
    *,
    ttft_s: float = 0.1,
    itl_s: float = 0.02,
    tokens: int = 10,
    sent_late_s: float = 0.0,
    **fields: Any,
) -> Record:
    """A complete answer, one token a piece. ttft_s counts from the send."""
    sent = scheduled_s + sent_late_s
    pieces = [sent + ttft_s + itl_s * step for step in range(tokens)]
    told: dict[str, Any] = {
        "sent_s": sent,
        "first_token_s": pieces[0],
        "last_token_s": pieces[-1],
        "end_s": pieces[-1],
        "piece_s": pieces,
        "piece_tokens": list(range(1, tokens + 1)),
        "prompt_tokens": 50,
        "completion_tokens": tokens,
        "ending": Ending.COMPLETE,
    }
    return Record(number, "question", scheduled_s, tokens, **{**told, **fields})


def textless(number: int, scheduled_s: float, end_s: float) -> Record:
    """A complete answer without text, such as a static file."""
    bare: dict[str, Any] = {"first_token_s": None, "last_token_s": None, "piece_s": [], "piece_tokens": []}
    return record(number, scheduled_s, end_s=end_s, completion_tokens=None, **bare)


def failed(number: int, scheduled_s: float, ending: Ending = Ending.REFUSED, **fields: Any) -> Record:
    """A request that got no token."""
    told: dict[str, Any] = {"sent_s": scheduled_s, "end_s": scheduled_s + 0.01, "detail": "HTTP 503"}
    return Record(number, "question", scheduled_s, 10, ending=ending, **{**told, **fields})


def run_of(records: Sequence[Record], shape: Shape | None = None, **fields: Any) -> CellRun:
    """A run of records; fields are those of CellRun, or of Cell with `cell_` before them."""
    last = max((one.scheduled_s for one in records), default=0.0)
    told = {"name": "cell", "shape": shape or Rate(10.0, "constant"), "duration_s": last or 1.0, "seed": 1}
    cell = {name[5:]: fields.pop(name) for name in list(fields) if name.startswith("cell_")}
    ends = [one.end_s for one in records if one.end_s is not None]
    ended = fields.pop("ended_s", max(ends, default=last))
    return CellRun(Cell(nonce="n", **{**told, **cell}), tuple(records), ended, **fields)


def steady(rate_per_s: float, seconds: float, **fields: Any) -> list[Record]:
    """Answers all alike, due at a constant rate."""
    return [record(number, number / rate_per_s, **fields) for number in range(int(rate_per_s * seconds))]


def queued(
    rate_per_s: float, server_per_s: float, seconds: float, *, sent_at_per_s: float | None = None
) -> list[Record]:
    """Requests due at a rate, at a server that begins so many a second, one after the other.

    sent_at_per_s: the load sends no faster than this, and is late by what that takes.
    """
    due = np.arange(int(rate_per_s * seconds)) / rate_per_s
    sent = due if sent_at_per_s is None else np.maximum(due, np.arange(len(due)) / sent_at_per_s)
    begun = np.maximum(sent, np.arange(len(due)) / server_per_s)
    return [
        record(number, float(d), sent_late_s=float(s - d), ttft_s=float(b - s) + 0.05, tokens=2)
        for number, (d, s, b) in enumerate(zip(due, sent, begun, strict=True))
    ]
