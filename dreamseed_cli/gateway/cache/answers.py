"""Answers from the cache, from an equal call under way, or from the engines: in this order."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Coroutine
from typing import Any

from prometheus_client import Counter

from dreamseed_cli.core.dependency import DependencyDown
from dreamseed_cli.engine.types import EngineUnavailable
from dreamseed_cli.gateway.cache.again import may_ask_again
from dreamseed_cli.gateway.cache.entry import CachedAnswer
from dreamseed_cli.gateway.cache.flight import Flight, Passenger, merged
from dreamseed_cli.gateway.cache.key import answer_keys
from dreamseed_cli.gateway.cache.store import AnswerStore
from dreamseed_cli.gateway.call import Answers, Call, Delta
from dreamseed_cli.gateway.metrics import GatewayMetrics, LookupResult
from dreamseed_cli.gateway.settings import GatewaySettings

REPLICA = "cache"
"""Stands in a delta where an engine's name would."""
_COMPLETE = frozenset({"stop", "length"})


class CachedAnswers:
    """Answers calls like `inner`, which stands between it and the engines, but equal calls only once.

    store: None keeps nothing; equal calls under way are still answered together. Calls without `use_cache`,
    and those that go on after a part of their answer, go straight to `inner`.
    """

    def __init__(
        self,
        inner: Answers,
        store: AnswerStore | None,
        settings: GatewaySettings,
        metrics: GatewayMetrics,
        *,
        extend: Callable[[Call, float], None] = lambda call, deadline: None,
    ) -> None:
        self._inner = inner
        self._extend = extend
        self._store = store
        self._enabled = settings.gateway.cache.enabled
        self._ttl_s = settings.gateway.cache.ttl_s
        self._key = answer_keys(settings)
        self._lookups = metrics.cache_lookups
        self._counters: dict[tuple[str, str], Counter] = {}
        self._flights: dict[str, Flight] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def answer(self, call: Call) -> AsyncGenerator[Delta, None]:
        """The answer's deltas. A kept answer comes as one; `cache_hit` is true unless they are of the call's
        own generation. Raises what `inner` raises, and EngineTimeout at the call's deadline.
        """
        if not self._enabled or not call.use_cache or call.request.emitted:
            self._count(call, "bypass")
            return self._inner.answer(call)
        return self._answer(call)

    def keep_for(self, ttl_s: int) -> None:
        """How long answers that come from now on are kept, in seconds."""
        self._ttl_s = ttl_s

    async def close(self) -> None:
        """End every generation under way. The store is its owner's to close."""
        for flight in tuple(self._flights.values()):
            flight.abort(EngineUnavailable("the gateway stops", place="gateway"))
        if self._tasks:
            await asyncio.wait(tuple(self._tasks))

    async def _answer(self, call: Call) -> AsyncGenerator[Delta, None]:
        key = self._key(call.request)
        found: LookupResult = "shared"
        if key not in self._flights:
            kept, found = await self._look_up(key)
            if kept is not None:
                self._count(call, found)
                yield _delta(kept)
                return
        passenger = self._board(key, call)
        self._count(call, found if passenger.leads else "shared")
        asked_again = False
        try:
            while True:
                try:
                    delta = await passenger.next()
                except Exception as failure:
                    if asked_again or not _may_ask_again(failure, passenger):
                        raise
                    asked_again = True
                    passenger.leave()
                    passenger = self._board(key, call)
                    continue
                if delta is None:
                    return
                yield delta
        finally:
            passenger.leave()

    async def _look_up(self, key: str) -> tuple[CachedAnswer | None, LookupResult]:
        """What is kept, and the look-up's result for the metrics."""
        if self._store is None:
            return None, "miss"
        try:
            kept = await self._store.get(key)
        except DependencyDown:
            return None, "error"
        return kept, "miss" if kept is None else "hit"

    def _board(self, key: str, call: Call) -> Passenger:
        flight = self._flights.get(key)
        if flight is None:
            flight = Flight(
                self._inner.answer, self._spawn, lambda flight: self._ended(key, flight), self._extend
            )
            self._flights[key] = flight
        return flight.board(call)

    def _ended(self, key: str, flight: Flight) -> None:
        """Keep a complete answer. Until it is kept, the flight answers those who ask meanwhile."""
        kept = _to_keep(flight)
        if kept is None or self._store is None:
            self._forget(key, flight)
        else:
            self._store.put(key, kept, ttl_s=self._ttl_s, done=lambda: self._forget(key, flight))

    def _forget(self, key: str, flight: Flight) -> None:
        if self._flights.get(key) is flight:
            del self._flights[key]

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def _count(self, call: Call, result: LookupResult) -> None:
        labels = call.workload.value, result
        counter = self._counters.get(labels)
        if counter is None:
            counter = self._counters[labels] = self._lookups.labels(*labels)
        counter.inc()


def _may_ask_again(failure: Exception, passenger: Passenger) -> bool:
    flight = passenger.flight
    if passenger.leads or passenger.late or passenger.got_text or flight.call is None:
        return False
    return may_ask_again(failure, flight.call, passenger.call, begun=bool(flight.deltas))


def _to_keep(flight: Flight) -> CachedAnswer | None:
    """The flight's answer if it is complete, None if it was cut in any way, or if a part of it may be another
    model's or quantisation's than the key says.
    """
    if not flight.complete or not flight.deltas or any(delta.elsewhere for delta in flight.deltas):
        return None
    whole = merged(flight.deltas)
    if whole.finish_reason not in _COMPLETE:
        return None
    return CachedAnswer(
        whole.text, whole.finish_reason, whole.prompt_tokens, whole.completion_tokens, whole.simulated
    )


def _delta(kept: CachedAnswer) -> Delta:
    return Delta(
        kept.text,
        REPLICA,
        kept.finish_reason,
        kept.prompt_tokens,
        kept.completion_tokens,
        kept.simulated,
        cache_hit=True,
    )
