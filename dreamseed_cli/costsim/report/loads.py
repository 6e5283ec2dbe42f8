"""The simulation against a bench result, load by load, for people."""

from __future__ import annotations

import math
from collections.abc import Iterator

from rich.console import RenderableType
from rich.text import Text

from dreamseed_cli.core.render import wrapped
from dreamseed_cli.costsim.queueing.validate import HELD_OUT_AIM, Deviation, Validation
from dreamseed_cli.costsim.report.layout import table_of, titled
from dreamseed_cli.costsim.report.words import NOTHING

_COLUMNS = {
    "e2e_mean_ms": "latency\nmean",
    "e2e_p50_ms": "\np50",
    "e2e_p95_ms": "\np95",
    "ttft_mean_ms": "TTFT\nmean",
    "ttft_p50_ms": "\np50",
    "ttft_p95_ms": "\np95",
    "tokens_per_s": "tok/s",
}


def validation_view(one: Validation) -> Iterator[RenderableType]:
    """Every load measured and simulated, what was held out, and how far off that is."""
    table = table_of("load, measured", *_COLUMNS.values())
    for load in one.loads:
        style = "" if load.held_out else "dim"
        found = {figure.quantity: figure for figure in load.deviations}
        figures = [found.get(quantity) for quantity in _COLUMNS]
        word = "held out" if load.held_out else "fitted"
        rows = ((load.cell.name, _measured), ("  simulated", _simulated), (f"  error, {word}", _error))
        for label, tell in rows:
            cells = (NOTHING if figure is None else tell(figure) for figure in figures)
            table.add_row(label, *cells, style=style)
    yield titled("The simulation against the bench result (times in ms)", table)
    yield wrapped(Text(validation_words(one), "green" if one.mean_error <= HELD_OUT_AIM else "bold red"))


def validation_words(one: Validation) -> str:
    """The held-out error in one sentence."""
    (load, worst), card = one.worst, one.card
    loads = sum(load.held_out for load in one.loads)
    within = sum(figure.within for _, figure in one.held_out)
    return (
        f"Held-out error {one.mean_error:.1%} (simulated against measured; the aim is {HELD_OUT_AIM:.0%}): "
        f"the mean of {len(one.held_out)} figures of {loads} loads that nothing was fitted to, {within} "
        f"of them within the measurement's own 95 % interval. Furthest off: "
        f"{load.cell.name}, {worst.quantity.replace('_', ' ')}, {worst.error:+.1%}. Fitted to the others: "
        f"{card.steps_ms()[0]:,.1f} ms for a step of one sequence, {card.card.prefill_tokens_per_s:,.0f} "
        f"prompt tokens/s, {card.on_top_s * 1000:,.0f} ms on top of a prefill.{_alone(one)}{_drift(one)}"
    )


def _alone(one: Validation) -> str:
    if not one.alone:
        return ""
    errors = ", ".join(f"{name} {error:.1%}" for name, error in one.alone.items())
    return f" Held-out error of each suite by itself, fitted to its own other loads: {errors}."


def _drift(one: Validation) -> str:
    if one.drift is None:
        return ""
    return (
        f" From round to round of one load the time between tokens differed by {one.drift:.1%} (standard "
        f"deviation): what was measured is itself known to about {one.drift / math.sqrt(one.rounds):.1%}, by "
        f"the mean of {one.rounds} rounds, and nothing can foretell it better."
    )


def _measured(one: Deviation) -> str:
    return f"{one.measured.value:,.0f}"


def _simulated(one: Deviation) -> str:
    return f"{one.simulated:,.0f}"


def _error(one: Deviation) -> str:
    return f"{one.error:+.1%}"
