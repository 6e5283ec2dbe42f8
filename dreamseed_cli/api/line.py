"""The line to the gateway: one channel, attempts within one deadline, patience while it is away."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from dreamseed_cli.api.caller import Caller
from dreamseed_cli.api.errors import Failure
from dreamseed_cli.api.metrics import ApiMetrics
from dreamseed_cli.api.presence import PROBE_TIMEOUT_S, Presence
from dreamseed_cli.api.retry import RetryPolicy
from dreamseed_cli.api.settings import ApiSettings
from dreamseed_cli.api.trail import Trail
from dreamseed_cli.core.dependency import DependencyDown
from dreamseed_cli.gateway.front import POSTGRES_AWAY
from dreamseed_cli.gateway.proto import GENERATE, GENERATE_STREAM, PROVENANCE_KEY, REASON_KEY
from dreamseed_cli.gateway.proto.llm_pb2 import GenerateRequest, GenerateResponse
from dreamseed_cli.gateway.security.channel import ClientSecurity, call_metadata, open_channel

_Request = TypeVar("_Request")
_Result = TypeVar("_Result")
_TRACEPARENT = "traceparent"
_DETAILS_KEY = "grpc-status-details-bin"
_NOT_ITS_FAULT = {"cannot_verify", POSTGRES_AWAY}
"""Reasons of a gateway that is there, while PostgreSQL behind it is not."""
_OPTIONS = (
    # A tunnel that died without a word is noticed within 20 s, in the pauses between calls, too.
    ("grpc.keepalive_time_ms", 15_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
    # One attempt to connect takes at most 5 s, and a gateway that is back is found within 2 s.
    ("grpc.min_reconnect_backoff_ms", 5_000),
    ("grpc.initial_reconnect_backoff_ms", 200),
    ("grpc.max_reconnect_backoff_ms", 2_000),
)


class GatewayFailed(Exception):
    """The gateway gave no answer, or refused."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.code.name)
        self.failure = failure


class GatewayAway(GatewayFailed):
    """It cannot be reached, or has no engine: somebody else may answer."""


class KnownAway(GatewayAway):
    """Known to be away: it was not even asked."""


class LiveAnswer:
    """An answer under way. `first` was read already; close() it in any case."""

    def __init__(
        self, call: grpc.aio.UnaryStreamCall[Any, GenerateResponse], first: GenerateResponse
    ) -> None:
        self._call = call
        self.first = first

    async def next(self) -> GenerateResponse | None:
        """The next message; None after the last. Raises GatewayFailed."""
        try:
            message = await self._call.read()
        except grpc.aio.AioRpcError as error:
            raise GatewayFailed(read_failure(error)) from None
        return message if isinstance(message, GenerateResponse) else None

    async def simulated(self) -> bool:
        """Whether an emulated engine gave it; known at its end."""
        return _is_simulated(await self._call.trailing_metadata())

    def close(self) -> None:
        """Tell the gateway to stop, unless the answer is complete."""
        self._call.cancel()


class Line:
    """Make it inside a running event loop. All methods raise GatewayFailed; GatewayAway is one.

    patient: for a request that nobody else would answer. It is not refused because the gateway is known to be
    away, but waits for its return for up to half of its time, and does not spend its last attempt before.
    """

    def __init__(self, settings: ApiSettings, metrics: ApiMetrics) -> None:
        self._security = _security(settings)
        self.channel = open_channel(settings.gpu_endpoint, self._security, _OPTIONS)
        self._timeout_s = settings.gateway_timeout_s
        self._policy = RetryPolicy(settings.gateway_retries)
        self._metrics = metrics
        # gRPC keeps the deadline; this bound is for a gRPC that does not.
        self._presence = Presence(
            self._check,
            metrics,
            timeout_s=settings.gateway_timeout_s + 1,
            most_waiting=settings.gateway_most_waiting,
        )
        self._health = health_pb2_grpc.HealthStub(self.channel)
        encode, decode = GenerateRequest.SerializeToString, GenerateResponse.FromString
        self._generate = self.channel.unary_unary(GENERATE, encode, decode)
        self._stream = self.channel.unary_stream(GENERATE_STREAM, encode, decode)

    def metadata(self, user_key: str | None = None) -> tuple[tuple[str, str], ...]:
        """What every call shows of the front and, if there is one, of its user."""
        return call_metadata(self._security, user_key=user_key)

    def _metadata_of(self, caller: Caller) -> tuple[tuple[str, str], ...]:
        """The same for a request of somebody's, in its trace."""
        shown = self.metadata(caller.key)
        return shown if caller.traceparent is None else (*shown, (_TRACEPARENT, caller.traceparent))

    async def generate(
        self, request: GenerateRequest, caller: Caller, trail: Trail, *, patient: bool
    ) -> tuple[GenerateResponse, bool]:
        """A whole answer, and whether it is simulated."""
        metadata = self._metadata_of(caller)

        async def ask(timeout_s: float) -> tuple[GenerateResponse, bool]:
            with trail.attempt() as named:
                call = self._generate(request, timeout=timeout_s, metadata=(*metadata, named))
                answer = await call
            return answer, _is_simulated(await call.trailing_metadata())

        return await self._persist(ask, patient=patient)

    async def stream(
        self, request: GenerateRequest, caller: Caller, trail: Trail, *, patient: bool
    ) -> LiveAnswer:
        """An answer whose first message has come."""
        metadata = self._metadata_of(caller)

        async def ask(timeout_s: float) -> LiveAnswer:
            with trail.attempt() as named:
                call = self._stream(request, timeout=timeout_s, metadata=(*metadata, named))
                try:
                    first = await call.read()
                except BaseException:
                    call.cancel()
                    raise
            if not isinstance(first, GenerateResponse):
                raise GatewayFailed(Failure(grpc.StatusCode.INTERNAL, "the gateway sent an empty answer"))
            return LiveAnswer(call, first)

        return await self._persist(ask, patient=patient)

    async def ask(
        self,
        method: grpc.aio.UnaryUnaryMultiCallable[_Request, _Result],
        request: _Request,
        *,
        within_s: float,
        patient: bool,
        user_key: str | None = None,
    ) -> _Result:
        """Any other method's answer; an attempt takes `within_s` seconds at most."""
        metadata = self.metadata(user_key)

        async def ask(left_s: float) -> _Result:
            return await method(request, timeout=min(within_s, left_s), metadata=metadata)

        return await self._persist(ask, patient=patient)

    async def ready_within(self, seconds: float) -> bool:
        """Wait until the gateway can be reached, for so long at most; whether it can."""
        # Not asyncio.wait_for: in Python 3.11 it swallows a cancellation that comes together with what is
        # waited for.
        try:
            async with asyncio.timeout(seconds):
                await self.channel.channel_ready()
        except TimeoutError:
            return False
        return True

    async def close(self) -> None:
        """Close the channel; calls under way are cancelled."""
        self._presence.close()
        await self.channel.close()

    async def _persist(self, ask: Callable[[float], Awaitable[_Result]], *, patient: bool) -> _Result:
        """Ask until there is an answer, no use in asking, or no time."""
        began = time.monotonic()
        deadline = began + self._timeout_s
        wait_until = began + self._policy.patience_s(self._timeout_s)
        attempt = 0
        failed: GatewayFailed | None = None
        while True:
            waits = patient and self._waits(failed, attempt)
            if waits and not await self._presence.returned(wait_until - time.monotonic()):
                raise failed or _away()
            attempt += 1
            outcome = await self._attempt(ask, deadline - time.monotonic())
            if not isinstance(outcome, GatewayFailed):
                return outcome
            failed = outcome
            delay_s = self._delay_s(failed, attempt, deadline - time.monotonic(), patient=patient)
            if delay_s is None:
                raise failed
            self._metrics.retries.labels(failed.failure.code.name).inc()
            await asyncio.sleep(delay_s)

    def _waits(self, failed: GatewayFailed | None, attempt: int) -> bool:
        """Whether the next attempt would be in vain, or is the last one and must not be."""
        last = 0 < attempt == self._policy.retries
        return not self._presence.up or (last and isinstance(failed, GatewayAway))

    def _delay_s(self, failed: GatewayFailed, attempt: int, left_s: float, *, patient: bool) -> float | None:
        chance = random.random()  # noqa: S311 - spreads retries, hides nothing
        if isinstance(failed, KnownAway):
            if attempt == 1 and not patient:
                return None  # whoever comes while it is away is better served elsewhere
            # Calls that failed together, as when it is started anew, have opened the breaker themselves. Each
            # keeps its attempts, and does not spend them before the gateway can be back.
            chance = 1.0
        return self._policy.delay_s(failed.failure, attempt=attempt, left_s=left_s, chance=chance)

    async def _attempt(
        self, ask: Callable[[float], Awaitable[_Result]], left_s: float
    ) -> _Result | GatewayFailed:
        """One attempt. Only a gateway that is not there counts against it, not what it says of a request."""
        if not self._presence.up:
            return _away()

        async def guarded() -> _Result | GatewayFailed:
            try:
                return await ask(left_s)
            except grpc.aio.AioRpcError as error:
                failure = read_failure(error)
                if failure.code is grpc.StatusCode.UNAVAILABLE and failure.reason not in _NOT_ITS_FAULT:
                    raise
                return GatewayFailed(failure)
            except GatewayFailed as failed:
                return failed

        try:
            return await self._presence.dependency.call(guarded)
        except DependencyDown as down:
            cause = down.__cause__
            if cause is None:
                return _away()
            if isinstance(cause, grpc.aio.AioRpcError):
                return GatewayAway(read_failure(cause))
            if isinstance(cause, TimeoutError):
                return GatewayFailed(Failure(grpc.StatusCode.DEADLINE_EXCEEDED, ""))
            raise

    async def _check(self) -> None:
        answer = await self._health.Check(
            health_pb2.HealthCheckRequest(),
            timeout=PROBE_TIMEOUT_S,
            metadata=self.metadata(),
            wait_for_ready=True,
        )
        if answer.status != health_pb2.HealthCheckResponse.SERVING:
            raise GatewayFailed(Failure(grpc.StatusCode.UNAVAILABLE, "it has no engine"))


def _away() -> KnownAway:
    return KnownAway(Failure(grpc.StatusCode.UNAVAILABLE, "known to be away"))


def read_failure(error: grpc.aio.AioRpcError) -> Failure:
    """A failed call as plain data."""
    retry_after_s = reason = None
    for key, value in error.trailing_metadata() or ():
        if key == _DETAILS_KEY and isinstance(value, bytes):
            retry_after_s = _retry_after_s(value)
        elif key == REASON_KEY and isinstance(value, str):
            reason = value
    return Failure(error.code(), error.details() or "", retry_after_s, reason)


def _retry_after_s(details: bytes) -> float | None:
    """RetryInfo's delay in google.rpc.Status, if there is one."""
    from google.protobuf.message import DecodeError
    from google.rpc.error_details_pb2 import RetryInfo
    from google.rpc.status_pb2 import Status

    info = RetryInfo()
    try:
        found = any(detail.Unpack(info) for detail in Status.FromString(details).details)
    except DecodeError:
        return None
    return info.retry_delay.ToTimedelta().total_seconds() if found else None


def _is_simulated(metadata: Any) -> bool:
    return any(key == PROVENANCE_KEY and value == "simulated" for key, value in metadata)


def _security(settings: ApiSettings) -> ClientSecurity:
    token = settings.gateway_token
    return ClientSecurity(
        ca_file=settings.gateway_ca_file,
        certificate_file=settings.gateway_certificate_file,
        key_file=settings.gateway_key_file,
        token=token.get_secret_value() if token is not None else None,
        server_name=settings.gateway_server_name,
    )
