"""What the front asks of FrontService for its clients: models, questions, and whether anybody is there."""

from __future__ import annotations

import asyncio
import time
from typing import TypeVar

import grpc
import structlog
from grpc_health.v1 import health_pb2, health_pb2_grpc

from dreamseed_cli.api.errors import ApiError, Failure, explain
from dreamseed_cli.api.fallback.seen import SeenKeys
from dreamseed_cli.api.line import GatewayFailed, Line
from dreamseed_cli.gateway.front import GET_QUESTION, LIST_MODELS
from dreamseed_cli.gateway.proto.front_pb2 import (
    GetQuestionRequest,
    ListModelsRequest,
    ListModelsResponse,
    Question,
)

_log = structlog.get_logger(__name__)
_Request = TypeVar("_Request")
_Answer = TypeVar("_Answer")
_TIMEOUT_S = 5.0
_MODELS_KEPT_S = 60.0
_READY_TIMEOUT_S = 1.0
_READY_KEPT_S = 1.0
_REFUSED = {grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED}


class Library:
    """All methods raise ApiError, ready() none."""

    def __init__(self, line: Line) -> None:
        self._line = line
        self._list_models = line.channel.unary_unary(
            LIST_MODELS, ListModelsRequest.SerializeToString, ListModelsResponse.FromString
        )
        self._get_question = line.channel.unary_unary(
            GET_QUESTION, GetQuestionRequest.SerializeToString, Question.FromString
        )
        self._health = health_pb2_grpc.HealthStub(line.channel)
        self._models: tuple[str, ...] = ()
        self._models_until = 0.0
        self._seen = SeenKeys()
        self._ready = False
        self._ready_until = 0.0
        self._looking = asyncio.Lock()

    async def models(self, key: str | None, *, patient: bool = True) -> tuple[str, ...]:
        """The models' names, for a user whose key the gateway takes; without one, for anybody.

        While the gateway is away: the last known ones, for those who have seen them before. Raises ApiError
        401 or 403 for a key that the gateway refuses.
        """
        now = time.monotonic()
        known = bool(self._models) and (key is None or self._seen.knows(key, now))
        if key is None and now < self._models_until:
            return self._models
        try:
            listed = await self._ask(
                self._list_models, ListModelsRequest(), user_key=key, patient=patient and not known
            )
        except GatewayFailed as failed:
            if key is not None and failed.failure.code in _REFUSED:
                self._seen.forget(key)
            elif known:
                return self._models
            raise _told(failed) from failed
        self._models, self._models_until = tuple(listed.names), now + _MODELS_KEPT_S
        if key is not None:
            self._seen.note(key, now)
        return self._models

    async def question(self, question_id: str) -> Question:
        """One question; ApiError 404 if there is none."""
        try:
            return await self._ask(self._get_question, GetQuestionRequest(id=question_id), patient=True)
        except GatewayFailed as failed:
            raise _told(failed) from failed

    async def ready(self) -> bool:
        """Whether the gateway answers, has an engine and trusts this front. Asked once a second at most."""
        async with self._looking:
            if time.monotonic() >= self._ready_until:
                self._ready = await self._serves()
                self._ready_until = time.monotonic() + _READY_KEPT_S
        return self._ready

    async def _ask(
        self,
        method: grpc.aio.UnaryUnaryMultiCallable[_Request, _Answer],
        request: _Request,
        *,
        patient: bool,
        user_key: str | None = None,
    ) -> _Answer:
        return await self._line.ask(method, request, within_s=_TIMEOUT_S, patient=patient, user_key=user_key)

    async def _serves(self) -> bool:
        request = health_pb2.HealthCheckRequest()
        try:
            answer = await self._health.Check(request, timeout=_READY_TIMEOUT_S)
            await self.models(None, patient=False)
        except (grpc.aio.AioRpcError, ApiError):
            return False
        return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)


def _told(failed: GatewayFailed) -> ApiError:
    failure = failed.failure
    if failure.code in _REFUSED and failure.reason is None:
        # The client's key has no part in this: the gateway gives a reason for what it says of a user.
        _log.error("the gateway refuses this front: look at GATEWAY_TOKEN", status=failure.code.name)
        failure = Failure(grpc.StatusCode.UNAVAILABLE, "")
    return explain(failure)
