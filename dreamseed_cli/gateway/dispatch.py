"""From a valid request to its answer: choose a replica, relay its stream, go elsewhere if it fails early.

Whatever stands between a request and an engine (a queue, a cache, another attempt in mid-answer) belongs
here: callers see one stream of deltas, wherever they come from.
"""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator
from contextlib import aclosing

import structlog

from dreamseed_cli.engine.types import (
    EngineBusy,
    EngineError,
    EngineRefused,
    EngineTimeout,
    EngineUnavailable,
    GenerationRequest,
)
from dreamseed_cli.gateway.balancer import Outcome, Slot
from dreamseed_cli.gateway.call import Call, Delta
from dreamseed_cli.gateway.replicas import Replicas, Seat

_log = structlog.get_logger(__name__)
_CHARACTERS_PER_TOKEN = 4


class NoReplica(EngineUnavailable):
    """No replica is ready: nothing was tried."""


class AnswerCut(EngineUnavailable):
    """The engine failed after a part of the answer was delivered."""


class Dispatcher:
    """Relays requests to replicas."""

    def __init__(self, replicas: Replicas) -> None:
        self._replicas = replicas

    async def answer(self, call: Call) -> AsyncGenerator[Delta, None]:
        """The answer's deltas; ends only with a complete answer. Close it early to stop the engine.

        An engine that fails before its first token is passed over for another ready replica, each at most
        once, before the call's deadline. After the first token a failure is AnswerCut.
        Raises NoReplica, EngineBusy (all queues full), EngineRefused, EngineTimeout or EngineUnavailable.
        """
        request, deadline = call.request, call.deadline
        tried: list[Slot] = []
        failure: EngineError | None = None
        while (seat := self._replicas.take(_estimate(request), tried)) is not None:
            tried.append(seat.lease.slot)
            delivered = False
            try:
                async with aclosing(self._relay(seat, request, deadline)) as deltas:
                    async for delta in deltas:
                        delivered = True
                        yield delta
            except (EngineUnavailable, EngineBusy) as error:
                _log.warning(
                    "engine failed", replica=seat.replica, request_id=request.request_id, cause=error.cause
                )
                if delivered:
                    raise AnswerCut(
                        f"replica {seat.replica} failed in mid-answer: {error.cause}", place=error.place
                    ) from error
                failure = _graver(failure, error)
            else:
                return
        raise failure or NoReplica("no replica is ready", remedy="Try again shortly.")

    async def _relay(
        self, seat: Seat, request: GenerationRequest, deadline: float
    ) -> AsyncGenerator[Delta, None]:
        outcome = Outcome.CANCELLED
        replica = seat.replica
        tokens = 0
        try:
            async with aclosing(seat.client.stream(request, timeout_s=deadline - time.monotonic())) as chunks:
                async for chunk in chunks:
                    tokens = chunk.completion_tokens or tokens
                    yield Delta(
                        chunk.text,
                        replica,
                        chunk.finish_reason,
                        chunk.prompt_tokens,
                        chunk.completion_tokens,
                        seat.client.simulated,
                    )
            outcome = Outcome.FINISHED
        except EngineTimeout:
            raise
        except EngineRefused:
            outcome = Outcome.REFUSED
            raise
        except EngineError:
            outcome = Outcome.FAILED
            raise
        finally:
            self._replicas.give_back(seat, outcome, tokens)


def _estimate(request: GenerationRequest) -> int:
    """The request's work in tokens, before anybody has counted them."""
    return request.max_tokens + len(request.prompt) // _CHARACTERS_PER_TOKEN


def _graver(known: EngineError | None, new: EngineError) -> EngineError:
    """What to tell the caller after several failures: a full queue is worth waiting for, so it wins."""
    return known if isinstance(known, EngineBusy) else new
