"""The line to the gateway: one channel, attempts within one deadline, a breaker before them."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, TypeVar

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from dreamseed_cli.api.errors import Failure
from dreamseed_cli.api.metrics import ApiMetrics
from dreamseed_cli.api.retry import RetryPolicy
from dreamseed_cli.api.settings import ApiSettings
from dreamseed_cli.core.dependency import Dependency, DependencyDown
from dreamseed_cli.gateway.proto import GENERATE, GENERATE_STREAM, PROVENANCE_KEY, REASON_KEY
from dreamseed_cli.gateway.proto.llm_pb2 import GenerateRequest, GenerateResponse
from dreamseed_cli.gateway.security.channel import ClientSecurity, call_metadata, open_channel

_Result = TypeVar("_Result")
_DETAILS_KEY = "grpc-status-details-bin"
_CANNOT_VERIFY = "cannot_verify"
_PROBE_EVERY_S = 0.5
_PROBE_TIMEOUT_S = 2.0
_OPTIONS = (
    # A tunnel that died without a word is noticed within 20 s. The gateway allows a ping each 10 s.
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
    """Make it inside a running event loop. All methods raise GatewayFailed; GatewayAway is one."""

    def __init__(self, settings: ApiSettings, metrics: ApiMetrics) -> None:
        self._security = _security(settings)
        self.channel = open_channel(settings.gpu_endpoint, self._security, _OPTIONS)
        self._timeout_s = settings.gateway_timeout_s
        self._policy = RetryPolicy(settings.gateway_retries)
        self._metrics = metrics
        self._tell_breaker = metrics.watch_breaker()
        # gRPC keeps the deadline; the dependency's own is for a gRPC that does not.
        self._dependency = Dependency(
            "gateway",
            timeout_s=settings.gateway_timeout_s + 1,
            retry_after_s=_PROBE_EVERY_S,
            on_state=self._breaker_changed,
        )
        self._prober: asyncio.Task[None] | None = None
        self._health = health_pb2_grpc.HealthStub(self.channel)
        encode, decode = GenerateRequest.SerializeToString, GenerateResponse.FromString
        self._generate = self.channel.unary_unary(GENERATE, encode, decode)
        self._stream = self.channel.unary_stream(GENERATE_STREAM, encode, decode)

    def metadata(self, user_key: str | None = None) -> tuple[tuple[str, str], ...]:
        """What every call shows of the front and, if there is one, of its user."""
        return call_metadata(self._security, user_key=user_key)

    @property
    def up(self) -> bool:
        """Whether the gateway answered lately, as far as is known."""
        return self._dependency.state == "closed"

    async def generate(self, request: GenerateRequest, user_key: str | None) -> tuple[GenerateResponse, bool]:
        """A whole answer, and whether it is simulated."""
        metadata = self.metadata(user_key)

        async def ask(timeout_s: float) -> tuple[GenerateResponse, bool]:
            call = self._generate(request, timeout=timeout_s, metadata=metadata)
            answer = await call
            return answer, _is_simulated(await call.trailing_metadata())

        return await self._persist(ask)

    async def stream(self, request: GenerateRequest, user_key: str | None) -> LiveAnswer:
        """An answer whose first message has come."""
        metadata = self.metadata(user_key)

        async def ask(timeout_s: float) -> LiveAnswer:
            call = self._stream(request, timeout=timeout_s, metadata=metadata)
            try:
                first = await call.read()
            except BaseException:
                call.cancel()
                raise
            if not isinstance(first, GenerateResponse):
                raise GatewayFailed(Failure(grpc.StatusCode.INTERNAL, "the gateway sent an empty answer"))
            return LiveAnswer(call, first)

        return await self._persist(ask)

    async def close(self) -> None:
        """Close the channel; calls under way are cancelled."""
        if self._prober is not None:
            self._prober.cancel()
        await self.channel.close()

    async def _persist(self, ask: Callable[[float], Awaitable[_Result]]) -> _Result:
        """Ask until there is an answer, no use in asking, or no time."""
        deadline = time.monotonic() + self._timeout_s
        attempt = 0
        while True:
            attempt += 1
            outcome = await self._attempt(ask, deadline - time.monotonic())
            if not isinstance(outcome, GatewayFailed):
                return outcome
            delay_s = self._delay_s(outcome, attempt, deadline - time.monotonic())
            if delay_s is None:
                raise outcome
            self._metrics.retries.labels(outcome.failure.code.name).inc()
            await asyncio.sleep(delay_s)

    def _delay_s(self, failed: GatewayFailed, attempt: int, left_s: float) -> float | None:
        chance = random.random()  # noqa: S311 - spreads retries, hides nothing
        if isinstance(failed, KnownAway):
            if attempt == 1:
                return None  # whoever comes while it is away is better served elsewhere
            # Calls that failed together, as when it is started anew, have opened the breaker themselves. Each
            # keeps its attempts, and does not spend them before the gateway can be back.
            chance = 1.0
        return self._policy.delay_s(failed.failure, attempt=attempt, left_s=left_s, chance=chance)

    async def _attempt(
        self, ask: Callable[[float], Awaitable[_Result]], left_s: float
    ) -> _Result | GatewayFailed:
        """One attempt. Only a gateway that is not there counts against it, not what it says of a request."""
        if not self.up:
            return _away()

        async def guarded() -> _Result | GatewayFailed:
            try:
                return await ask(left_s)
            except grpc.aio.AioRpcError as error:
                failure = read_failure(error)
                if failure.code is grpc.StatusCode.UNAVAILABLE and failure.reason != _CANNOT_VERIFY:
                    raise
                return GatewayFailed(failure)
            except GatewayFailed as failed:
                return failed

        try:
            return await self._dependency.call(guarded)
        except DependencyDown as down:
            cause = down.__cause__
            if cause is None:
                return _away()
            if isinstance(cause, grpc.aio.AioRpcError):
                return GatewayAway(read_failure(cause))
            if isinstance(cause, TimeoutError):
                return GatewayFailed(Failure(grpc.StatusCode.DEADLINE_EXCEEDED, ""))
            raise

    def _breaker_changed(self, state: str) -> None:
        self._tell_breaker(state)
        if state == "opened" and (self._prober is None or self._prober.done()):
            self._prober = asyncio.create_task(self._probe())

    async def _probe(self) -> None:
        """Find out when the gateway is back, so that no client's request has to."""
        while not self.up:
            await asyncio.sleep(_PROBE_EVERY_S)
            with suppress(DependencyDown):
                await self._dependency.call(self._check, timeout_s=_PROBE_TIMEOUT_S)

    async def _check(self) -> None:
        answer = await self._health.Check(
            health_pb2.HealthCheckRequest(),
            timeout=_PROBE_TIMEOUT_S,
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
