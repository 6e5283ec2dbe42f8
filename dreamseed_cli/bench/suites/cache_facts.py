"""What the `cache` suite says: hits measured, hits computed from the skew, what §I1's figures would take."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from dreamseed_cli.bench.document import judged_by, missed
from dreamseed_cli.bench.measure.intervals import share_interval
from dreamseed_cli.bench.result import CellResult, Column, FactTable, Interval, Latency, Problem, SuiteResult
from dreamseed_cli.bench.suites.base import Bench
from dreamseed_cli.bench.suites.cache_model import (
    Skew,
    filling_s,
    first_hit_share,
    needed_for,
    settled_hit_share,
)
from dreamseed_cli.bench.suites.cells import Collected, measurement, usable
from dreamseed_cli.estimates.outcome import say
from dreamseed_cli.estimates.results import Measurement
from dreamseed_cli.estimates.schema import Book

_NEAR_POINTS = 5.0
"""§I1 means a cache in use: hits are judged by it once they are so near to the settled ones."""
_APART_POINTS = 5.0
_APART_WIDTHS = 2.0
"""A measured hit rate that is further from the computed one (points, half intervals) needs a reason."""

HITS = (
    Column(key="workload", label="workload"),
    Column(key="document", label="document (§I1)", unit="%"),
    Column(key="measured", label="measured", unit="%"),
    Column(key="low", label="95 % from", unit="%"),
    Column(key="high", label="to", unit="%"),
    Column(key="computed", label="computed for this run", unit="%"),
    Column(key="requests", label="requests"),
    Column(key="before", label="asked before, to fill it"),
    Column(key="hit_ms", label="TTFT p50 of hits", unit="ms"),
    Column(key="miss_ms", label="of misses", unit="ms"),
    Column(key="seed", label="seed"),
)
SKEW = (
    Column(key="workload", label="workload"),
    Column(key="catalogue", label="prompts (assumed)"),
    Column(key="exponent", label="Zipf exponent (assumed)"),
    Column(key="per_s", label="rate", unit="requests/s"),
    Column(key="ttl_s", label="kept for", unit="s"),
    Column(key="settled", label="hits once settled", unit="%"),
    Column(key="filling_s", label="which takes", unit="s"),
    Column(key="document", label="document (§I1)", unit="%"),
    Column(key="needed_exponent", label="it takes exponent"),
    Column(key="needed_catalogue", label="or prompts"),
    Column(key="needed_ttl_s", label="or kept for", unit="s"),
)


@dataclass(frozen=True, slots=True)
class Before:
    """What was asked of the same catalogue before the cell, on a cache that began empty, and for how long."""

    requests: int = 0
    took_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Asked:
    """One workload's cell: what was asked, and what came of it. key: of its measurement."""

    workload: str
    key: str
    skew: Skew
    per_s: float
    ttl_s: float
    seed: int
    cell: CellResult
    before: Before = Before()

    @property
    def hits(self) -> Interval | None:
        """The percentage of hits in the steady window."""
        percent, count = self.cell.cache_hit_percent, self.cell.requests
        if percent is None or count == 0:
            return None
        share = share_interval(round(percent / 100 * count), count)
        low, high = share.low, share.high
        return Interval(
            value=percent,
            low=None if low is None else min(100 * low, percent),
            high=None if high is None else max(100 * high, percent),
        )

    @property
    def computed(self) -> float:
        """The percentage that the skew gives in this window, on a cache that began empty."""
        start_s, end_s = self.cell.window_s
        if self.before.took_s + end_s > self.ttl_s:
            return 100 * settled_hit_share(self.skew, self.per_s, self.ttl_s)
        before = self.before.requests + round(self.per_s * start_s)
        return 100 * first_hit_share(self.skew, before, self.cell.requests)

    @property
    def settled(self) -> float:
        """The percentage that the skew gives once the cache has been in use for long."""
        return 100 * settled_hit_share(self.skew, self.per_s, self.ttl_s)

    @property
    def filling(self) -> bool:
        """Whether the cell was too short for the cache to fill."""
        return self.settled - self.computed > _NEAR_POINTS


def result(
    bench: Bench,
    book: Book,
    seen: Collected,
    asked: Sequence[Asked],
    *,
    past: CellResult | None,
    store: FactTable | None,
) -> SuiteResult:
    """The suite's result from what was measured so far."""
    found = [one for each in asked for one in _measured(bench, each)]
    tables = [] if store is None else [store]
    if asked:
        tables = [_hits(bench, book, asked, past), _skews(book, asked), *tables]
    return SuiteResult(
        name="cache",
        headline=_headline(asked),
        cells=tuple(seen.cells),
        tables=tuple(tables),
        measurements=tuple(found),
        problems=tuple(problem for each in asked for problem in _problems(each)),
        partial=seen.partial,
        missed=tuple(f"{words} (by the workload's assumed skew)" for words in missed(found, book)),
    )


def _measured(bench: Bench, asked: Asked) -> Iterator[Measurement]:
    hits = asked.hits
    if hits is not None and usable(asked.cell) and not asked.filling and not list(_problems(asked)):
        yield measurement(bench, asked.key, hits, "%", asked.cell.requests)


def _problems(asked: Asked) -> Iterator[Problem]:
    """Hits that the skew does not explain: the cache was away, or not empty, or is not used."""
    hits = asked.hits
    if asked.cell.partial:
        return
    if hits is None:
        yield Problem(
            rule="cache-untold",
            reason=f"{asked.workload}: the answers do not say whether they come from the cache",
            remedy="Measure the gateway itself (gRPC), not an engine or somebody else's server.",
        )
        return
    apart = hits.value - asked.computed
    width = max((hits.high or hits.value) - hits.value, hits.value - (hits.low or hits.value))
    if abs(apart) > max(_APART_POINTS, _APART_WIDTHS * width):
        told, expected = say(hits.value), say(asked.computed)
        reason = f"{asked.workload}: {told} % hits, but the workload's skew gives {expected} %"
        yield Problem(rule="cache-unexplained", reason=reason, remedy=_remedy(apart))


def _remedy(apart: float) -> str:
    if apart > 0:
        return "Somebody else asks for the same, or the cache held these answers before: measure again."
    return "See what `dreamseed status` says of Redis, and how many requests failed, then measure again."


def _hits(bench: Bench, book: Book, asked: Sequence[Asked], past: CellResult | None) -> FactTable:
    rows = tuple(_hit_row(one, _document(book, one), past) for one in asked)
    return FactTable(title="Answers from the cache", columns=HITS, rows=rows, provenance=bench.provenance)


def _hit_row(
    asked: Asked, document: float | None, past: CellResult | None
) -> dict[str, float | int | str | bool | None]:
    hits = asked.hits
    misses = asked.cell.ttft_misses or (past.ttft if past else None)
    return {
        "workload": asked.workload,
        "document": document,
        "measured": None if hits is None else _short(hits.value),
        "low": None if hits is None else _short(hits.low),
        "high": None if hits is None else _short(hits.high),
        "computed": _short(asked.computed),
        "requests": asked.cell.requests,
        "before": asked.before.requests,
        "hit_ms": _p50(asked.cell.ttft_hits),
        "miss_ms": _p50(misses),
        "seed": str(asked.seed),
    }


def _skews(book: Book, asked: Sequence[Asked]) -> FactTable:
    rows = tuple(_skew_row(one, _document(book, one)) for one in asked)
    title = "The hit rate follows from the workload's skew, which is an assumption, not from the box"
    return FactTable(title=title, columns=SKEW, rows=rows, provenance="computed")


def _skew_row(asked: Asked, document: float | None) -> dict[str, float | int | str | bool | None]:
    row: dict[str, float | int | str | bool | None] = {
        "workload": asked.workload,
        "catalogue": asked.skew.catalogue,
        "exponent": asked.skew.exponent,
        "per_s": _short(asked.per_s),
        "ttl_s": asked.ttl_s,
        "settled": _short(asked.settled),
        "filling_s": _short(filling_s(asked.skew, asked.per_s, asked.ttl_s, _NEAR_POINTS / 100)),
        "document": document,
    }
    if document is not None:
        needed = needed_for(document / 100, asked.skew, asked.per_s, asked.ttl_s)
        row |= {
            "needed_exponent": _short(needed.exponent),
            "needed_catalogue": needed.catalogue,
            "needed_ttl_s": _short(needed.ttl_s),
        }
    return row


def _document(book: Book, asked: Asked) -> float | None:
    row = judged_by(book).get(asked.key)
    return None if row is None else row.low


def _headline(asked: Sequence[Asked]) -> str:
    known = [(one, one.hits) for one in asked]
    said = [f"{one.workload} {say(hits.value)} %" for one, hits in known if hits is not None]
    if not said:
        return "No workload's hit rate could be measured."
    skews = {f"Zipf {one.skew.exponent:g} over {one.skew.catalogue:,} prompts" for one in asked}
    text = (
        f"Answers from the cache: {', '.join(said)}. This follows from the workloads' skew, which is an "
        f"assumption ({'; '.join(sorted(skews))}), not from the box."
    )
    still = [_still(one) for one in asked if one.filling]
    if still:
        text += (
            " Hits of a cache that is still filling are not judged by §I1; computed, once it has filled: "
            f"{', '.join(still)}."
        )
    return text


def _still(asked: Asked) -> str:
    minutes = filling_s(asked.skew, asked.per_s, asked.ttl_s, _NEAR_POINTS / 100) / 60
    return f"{asked.workload} {say(asked.settled)} % after {minutes:.0f} min"


def _p50(latency: Latency | None) -> float | None:
    found = latency.quantiles.get("p50") if latency else None
    return None if found is None else _short(found.value)


def _short(value: float | None) -> float | None:
    """Three digits after the point are more than any of these deserves."""
    return None if value is None else round(value, 3)
