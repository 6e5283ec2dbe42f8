"""`bench compare --fail-if`: bounds for CI, such as `ttft.p99>+10%` or `engine/poisson-4:ttft.p99>1500ms`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Final, NoReturn

from dreamseed_cli.bench.change import NO_INTERVAL, CellChange, Change
from dreamseed_cli.bench.compare import METRICS, Comparison, known_metric
from dreamseed_cli.bench.compare_figures import figure_metrics
from dreamseed_cli.core.errors import UsageError

_SHAPE: Final = re.compile(
    r"(?:(?P<place>[^:<>]+):\s*)?(?P<metric>[a-z0-9_.-]+)\s*(?P<op>[<>])\s*"
    r"(?P<sign>[+-]?)(?P<number>\d+(?:\.\d+)?)\s*(?P<unit>%|[A-Za-z/]*)"
)
_UNITS: Final = {"ms": {"ms": 1.0, "s": 1000.0}}
"""Beside those that are taken with their unit or without."""
EXAMPLES: Final = (
    "Write such as 'ttft.p99>+10%', 'output_tokens_per_s<-5%', 'slo_attainment<0.99' "
    "or, for some cells only, 'engine/poisson-4:ttft.p99>1500ms' or 'engine/*:itl.p50>+5%'."
)


@dataclass(frozen=True, slots=True)
class Gate:
    """What must not be. place: a pattern of SUITE/CELL; limit: in the metric's unit, or percent of before."""

    text: str
    place: str | None
    metric: str
    above: bool
    limit: float
    relative: bool

    def is_over(self, value: float) -> bool:
        return value > self.limit if self.above else value < self.limit


def parse_gate(text: str) -> Gate:
    """One `--fail-if`. UsageError, with examples, if it is none.

    A limit with a sign and a percent sign is relative to the run before; any other is absolute, of the run
    after.
    """
    found = _SHAPE.fullmatch(text.strip())
    if found is None:
        _refuse(text, "it is no bound of a figure")
    metric, sign, unit = found["metric"], found["sign"], found["unit"]
    figure = known_metric(metric)
    if figure is None:
        known = ", ".join([*METRICS, *figure_metrics()])
        _refuse(text, f"there is no figure '{metric}' (there are {known})")
    above, number = found["op"] == ">", float(found["number"])
    if unit == "%":
        if not sign:
            _refuse(text, "a percentage without a sign may be a change or a share: write +10%, or 0.99")
        limit = -number if sign == "-" else number
        return Gate(text, found["place"], metric, above, limit, relative=True)
    units = _UNITS.get(figure.unit, {"": 1.0, figure.unit: 1.0})
    if sign or unit not in units:
        wanted = " or ".join(f"'{one}'" if one else "no unit" for one in units)
        _refuse(text, f"{metric} takes a plain number with {wanted}, or a change such as +10%")
    return Gate(text, found["place"], metric, above, number * units[unit], relative=False)


def misses(gates: Sequence[Gate], comparison: Comparison) -> tuple[str, ...]:
    """Every gate that is missed, with the cell and the figures, in words; empty: all are kept.

    An absolute gate looks at the run after alone, and at the value as it stands. A relative one is missed
    only if the change is over its limit AND more than chance within the runs (its 95 % interval leaves out
    zero). What differs from run to run (a cold cache, another load on the box) is in no interval of one run,
    and can fail CI. Energy per token has no interval; its change is taken as it stands.
    What cannot be judged is missed, too: an INVALID cell, one that the run after lacks, a figure that it no
    longer gives (a p99 that falls among the failures), a gate that finds nothing to judge.
    """
    return tuple(f"{gate.text}: {reason}" for gate in gates for reason in _gate_misses(gate, comparison))


def _gate_misses(gate: Gate, comparison: Comparison) -> list[str]:
    all_cells = (*comparison.cells, *comparison.figures)
    cells = [one for one in all_cells if gate.place is None or fnmatchcase(one.place, gate.place)]
    if not cells:
        return ["there is no such cell"]
    judged = [reason for reason in (_judge(gate, cell) for cell in cells) if reason is not None]
    if not judged:
        return [f"no cell gives {gate.metric}" + (" in both runs" if gate.relative else "")]
    return [reason for reason in judged if reason]


def _judge(gate: Gate, cell: CellChange) -> str | None:
    """Why a cell misses a gate; empty if it keeps it, None if there is nothing to judge."""
    change = cell.change(gate.metric)
    if change is None or (gate.relative and cell.missing == "before"):
        return None
    if cell.missing == "after":
        return f"{cell.place} is not in the run after"
    invalid = cell.invalid_after or (cell.invalid_before if gate.relative else "")
    if invalid:
        return f"{cell.place} is INVALID ({invalid})"
    if change.after is None:
        return f"{cell.place} no longer gives it"
    reason = _relative(gate, change) if gate.relative else _absolute(gate, change.after.value, change.unit)
    return f"{cell.place} {reason}" if reason else reason


def _absolute(gate: Gate, value: float, unit: str) -> str:
    return f"has {value:,.4g} {unit}".rstrip() if gate.is_over(value) else ""


def _relative(gate: Gate, change: Change) -> str | None:
    if change.before is None:
        return None
    if change.verdict == "not comparable" and change.why != NO_INTERVAL:
        return f"cannot be compared: {change.why}"
    if change.percent is None:
        return "was 0 before: use an absolute limit" if change.before != change.after else ""
    figure = known_metric(gate.metric)
    bare = figure is not None and not figure.has_interval
    if not gate.is_over(change.percent.value) or change.verdict == "no difference":
        return ""
    if change.verdict == "not comparable" and not bare:
        return f"changed by {change.percent.value:+.1f} %, but {change.why}"
    return f"changed by {change.percent.value:+.1f} %{_range(change)}"


def _range(change: Change) -> str:
    percent = change.percent
    if percent is None or (percent.low is None and percent.high is None):
        return ""
    low, high = (f"{one:+.1f}" if one is not None else "open" for one in (percent.low, percent.high))
    return f" ({low} to {high} with 95 % confidence)"


def _refuse(text: str, cause: str) -> NoReturn:
    raise UsageError(cause, place=f"--fail-if {text}", remedy=EXAMPLES)
