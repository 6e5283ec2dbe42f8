"""LLMService of §D1 on grpc.aio: messages in, deltas out, failures as statuses. Prompts are never logged."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass, field

import grpc
import structlog
from google.protobuf.message import DecodeError

from dreamseed_cli.core.errors import DreamseedError
from dreamseed_cli.engine.types import GenerationRequest
from dreamseed_cli.gateway.call import Answers, Call, Delta, PriorityClass
from dreamseed_cli.gateway.proto import PROVENANCE_KEY, REQUEST_ID_KEY, SERVICE
from dreamseed_cli.gateway.proto.llm_pb2 import GenerateRequest, GenerateResponse
from dreamseed_cli.gateway.status import grpc_status
from dreamseed_cli.gateway.validation import InvalidArgument, Validator

_log = structlog.get_logger(__name__)

Context = grpc.aio.ServicerContext[bytes, GenerateResponse]


@dataclass(slots=True)
class _Progress:
    """One answer as far as it has come; times are perf_counter seconds."""

    arrived: float = field(default_factory=time.perf_counter)
    first_token_ms: float = 0.0
    tokens: int = 0
    prompt_tokens: int | None = None
    finish_reason: str | None = None
    replica: str = ""
    simulated: bool = False

    def add(self, delta: Delta) -> None:
        if not self.replica:
            self.replica = delta.replica
            self.simulated = delta.simulated
            self.first_token_ms = self.elapsed_ms()
        self.tokens = delta.completion_tokens or self.tokens
        self.prompt_tokens = delta.prompt_tokens or self.prompt_tokens
        self.finish_reason = delta.finish_reason or self.finish_reason

    def elapsed_ms(self) -> float:
        return (time.perf_counter() - self.arrived) * 1000

    def part(self, text: str) -> GenerateResponse:
        return GenerateResponse(text=text, tokens_generated=self.tokens, latency_ms=self.elapsed_ms())

    def whole(self, text: str) -> GenerateResponse:
        """The last message, with the totals."""
        return GenerateResponse(
            text=text,
            tokens_generated=self.tokens,
            latency_ms=self.elapsed_ms(),
            finish_reason=self.finish_reason,
            prompt_tokens=self.prompt_tokens,
            time_to_first_token_ms=self.first_token_ms,
            replica=self.replica,
        )


class LLMService:
    """The two methods, and how a call begins and ends."""

    def __init__(
        self, answers: Answers, validator: Validator, *, default_timeout_s: float, simulated: bool
    ) -> None:
        self._answers = answers
        self._validator = validator
        self._default_timeout_s = default_timeout_s
        self._simulated = simulated

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
        """The whole answer in one message."""
        progress = _Progress()
        parts: list[str] = []

        async def collect(deltas: AsyncIterator[Delta]) -> None:
            async for delta in deltas:
                progress.add(delta)
                parts.append(delta.text)

        await self._answer(message, context, progress, collect)
        return progress.whole("".join(parts))

    async def generate_stream(self, message: bytes, context: Context) -> None:
        """The answer as it arrives. While a write waits for a slow client, the engine's chunks pile up and
        come out as one.
        """
        progress = _Progress()

        async def relay(deltas: AsyncIterator[Delta]) -> None:
            async for delta in deltas:
                if progress.replica:
                    # An engine's step wakes all its streams at once; first tokens overtake the others.
                    await asyncio.sleep(0)
                progress.add(delta)
                if delta.text:
                    await context.write(progress.part(delta.text))
            await context.write(progress.whole(""))

        await self._answer(message, context, progress, relay)

    async def _answer(
        self,
        message: bytes,
        context: Context,
        progress: _Progress,
        consume: Callable[[AsyncIterator[Delta]], Awaitable[None]],
    ) -> None:
        """Hand a request's deltas to `consume`; end the call with a status if anything fails."""
        try:
            request = self._accept(message)
            self._tell(context, request, simulated=self._simulated)
            call = Call(request, PriorityClass.STANDARD, time.monotonic() + self._budget_s(context))
            async with aclosing(self._answers.answer(call)) as deltas:
                await consume(deltas)
            if progress.simulated and not self._simulated:
                # An emulated engine behind a URL: only its answers say so.
                self._tell(context, request, simulated=True)
        except DreamseedError as error:
            await context.abort(*grpc_status(error))
        except grpc.aio.InternalError as error:
            # A write that gRPC could not make: the caller left, and the cancellation is on its way.
            raise asyncio.CancelledError from error
        except Exception:  # noqa: BLE001 - the last resort: a call never ends without a status
            _log.exception("request failed by a mistake of ours")
            await context.abort(grpc.StatusCode.INTERNAL, "the gateway failed; its log says why")

    @staticmethod
    def _tell(context: Context, request: GenerationRequest, *, simulated: bool) -> None:
        provenance = ((PROVENANCE_KEY, "simulated"),) if simulated else ()
        context.set_trailing_metadata(((REQUEST_ID_KEY, request.request_id), *provenance))

    def _accept(self, message: bytes) -> GenerationRequest:
        try:
            parsed = GenerateRequest.FromString(message)
        except DecodeError as error:
            raise InvalidArgument("the message", "is not a GenerateRequest") from error
        return self._validator.check(parsed)

    def _budget_s(self, context: Context) -> float:
        """What the caller's deadline leaves, in seconds; the profile's default for one without."""
        remaining = context.time_remaining()
        return remaining if remaining is not None and math.isfinite(remaining) else self._default_timeout_s
