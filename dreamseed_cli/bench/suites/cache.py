"""`cache`: hit rate and latency of a skewed workload through the gateway and its Redis Cluster (§I1)."""

from __future__ import annotations

import asyncio
import secrets
from dataclasses import dataclass, field

import msgspec

from dreamseed_cli.bench.result import CellResult, FactTable, SuiteResult
from dreamseed_cli.bench.shapes import Cell, Users
from dreamseed_cli.bench.suites.base import Bench, StopEarly
from dreamseed_cli.bench.suites.cache_facts import Asked, Before, result
from dreamseed_cli.bench.suites.cache_model import Skew, filling_s
from dreamseed_cli.bench.suites.cache_store import measure_store, no_cache
from dreamseed_cli.bench.suites.cells import Collected, make_cell, rate_of, streams
from dreamseed_cli.bench.workload import load
from dreamseed_cli.core.errors import FailedError
from dreamseed_cli.estimates.load import load_book
from dreamseed_cli.gateway.settings import ServiceAddresses

WORKLOADS = {
    "question": "cache-hit-questions-percent",
    "feedback": "cache-hit-feedback-percent",
    "recommendation": "cache-hit-recommendations-percent",
}
"""§I1's three, and the keys of their figures."""
_SECONDS = 60.0
_WARM_SECONDS = 10.0
_FILL_SECONDS = 300.0
"""At most, for each workload: a box too slow to fill its cache in that is told how long it would take."""
_FILL_POINTS = 4.0
"""So near to the settled hits the cache is filled, in points: nearer than they are judged from."""
_FILL_THINK_S = 0.02
"""What is in the cache is answered at once, and would be asked for without end."""
_STORE_SECONDS = 3.0
_TOKENS = 8
"""Short answers: whether one is in the cache does not depend on its length, and the cache fills sooner."""
_STREAMS = 16
_SHARE = 0.7
"""Of what the engines answer without the cache: they keep up even while it is still empty."""
_SEEDS = 1 << 31
_FILL_NUMBERS = 1 << 32
"""The cell draws from 0 on: with the same numbers it would ask for just what the filling asked for."""
_DEFAULT_TTL_S = 3600.0
"""§I1."""


@dataclass
class _Seen:
    """What is known so far; an interruption leaves it as it is."""

    cells: Collected = field(default_factory=Collected)
    past: CellResult | None = None
    asked: list[Asked] = field(default_factory=list)
    store: FactTable | None = None


async def cache_suite(bench: Bench) -> SuiteResult:
    """Measure it. After Ctrl-C (StopEarly or a cancellation) what was found by then, marked partial.

    Raises MissingError if no stack with a cache is measured, FailedError if its gateway answers nothing.
    """
    addresses = _addresses(bench)
    seen = _Seen()
    try:
        await _measure(bench, addresses, seen)
    except StopEarly:
        seen.cells.partial = True
    except asyncio.CancelledError:
        # The interruption ends here, with a result: whoever asked for it goes on with that.
        if (task := asyncio.current_task()) is not None:
            task.uncancel()
        seen.cells.partial = True
    return result(bench, load_book(), seen.cells, seen.asked, past=seen.past, store=seen.store)


async def _measure(bench: Bench, addresses: ServiceAddresses, seen: _Seen) -> None:
    bench.say("cache: the Redis Cluster by itself")
    seconds = min(_STORE_SECONDS, bench.lasting(_STORE_SECONDS))
    each = [bench.lasting(_FILL_SECONDS), bench.lasting(_SECONDS)]
    bench.plan([bench.lasting(_WARM_SECONDS), *each * len(WORKLOADS)], at_most=True)
    seen.store = await measure_store(addresses, seconds)
    seen.past = await seen.cells.one(bench, _past(bench))
    if seen.past is None or seen.cells.partial:
        return
    per_s = seen.past.requests_per_s.value * _SHARE
    if per_s <= 0:
        raise FailedError(
            "not one request was answered",
            place="bench cache",
            remedy="See the reasons in the cell's endings, and what `dreamseed status` says.",
        )
    for number, (workload, key) in enumerate(WORKLOADS.items(), start=1):
        skew = _skew(workload)
        cell = _cell(bench, workload, per_s)
        after = each * (len(WORKLOADS) - number)
        bench.plan([*each, *after], at_most=True)
        before = await _fill(bench, cell, skew, per_s)
        bench.plan([cell.duration_s, *after], at_most=bool(after))
        bench.say(f"cache: {workload}: {per_s:.3g} requests/s over {skew.catalogue:,} prompts")
        found = await seen.cells.one(bench, cell)
        if found is None:
            return
        seen.asked.append(Asked(workload, key, skew, per_s, _ttl_s(bench), cell.seed, found, before))


async def _fill(bench: Bench, cell: Cell, skew: Skew, per_s: float) -> Before:
    """Ask from the cell's catalogue until the cache holds what one in use would; what was asked.

    §I1 means a cache in use. It is no measurement: what it takes is not looked at, and it is none of the
    suite's cells. Raises StopEarly.
    """
    ttl_s = _ttl_s(bench)
    wanted = round(per_s * filling_s(skew, per_s, ttl_s, _FILL_POINTS / 100))
    if wanted < 1:
        return Before()
    bench.say(f"cache: {cell.workload}: filling the cache with up to {wanted:,} requests first")
    users = Users(min(_STREAMS, bench.places), _FILL_THINK_S)
    filling = make_cell(bench, f"fill-{cell.workload}", users, seconds=_FILL_SECONDS, tokens=_TOKENS)
    drawn = msgspec.structs.replace(
        filling, workload=cell.workload, nonce="", seed=cell.seed, drawn=_FILL_NUMBERS, requests=wanted
    )
    found = await bench.run_cell(drawn)
    if found.partial:
        raise StopEarly
    until_s = found.window_s[1]
    return Before(round(found.achieved_rate_per_s * until_s), until_s)


def _addresses(bench: Bench) -> ServiceAddresses:
    if bench.services is None:
        raise no_cache("what is measured is no running stack of this program")
    if not bench.services.redis_nodes:
        raise no_cache("the stack runs without Redis")
    if bench.profile is not None and not bench.profile.gateway.cache.enabled:
        raise no_cache("the stack's cache is switched off")
    return bench.services


def _past(bench: Bench) -> Cell:
    """The warm-up: what the engines do without the cache, and how long a miss takes."""
    count = min(_STREAMS, bench.places)
    return make_cell(bench, "past-the-cache", streams(count), seconds=_WARM_SECONDS, tokens=_TOKENS)


def _cell(bench: Bench, workload: str, per_s: float) -> Cell:
    """Requests from the workload's catalogue. It belongs to the seed: with the run's own, a second run within
    the hour would find the first one's answers.
    """
    cell = make_cell(bench, f"cached-{workload}", rate_of(bench, per_s), seconds=_SECONDS, tokens=_TOKENS)
    return msgspec.structs.replace(cell, workload=workload, nonce="", seed=secrets.randbelow(_SEEDS))


def _skew(workload: str) -> Skew:
    (kind,) = load(workload).kinds
    return Skew(kind.catalogue_size, kind.zipf_exponent)


def _ttl_s(bench: Bench) -> float:
    return _DEFAULT_TTL_S if bench.profile is None else float(bench.profile.gateway.cache.ttl_s)
