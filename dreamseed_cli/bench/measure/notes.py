"""What a reader of a cell should know that does not make it invalid."""

from __future__ import annotations

import numpy as np

from dreamseed_cli.bench.cell_run import CellRun
from dreamseed_cli.bench.measure.columns import Columns
from dreamseed_cli.bench.measure.quantiles import latency, missing_quantiles
from dreamseed_cli.bench.measure.steady import Window
from dreamseed_cli.bench.measure.tokens import Gaps, ttft_ms
from dreamseed_cli.bench.records import Ending
from dreamseed_cli.bench.shapes import Streams
from dreamseed_cli.core.quantiles import SHARES, minimum_samples


def notes(
    run: CellRun, cols: Columns, inside: Columns, window: Window, found: Gaps, overload: str | None
) -> tuple[str, ...]:
    """In the order in which they matter. inside: the requests that were due in the window."""
    told = [
        _interrupted(run, inside),
        overload,
        *window.notes,
        _few(inside),
        _silent(inside),
        _outside(cols, inside),
        _untold(found),
        _unseen(run),
    ]
    return tuple(one for one in told if one)


def _interrupted(run: CellRun, inside: Columns) -> str:
    if not run.interrupted:
        return ""
    open_then = inside.count(Ending.ABANDONED)
    return f"interrupted: {open_then:,} requests were under way and count as not answered"


def _few(inside: Columns) -> str:
    least = minimum_samples(SHARES["p50"])
    if len(inside) >= least:
        return ""
    return f"{len(inside)} requests in the window: below {least} there are no quantiles"


def _silent(inside: Columns) -> str:
    """How many requests the TTFT leaves out, and which of its quantiles fall among them."""
    values = ttft_ms(inside)
    silent = int((np.isnan(values) & ~inside.complete).sum())
    if not silent:
        return ""
    text = f"{silent:,} of {len(inside):,} requests got no first token: in no mean, ranked as longest"
    known = latency(values[~np.isnan(values)], unanswered=silent)
    missing = missing_quantiles(known, silent) if known else ()
    return f"{text}; {', '.join(missing)} of TTFT lie among them and are not given" if missing else text


def _outside(cols: Columns, inside: Columns) -> str:
    failed = int((~cols.complete).sum() - (~inside.complete).sum())
    return f"{failed:,} requests outside the window failed, too" if failed else ""


def _untold(found: Gaps) -> str:
    if not found.untold:
        return ""
    return (
        f"{found.untold:,} answers tell nothing of the time between tokens: their pieces hold several tokens "
        "and the server does not say how many (TPOT stands)"
    )


def _unseen(run: CellRun) -> str:
    if not isinstance(run.cell.shape, Streams) or run.server.peak_in_flight is not None:
        return ""
    return "the server does not tell how many streams it saw: they are the client's count"
