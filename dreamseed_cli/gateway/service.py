"""LLMService of §D1 on grpc.aio: messages in, deltas out, failures as statuses. Prompts are never logged."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import aclosing

import grpc
import msgspec
import structlog

from dreamseed_cli.core.errors import DreamseedError
from dreamseed_cli.engine.types import EngineRefused, EngineTimeout
from dreamseed_cli.gateway.call import Answers, Call, Delta
from dreamseed_cli.gateway.continuation import AnswerCut
from dreamseed_cli.gateway.events.record import Outcome
from dreamseed_cli.gateway.intake import Context, Intake
from dreamseed_cli.gateway.journey import Journey
from dreamseed_cli.gateway.pace import Pace
from dreamseed_cli.gateway.proto import PROVENANCE_KEY, REASON_KEY, REQUEST_ID_KEY, SERVICE
from dreamseed_cli.gateway.proto.llm_pb2 import GenerateResponse
from dreamseed_cli.gateway.refusals import Refusal
from dreamseed_cli.gateway.reporter import Reporter
from dreamseed_cli.gateway.status import error_details, grpc_status, reason
from dreamseed_cli.gateway.validation import InvalidArgument

_log = structlog.get_logger(__name__)
Metadata = Sequence[tuple[str, str | bytes]]
_ATTEMPTS = 3
_READ_S = 1.0
"""How long after the deadline an answer may still be read that was complete in time."""
_REJECTIONS = (InvalidArgument, Refusal, EngineRefused)


class LLMService:
    """The two methods, and how a call begins and ends."""

    def __init__(self, intake: Intake, answers: Answers, reporter: Reporter, *, simulated: bool) -> None:
        self._intake = intake
        self._answers = answers
        self._reporter = reporter
        self._simulated = simulated
        self._pace = Pace()

    def handler(self) -> grpc.GenericRpcHandler:
        """What a server registers. Requests arrive as bytes, so that garbage gets a status of ours."""
        respond = GenerateResponse.SerializeToString
        methods: dict[str, grpc.RpcMethodHandler[bytes, GenerateResponse]] = {
            "Generate": grpc.unary_unary_rpc_method_handler(self.generate, response_serializer=respond),
            "GenerateStream": grpc.unary_stream_rpc_method_handler(
                self.generate_stream, response_serializer=respond
            ),
        }
        return grpc.method_handlers_generic_handler(SERVICE, methods)

    async def generate(self, message: bytes, context: Context) -> GenerateResponse:
        """The whole answer in one message. Nobody sees a part of it: one that an engine cut begins anew."""
        journey = Journey()
        parts: list[str] = []

        async def collect(deltas: AsyncIterator[Delta]) -> None:
            parts.clear()
            with self._pace.stream():
                async for delta in deltas:
                    journey.add(delta)
                    parts.append(delta.text)
                    await self._pace.wait(last=delta.finish_reason is not None)

        await self._answer(message, context, journey, collect, attempts=_ATTEMPTS)
        return journey.whole("".join(parts))

    async def generate_stream(self, message: bytes, context: Context) -> None:
        """The answer as it arrives. While a write waits for a slow client, or the stream for its turn, the
        engine's chunks pile up and come out as one.
        """
        journey = Journey()

        async def relay(deltas: AsyncIterator[Delta]) -> None:
            with self._pace.stream():
                async for delta in deltas:
                    journey.add(delta)
                    if delta.text:
                        await context.write(journey.part(delta.text))
                    await self._pace.wait(last=delta.finish_reason is not None)

        if await self._answer(message, context, journey, relay):
            await context.write(journey.whole(""))

    async def _answer(
        self,
        message: bytes,
        context: Context,
        journey: Journey,
        consume: Callable[[AsyncIterator[Delta]], Awaitable[None]],
        attempts: int = 1,
    ) -> bool:
        """Hand a request's deltas to `consume` and tell how it ended; a failure ends the call by a status.
        Whether it was answered; after a failure gRPC sends no message that comes with the end.

        attempts: how often `consume` may be given an answer's beginning, after one that was cut.
        """
        try:
            call = await self._intake.let_in(message, context, journey)
            self._reporter.begin(journey)
            if attempts > 1:
                call = msgspec.structs.replace(call, whole=True)
            await self._consume_in_time(call, journey, consume, attempts)
        except DreamseedError as error:
            outcome = Outcome.REJECTED if isinstance(error, _REJECTIONS) else Outcome.FAILED
            if isinstance(error, Refusal):
                journey.refused_user_id = error.user_id
            self._fail(context, journey, outcome, error)
        except (grpc.aio.InternalError, asyncio.CancelledError) as error:
            # InternalError: a write gRPC could not make. The caller left, the cancellation is on its way.
            self._reporter.end(journey, *_departure(journey))
            raise asyncio.CancelledError from error
        except Exception:  # noqa: BLE001 - the last resort: a call never ends without a status
            _log.exception("request failed by a mistake of ours")
            self._reporter.end(journey, Outcome.FAILED, "internal")
            context.set_trailing_metadata((*self._trailer(journey), (REASON_KEY, "internal")))
            _end_with(context, grpc.StatusCode.INTERNAL, "the gateway failed; its log says why")
        else:
            self._reporter.end(journey, Outcome.FINISHED)
            context.set_trailing_metadata(self._trailer(journey))
            return True
        finally:
            self._intake.settle(journey)
        return False

    async def _consume_in_time(
        self,
        call: Call,
        journey: Journey,
        consume: Callable[[AsyncIterator[Delta]], Awaitable[None]],
        attempts: int,
    ) -> None:
        """A caller that stopped reading, and brought no deadline of its own, would hold an engine's place and
        its own call for as long as its connection lives.
        """
        try:
            async with asyncio.timeout(call.deadline + _READ_S - time.monotonic()):
                await self._consume(call, journey, consume, attempts)
        except TimeoutError:
            raise EngineTimeout("the answer was not read in time", place="gateway") from None

    async def _consume(
        self,
        call: Call,
        journey: Journey,
        consume: Callable[[AsyncIterator[Delta]], Awaitable[None]],
        attempts: int,
    ) -> None:
        for left in reversed(range(attempts)):
            try:
                async with aclosing(self._answers.answer(call)) as deltas:
                    await consume(deltas)
            except AnswerCut:
                if not left or time.monotonic() >= call.deadline:
                    raise
                journey.begin_anew()
            else:
                return

    def _fail(self, context: Context, journey: Journey, outcome: Outcome, error: DreamseedError) -> None:
        label = reason(error)
        self._reporter.end(journey, outcome, label)
        trailer: Metadata = (*self._trailer(journey), (REASON_KEY, label), *error_details(error))
        context.set_trailing_metadata(trailer)
        _end_with(context, *grpc_status(error))

    def _trailer(self, journey: Journey) -> tuple[tuple[str, str], ...]:
        simulated = self._simulated or journey.simulated
        provenance = ((PROVENANCE_KEY, "simulated"),) if simulated else ()
        named = ((REQUEST_ID_KEY, journey.request_id),) if journey.request_id else ()
        return (*named, *provenance)


def _end_with(context: Context, code: grpc.StatusCode, details: str) -> None:
    """Not by `context.abort`: the call would keep the error that it raises, the error the frames it came
    through, and they the call, with the prompt and the answer, until the garbage collector comes by.
    """
    context.set_code(code)
    context.set_details(details)


def _departure(journey: Journey) -> tuple[Outcome, str]:
    """How to call it when the call was cancelled: by its deadline, or by a caller that left."""
    if journey.call is not None and time.monotonic() >= journey.call.deadline:
        return Outcome.FAILED, "deadline_exceeded"
    return Outcome.CANCELLED, "caller_left"
