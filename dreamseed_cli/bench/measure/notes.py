"""What a reader of a cell should know that does not make it invalid."""

from __future__ import annotations

import numpy as np

from dreamseed_cli.bench.cell_run import CellRun
from dreamseed_cli.bench.measure.columns import Columns
from dreamseed_cli.bench.measure.quantiles import latency, missing_quantiles
from dreamseed_cli.bench.measure.steady import Window
from dreamseed_cli.bench.measure.tokens import Gaps, ttft_ms
from dreamseed_cli.bench.measure.validity import repeats
from dreamseed_cli.bench.records import Ending
from dreamseed_cli.bench.shapes import Streams
from dreamseed_cli.core.counting import counted
from dreamseed_cli.core.quantiles import SHARES, minimum_samples

UNFORCED = (
    "the server takes no `ignore_eos`: answers ended where the model ended them, and have other lengths than "
    "another server's"
)
NO_PREFIX_CACHE = (
    "the engines tell nothing of their prefix caches: not checked whether prompts were new to them"
)


def notes(run: CellRun, cols: Columns, inside: Columns, window: Window, found: Gaps) -> tuple[str, ...]:
    """In the order in which they matter. inside: the requests that were due in the window."""
    told = [
        _interrupted(run, inside),
        *window.notes,
        _few(inside),
        _unforced(inside),
        _silent(inside),
        _outside(cols, inside),
        _untold(found),
        _at_once(found),
        _wordless(inside),
        _unseen(run),
        _unchecked(run),
    ]
    return tuple(one for one in told if one)


def _interrupted(run: CellRun, inside: Columns) -> str:
    if not run.interrupted:
        return ""
    open_then = inside.count(Ending.ABANDONED)
    return f"interrupted: {counted(open_then, 'request')} under way, taken as not answered"


def _few(inside: Columns) -> str:
    least = minimum_samples(SHARES["p50"])
    if len(inside) >= least:
        return ""
    return f"{counted(len(inside), 'request')} in the window: below {least} there are no quantiles"


def _unforced(inside: Columns) -> str:
    if not any(one.wanted_tokens for one in inside.records) or any(one.forced for one in inside.records):
        return ""
    return UNFORCED


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
    return f"{counted(failed, 'request')} outside the window failed, too" if failed else ""


def _untold(found: Gaps) -> str:
    if not found.untold:
        return ""
    return (
        f"{found.untold:,} answers tell nothing of the time between tokens: their pieces hold several tokens "
        "and the server does not say how many (TPOT stands)"
    )


def _at_once(found: Gaps) -> str:
    if not found.at_once:
        return ""
    return (
        f"{found.at_once:,} answers came in one moment: no TPOT, and their TTFT is the whole answer's "
        "(does something hold the stream back?)"
    )


def _wordless(inside: Columns) -> str:
    """A token shows one byte at least, unless it is a mark or a thought that the server keeps to itself."""
    answers = [one for one in inside.records if one.ending is Ending.COMPLETE and one.text_bytes]
    told = sum(one.completion_tokens or 0 for one in answers)
    shown = sum(one.text_bytes for one in answers)
    if shown >= told:
        return ""
    return (
        f"the usage tells {told:,} tokens of {shown:,} bytes of text: either it is too high, or most of them "
        "were hidden (thoughts, marks)"
    )


def _unseen(run: CellRun) -> str:
    if not isinstance(run.cell.shape, Streams) or run.server.peak_in_flight is not None:
        return ""
    return "the server does not tell how many streams it saw: they are the client's count"


def _unchecked(run: CellRun) -> str:
    return "" if repeats(run.cell) or run.server.prefix_queries is not None else NO_PREFIX_CACHE
