"""Tells the gateway of the requests that the front refused: at once while it is there, else on its return."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress

import grpc
import structlog

from dreamseed_cli.api.line import Line
from dreamseed_cli.api.metrics import ApiMetrics
from dreamseed_cli.api.untold import Untold
from dreamseed_cli.core.waiting import ended
from dreamseed_cli.gateway.front import MOST_AT_ONCE, RECORD_REFUSALS
from dreamseed_cli.gateway.proto.front_pb2 import (
    EndedRequest,
    RecordRefusalsRequest,
    RecordRefusalsResponse,
)

_log = structlog.get_logger(__name__)
_CALL_TIMEOUT_S = 3.0
_STOP_S = 3.0
_EVERY_S = 0.5
_AGAIN_S = 5.0


class Courier:
    """start() it inside the running event loop, stop() it at the end."""

    def __init__(self, line: Line, metrics: ApiMetrics) -> None:
        self._line = line
        self._untold = Untold(metrics.refusals_lost.inc)
        metrics.refusals_unsent.set_function(self._untold.requests)
        self._there = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._complaint: grpc.StatusCode | None = None
        self._record = line.channel.unary_unary(
            RECORD_REFUSALS, RecordRefusalsRequest.SerializeToString, RecordRefusalsResponse.FromString
        )

    def start(self) -> None:
        """Begin to look after them in the background."""
        self._task = asyncio.create_task(self._run())

    def take(self, ended: EndedRequest, *, doubtful: bool) -> None:
        """A request ended that nobody else tells of; doubtful: the gateway may, under the same id."""
        keep = self._untold.doubt if doubtful else self._untold.add
        keep(ended, time.monotonic())
        self._there.set()

    async def stop(self) -> None:
        """Hand everything over, in at most a few seconds. What the gateway does not take by then is lost."""
        if self._task is not None:
            await ended(self._task)
        self._untold.ripen_all()
        with suppress(TimeoutError):
            async with asyncio.timeout(_STOP_S):
                await self._hand_over()
        if self._untold:
            _log.warning("refused requests leave no event", requests=self._untold.requests())

    async def _run(self) -> None:
        while True:
            await self._there.wait()
            await asyncio.sleep(_EVERY_S)
            self._untold.ripen(time.monotonic())
            if not (await self._line.ready_within(_CALL_TIMEOUT_S) and await self._hand_over()):
                await asyncio.sleep(_AGAIN_S)
            elif not self._untold:
                self._there.clear()

    async def _hand_over(self) -> bool:
        """Whether the gateway took all that is due."""
        while due := self._untold.oldest(MOST_AT_ONCE):
            request = RecordRefusalsRequest(refusals=due)
            try:
                await self._record(request, timeout=_CALL_TIMEOUT_S, metadata=self._line.metadata())
            except grpc.aio.AioRpcError as error:
                if error.code() is not grpc.StatusCode.INVALID_ARGUMENT:
                    self._complain(error.code())
                    return False
                _log.error("refused requests not taken", requests=len(due), said=error.details())
                self._untold.refused(due)
            else:
                self._untold.sent(due)
        self._complaint = None
        return True

    def _complain(self, code: grpc.StatusCode) -> None:
        """Once until it goes well; never of a gateway from before it was asked for this."""
        if code not in {self._complaint, grpc.StatusCode.UNIMPLEMENTED}:
            _log.warning("refused requests not recorded", status=code.name)
        self._complaint = code
