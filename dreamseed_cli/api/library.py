"""What the front asks of FrontService for its clients: models, questions, and whether anybody is there."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable
from typing import TypeVar

import grpc
import structlog
from grpc_health.v1 import health_pb2, health_pb2_grpc

from dreamseed_cli.api.errors import ApiError, Failure, explain
from dreamseed_cli.api.line import Line, read_failure
from dreamseed_cli.gateway.front import GET_QUESTION, LIST_MODELS
from dreamseed_cli.gateway.proto.front_pb2 import (
    GetQuestionRequest,
    ListModelsRequest,
    ListModelsResponse,
    Question,
)

_log = structlog.get_logger(__name__)
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
        self._ready = False
        self._ready_until = 0.0
        self._looking = asyncio.Lock()

    async def models(self) -> tuple[str, ...]:
        """The models' names; the last known ones while the gateway is away."""
        if time.monotonic() >= self._models_until:
            call = self._list_models(ListModelsRequest(), timeout=_TIMEOUT_S, metadata=self._line.metadata())
            try:
                self._models = tuple((await _told(call)).names)
                self._models_until = time.monotonic() + _MODELS_KEPT_S
            except ApiError:
                if not self._models:
                    raise
        return self._models

    async def question(self, question_id: str) -> Question:
        """One question; ApiError 404 if there is none."""
        request = GetQuestionRequest(id=question_id)
        return await _told(self._get_question(request, timeout=_TIMEOUT_S, metadata=self._line.metadata()))

    async def ready(self) -> bool:
        """Whether the gateway answers, has an engine and trusts this front. Asked once a second at most."""
        async with self._looking:
            if time.monotonic() >= self._ready_until:
                self._ready = await self._serves()
                self._ready_until = time.monotonic() + _READY_KEPT_S
        return self._ready

    async def _serves(self) -> bool:
        request = health_pb2.HealthCheckRequest()
        try:
            answer = await self._health.Check(request, timeout=_READY_TIMEOUT_S)
            await self.models()
        except (grpc.aio.AioRpcError, ApiError):
            return False
        return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)


async def _told(call: Awaitable[_Answer]) -> _Answer:
    try:
        return await call
    except grpc.aio.AioRpcError as error:
        failure = read_failure(error)
        if failure.code in _REFUSED:
            # The client's key has no part in this call.
            _log.error("the gateway refuses this front: look at GATEWAY_TOKEN", status=failure.code.name)
            failure = Failure(grpc.StatusCode.UNAVAILABLE, "")
        raise explain(failure) from error
