"""From a valid call to its answer: wait for a place, relay the engine's stream, go elsewhere if it fails."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from functools import partial

import structlog
from prometheus_client import Histogram

from dreamseed_cli.engine.types import (
    EngineBusy,
    EngineError,
    EngineRefused,
    EngineTimeout,
    EngineUnavailable,
    GenerationRequest,
)
from dreamseed_cli.gateway.admission.affinity import prefix_keys
from dreamseed_cli.gateway.admission.queue import AdmissionQueue
from dreamseed_cli.gateway.admission.scheduler import Scheduler
from dreamseed_cli.gateway.admission.ticket import Ticket
from dreamseed_cli.gateway.call import Call, Delta, PriorityClass
from dreamseed_cli.gateway.continuation import AnswerCut, Progress
from dreamseed_cli.gateway.metrics import GatewayMetrics
from dreamseed_cli.gateway.replicas import Replicas
from dreamseed_cli.gateway.slot import Outcome, Slot
from dreamseed_cli.profile.schema import Admission

_log = structlog.get_logger(__name__)
_BY_FAILURE: tuple[tuple[type[EngineError], Outcome], ...] = (
    (EngineBusy, Outcome.BUSY),
    (EngineRefused, Outcome.REFUSED),
    (EngineUnavailable, Outcome.FAILED),
)

_IN_DOUBT = "failing"
"""The supervisor's word for an engine that does not deliver, before it ejects it or finds it well."""
_MOST_LOOKS = 5
"""How often its word is waited for, about two seconds each time."""


class NoReplica(EngineUnavailable):
    """No replica is ready: nothing was tried."""


class Dispatcher:
    """Answers calls from the replicas. Make it inside a running event loop."""

    def __init__(self, replicas: Replicas, rules: Admission, metrics: GatewayMetrics) -> None:
        self._replicas = replicas
        self._balancer = replicas.balancer
        self._metrics = metrics
        self._queue = AdmissionQueue(Scheduler(rules, replicas.balancer))
        self._waits: dict[tuple[PriorityClass, str], Histogram] = {}
        self._under_way: dict[int, Ticket] = {}
        for cls in PriorityClass:
            # Read when Prometheus asks: nothing to keep up to date on the way.
            metrics.queue_length.labels(cls.label).set_function(partial(self._queue.length, cls))
        replicas.on_change = self._queue.table_changed

    def take_rules(self, rules: Admission) -> None:
        """Queue and place by these rules from now on."""
        self._queue.take_rules(rules)

    async def answer(self, call: Call) -> AsyncGenerator[Delta, None]:
        """The answer's deltas; ends only with a complete answer. Close it early to free place or engine.

        An engine that fails before its first token is passed over for another ready replica, each at most
        once, and the call goes before all of its class that wait; one that is full is asked again when it
        has room. While none is ready but one is expected in time, calls wait for that. After the first token
        a greedy or seeded answer goes on at another replica with the same model; any other ends with
        AnswerCut.
        Raises NoReplica, QueueFull, DeadlineUnmeetable, EngineRefused, EngineTimeout or EngineUnavailable.
        """
        ticket, progress = _ticket(call), Progress(call.request)
        self._under_way[id(call)] = ticket
        try:
            slot = await self._enter(call, ticket)
            while True:
                try:
                    async with aclosing(self._relay(ticket, slot, progress)) as deltas:
                        async for delta in deltas:
                            yield delta
                except (EngineBusy, EngineRefused, EngineUnavailable) as error:
                    if progress.finished:
                        return  # only the end of the transfer was lost
                    _log.warning(
                        "engine failed",
                        replica=slot.name,
                        request_id=call.request.request_id,
                        cause=error.for_log,
                    )
                    if progress.started and progress.tokens_left <= 0:
                        yield _end_by_length(progress, slot.name)
                        return
                    other = await self._go_elsewhere(ticket, slot, progress, error)
                    if other is None:
                        raise
                    slot = other
                else:
                    return
        finally:
            self._under_way.pop(id(call), None)
            self._queue.leave(ticket, Outcome.CANCELLED)

    def hasten(self, call: Call, *, priority: PriorityClass, deadline: float) -> None:
        """Somebody with more rights waits for the same answer: while `call` is queued it moves up to the end
        of that class (unless that is full), and it has until `deadline` at least. Does nothing after its end.

        deadline: time.monotonic() seconds.
        """
        ticket = self._under_way.get(id(call))
        if ticket is not None:
            self._queue.hasten(ticket, priority, deadline)

    async def _enter(self, call: Call, ticket: Ticket) -> Slot:
        if not self._replicas.ready_by(ticket.deadline):
            raise NoReplica("no replica is ready", remedy="Try again shortly.")
        await self._queue.enter(ticket)
        slot = _replica_of(ticket)
        self._wait(call.priority, slot.name).observe(ticket.waited_s)
        return slot

    def _wait(self, priority: PriorityClass, replica: str) -> Histogram:
        """The metric's own part, looked up once: a look-up takes a lock and builds strings."""
        key = (priority, replica)
        if key not in self._waits:
            self._waits[key] = self._metrics.queue_wait.labels(priority.label, replica)
        return self._waits[key]

    async def _relay(self, ticket: Ticket, slot: Slot, progress: Progress) -> AsyncGenerator[Delta, None]:
        client = self._replicas.client(slot)
        outcome = Outcome.CANCELLED
        try:
            stream = client.stream(
                progress.request(ticket.engine_priority),
                timeout_s=_time_left(ticket),
                more_time=lambda: _time_left(ticket),
                on_complete=lambda: self._queue.vacate(ticket),
            )
            async with aclosing(stream) as chunks:
                async for chunk in chunks:
                    delta = progress.add(chunk, slot, simulated=client.simulated, queue_s=ticket.waited_s)
                    self._queue.progress(ticket, progress.tokens_here)
                    yield delta
            outcome = Outcome.FINISHED
        except EngineError as error:
            outcome = next((found for kind, found in _BY_FAILURE if isinstance(error, kind)), outcome)
            if progress.finished:
                outcome = Outcome.FINISHED
            raise
        finally:
            self._queue.leave(ticket, outcome, progress.tokens_here)
            self._replicas.request_ended()

    async def _go_elsewhere(
        self, ticket: Ticket, slot: Slot, progress: Progress, error: EngineError
    ) -> Slot | None:
        """Wait for another place. If there is none to wait for, raises what the caller is told, or returns
        None if that is `error` itself: raised here, it would hold this frame, and that holds it, so that both
        would wait for the garbage collector.
        """
        kind = "busy" if isinstance(error, EngineBusy) else "failed"
        if progress.started:
            if isinstance(error, EngineRefused) or not progress.may_continue():
                slot.cut += not ticket.whole
                slot.moved += ticket.whole
                raise _cut(slot, progress, error) from error
            if progress.tokens_here:
                kind = "continued"
                ticket.weights = slot.weights
                ticket.prompt_tokens += progress.tokens_here
                ticket.answer_tokens = progress.tokens_left
                progress.continue_elsewhere()
        elif isinstance(error, EngineRefused):
            return None
        if not isinstance(error, EngineBusy):
            ticket.excluded |= {slot.name}
            if not self._balancer.ready_for(ticket) and not await self._replaced(ticket):
                if not progress.started:
                    return None
                slot.cut += 1
                raise _cut(slot, progress, error)
            slot.continued += progress.started
            slot.moved += not progress.started
        self._metrics.retries.labels(slot.name, kind).inc()
        try:
            await self._queue.enter_again(ticket)
        except EngineTimeout as timeout:
            raise _cut(slot, progress, error) if progress.started else timeout from error
        return _replica_of(ticket)

    async def _replaced(self, ticket: Ticket) -> bool:
        """Whether there is somewhere to go, now or in time.

        vLLM's server outlives its dead engine core by seconds. The supervisor then says that it is in doubt
        before it can say what becomes of it: as long as it does, for a while, its word is waited for.
        """
        for _ in range(_MOST_LOOKS):
            if await self._replicas.replaced(ticket.excluded, ticket.deadline):
                return True
            doubted = {name for name, _, reason in self._replicas.states() if reason == _IN_DOUBT}
            if ticket.excluded.isdisjoint(doubted):
                return False
        return False


def _ticket(call: Call) -> Ticket:
    request = call.request
    return Ticket(
        priority=call.priority,
        prompt_tokens=_prompt_tokens(request),
        answer_tokens=request.max_tokens,
        deadline=call.deadline,
        user_id=call.user_id,
        whole=call.whole,
        prefixes=prefix_keys(request),
    )


def _prompt_tokens(request: GenerationRequest) -> int:
    """An estimate, before anybody has counted: four letters of English a token, two of other scripts."""
    tokens = _tokens(request.prompt) + _tokens(request.system_prompt or "")
    return max(1, tokens + sum(_tokens(turn.content) for turn in request.history))


def _tokens(text: str) -> int:
    return len(text) // (4 if text.isascii() else 2)


def _time_left(ticket: Ticket) -> float:
    return ticket.deadline - time.monotonic()


def _replica_of(ticket: Ticket) -> Slot:
    if ticket.slot is None:
        raise RuntimeError("a ticket left the queue without a replica")
    return ticket.slot


def _end_by_length(progress: Progress, replica: str) -> Delta:
    """All allowed tokens had come when the engine failed: only the word that they are all was missing."""
    return Delta("", replica, "length", progress.prompt_tokens, progress.tokens, progress.simulated)


def _cut(slot: Slot, progress: Progress, error: EngineError) -> AnswerCut:
    return AnswerCut(
        f"replica {slot.name} failed in mid-answer: {error.cause}",
        place=error.place,
        emitted=progress.emitted,
        tokens=progress.tokens,
    )
