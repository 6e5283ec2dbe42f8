"""The cells of a `dreamseed bench` result, read as plain JSON (docs/schemas/bench.schema.json)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import Any

LEVELS = ("mean", "p50", "p95")
"""Of a time, what is read and compared."""


@dataclass(frozen=True, slots=True)
class Measured:
    """A figure of a cell with its 95 % interval, which the result may not have."""

    value: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, slots=True)
class Course:
    """How a cell went, once: a cell that was measured in rounds went so several times. Seconds."""

    requests: int
    """Due in the window."""
    before: int | None
    """Due before it; None where the result does not tell."""
    achieved_per_s: float
    """Requests begun a second."""
    window_s: tuple[float, float]
    """Of which the figures are, since the course began."""
    whole: bool
    """Whether the window is the whole measurement, to its last answer."""
    tpot_ms: float | None


@dataclass(frozen=True, slots=True)
class Cell:
    """What one cell of a bench result says. Times in milliseconds."""

    name: str
    suite: str
    direct: bool
    """Whether an engine was asked by itself: our gateway's answers say which replica made them."""
    replicas: int
    ttft: Mapping[str, Measured]
    """From sending a request: `mean`, and those of `p50`, `p95` that its samples carry."""
    e2e: Mapping[str, Measured]
    """The same of whole answers."""
    tpot_ms: float
    prompt_tokens: float
    output_tokens: float
    tokens_per_s: Measured
    requests_per_s: float
    rate_per_s: float | None
    """Asked for in open loop."""
    streams: int | None
    """Asked for in closed loop."""
    keeps_up: bool
    """Whether requests came no faster than they were answered."""
    ramp_s: float
    """Over which the streams begin."""
    courses: tuple[Course, ...]

    @property
    def drift(self) -> float | None:
        """The standard deviation of the time between tokens from round to round, as a share of its mean: what
        the machine's speed changed by, and chance. None of fewer than two rounds.
        """
        times = [one.tpot_ms for one in self.courses if one.tpot_ms]
        return stdev(times) / fmean(times) if len(times) > 1 else None

    @property
    def load(self) -> tuple[str, float] | None:
        """What was asked for: two cells with the same are one load, measured twice. None: users, a trace."""
        if self.streams:
            return "streams", self.streams
        return ("rate", self.rate_per_s) if self.rate_per_s else None

    @property
    def ttft_ms(self) -> float:
        return self.ttft["mean"].value

    @property
    def batch(self) -> float:
        """Sequences that one replica decodes at a time, by Little's law."""
        return self.tokens_per_s.value * self.tpot_ms / 1000 / self.replicas

    @property
    def context(self) -> float:
        """Tokens that one of them has in the KV cache, halfway through its answer."""
        return self.prompt_tokens + self.output_tokens / 2


def read_cells(document: Mapping[str, Any]) -> list[Cell]:
    """The cells that say something: valid, whole, with answers of several tokens; fewest sequences first."""
    cells = [
        _read(cell, suite.get("name", ""))
        for suite in document.get("suites", ())
        for cell in suite.get("cells", ())
        if _tells(cell)
    ]
    return sorted(cells, key=lambda cell: (cell.batch, cell.name))


def _tells(cell: Mapping[str, Any]) -> bool:
    times = all(cell.get(name) is not None for name in ("ttft", "tpot", "e2e"))
    tokens = (cell.get("output_tokens_mean") or 0) > 1 and (cell.get("prompt_tokens_mean") or 0) > 0
    return bool(cell.get("valid")) and not cell.get("partial") and times and tokens


def _read(cell: Mapping[str, Any], suite: str) -> Cell:
    return Cell(
        name=cell["name"],
        suite=suite,
        direct=not cell.get("replicas"),
        replicas=max(len(cell.get("replicas") or ()), 1),
        ttft=_times(cell.get("ttft_from_send") or cell["ttft"]),
        e2e=_times(cell["e2e"]),
        tpot_ms=cell["tpot"]["mean"]["value"],
        prompt_tokens=cell["prompt_tokens_mean"],
        output_tokens=cell["output_tokens_mean"],
        tokens_per_s=_measured(cell["output_tokens_per_s"]),
        requests_per_s=cell["requests_per_s"]["value"],
        # A replayed trace has a mean rate, too, and comes in bursts of its own.
        rate_per_s=cell.get("asked_rate_per_s") if cell["shape"].get("type") == "rate" else None,
        streams=cell.get("asked_streams"),
        keeps_up=not cell.get("over_capacity"),
        ramp_s=cell["shape"].get("ramp_s", 0.0),
        courses=tuple(_course(one) for one in cell.get("rounds") or [cell]),
    )


def _course(one: Mapping[str, Any]) -> Course:
    start, end = one["window_s"]
    return Course(
        requests=one["requests"],
        before=one.get("requests_before"),
        achieved_per_s=one["achieved_rate_per_s"],
        window_s=(start, end),
        whole=start == 0 and end == one["duration_s"],
        tpot_ms=one.get("tpot_mean_ms"),
    )


def _times(latency: Mapping[str, Any]) -> dict[str, Measured]:
    told = {"mean": latency["mean"], **latency["quantiles"]}
    return {name: _measured(told[name]) for name in LEVELS if name in told}


def _measured(interval: Mapping[str, Any]) -> Measured:
    return Measured(interval["value"], interval.get("low"), interval.get("high"))
