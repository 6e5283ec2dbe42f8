"""Asks the gateway of §D1, and names what it does wrong."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import grpc

from dreamseed_cli.bench.records import Ending, Job, Record
from dreamseed_cli.bench.shapes import TargetSpec
from dreamseed_cli.bench.target.judge import REJECTED_CODES, Reception
from dreamseed_cli.bench.target.key import read_key
from dreamseed_cli.gateway.proto import GENERATE_STREAM, PROVENANCE_KEY, REASON_KEY
from dreamseed_cli.gateway.proto.llm_pb2 import GenerateRequest, GenerateResponse
from dreamseed_cli.gateway.security.channel import ClientSecurity, call_metadata, open_channel

# HTTP/2 servers commonly allow 100 streams to a connection, and a call beyond them would wait in this client.
_CALLS_PER_CHANNEL: Final = 100
_OPTIONS: Final = (
    # Channels with equal settings would otherwise share one connection.
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1000),
)
_Code = grpc.StatusCode
_OF_GRPC_ITSELF = frozenset({_Code.UNAVAILABLE, _Code.UNKNOWN, _Code.INTERNAL, _Code.UNIMPLEMENTED})
# What gRPC itself says in words; the codes alone do not tell them apart.
_UNCONNECTED = ("failed to connect", "errors resolving", "connection refused", "handshake failed")
_CUT = ("socket closed", "reset by peer", "connection reset", "broken pipe", "goaway", "stream removed")
_NO_GRPC = ("http1.x", "http/1", "invalid content-type", "error parsing", "received http2 header with status")


class _Line:
    """One connection and how many calls are on it."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self.channel = channel
        self.calls = 0
        self.ask = channel.unary_stream(
            GENERATE_STREAM, GenerateRequest.SerializeToString, GenerateResponse.FromString
        )


class GrpcTarget:
    """The gateway at HOST:PORT, over as many connections as the calls need. Make it in a running event loop.

    Raises as read_key() and open_channel().
    """

    def __init__(self, spec: TargetSpec) -> None:
        self._spec = spec
        token = read_key(spec.api_key_env) if spec.api_key_env else None
        self._security = ClientSecurity(ca_file=Path(spec.ca_file) if spec.ca_file else None, token=token)
        self._metadata = call_metadata(self._security)
        self._lines = [self._open()]

    async def close(self) -> None:
        """Close every connection; calls under way are cancelled."""
        for line in self._lines:
            await line.channel.close()

    async def ask(self, job: Job, record: Record, clock: Callable[[], float]) -> None:
        """Ask and fill the record. clock: seconds since the cell's start. Raises CancelledError only."""
        reception = Reception(record)
        record.forced = job.forced and self._spec.vllm
        if job.path:
            reception.end(Ending.REJECTED, "the gateway answers prompts, and has no paths to GET")
            record.end_s = clock()
            return
        line = self._free_line()
        line.calls += 1
        call = line.ask(
            generation_request(job, self._spec), timeout=self._spec.timeout_s, metadata=self._metadata
        )
        record.sent_s = clock()
        watch = _StallWatch(call, clock, self._spec.stall_s)
        try:
            await self._read(call, reception, watch, clock)
            reception.judge()
        except grpc.aio.AioRpcError as error:
            reception.end(*classify(error.code(), error.details() or "", _reason(error), self._spec))
        except asyncio.CancelledError:
            # Both the watch's cancelling and our own task's arrive as this.
            if not watch.expired:
                raise
            reception.end(Ending.STALLED, f"no message for {self._spec.stall_s:g} s")
        finally:
            record.end_s = clock()
            line.calls -= 1
            watch.stop()
            call.cancel()

    async def _read(
        self,
        call: grpc.aio.UnaryStreamCall[Any, GenerateResponse],
        reception: Reception,
        watch: _StallWatch,
        clock: Callable[[], float],
    ) -> None:
        last = GenerateResponse()
        async for message in call:
            watch.last_s = at_s = clock()
            last = message
            total, reason = message.tokens_generated or None, message.finish_reason or None
            reception.note(at_s, text=message.text, total=total, finish_reason=reason)
        record = reception.record
        record.replica = last.replica
        record.cache_hit = last.cache_hit if last.HasField("cache_hit") else None
        record.prompt_tokens = last.prompt_tokens if last.HasField("prompt_tokens") else None
        trailing = await call.trailing_metadata()
        record.simulated = any(key == PROVENANCE_KEY and value == "simulated" for key, value in trailing)

    def _free_line(self) -> _Line:
        for line in self._lines:
            if line.calls < _CALLS_PER_CHANNEL:
                return line
        self._lines.append(self._open())
        return self._lines[-1]

    def _open(self) -> _Line:
        channel = open_channel(self._spec.address, self._security, _OPTIONS)
        channel.get_state(try_to_connect=True)  # the first call shall find a connection
        return _Line(channel)


class _StallWatch:
    """Cancels a call that says nothing for `stall_s`: one timer a call, which looks again after news."""

    def __init__(self, call: grpc.aio.Call, clock: Callable[[], float], stall_s: float) -> None:
        self._call = call
        self._clock = clock
        self._stall_s = stall_s
        self.last_s = clock()
        self.expired = False
        self._loop = asyncio.get_running_loop()
        self._timer = self._loop.call_later(stall_s, self._look)

    def stop(self) -> None:
        self._timer.cancel()

    def _look(self) -> None:
        left_s = self.last_s + self._stall_s - self._clock()
        if left_s > 0:
            self._timer = self._loop.call_later(left_s, self._look)
            return
        self.expired = True
        self._call.cancel()


def generation_request(job: Job, spec: TargetSpec) -> GenerateRequest:
    """The gateway's request for a job. Pure."""
    request = GenerateRequest(
        prompt=job.prompt,
        user_id=job.user,
        max_tokens=job.wanted_tokens,
        temperature=job.temperature,
        top_p=job.top_p,
        priority=job.priority,
        system_prompt=job.system_prompt,
        seed=job.seed,
        workload=job.workload,
        bypass_cache=job.bypass_cache,
    )
    if spec.model:
        request.model = spec.model
    if job.forced and spec.vllm:
        request.ignore_eos = True
    return request


def classify(code: grpc.StatusCode, said: str, reason: str, spec: TargetSpec) -> tuple[Ending, str]:
    """How a call failed. reason: the gateway's own label for it, empty where gRPC itself speaks. Pure."""
    if code is _Code.DEADLINE_EXCEEDED:
        return Ending.TIMED_OUT, f"not complete within {spec.timeout_s:g} s"
    connection = None if reason else _connection_trouble(code, said)
    if connection is not None:
        return connection
    if code.name in REJECTED_CODES:
        return Ending.REJECTED, f"{code.name}: {said}"
    if code in {_Code.UNAVAILABLE, _Code.RESOURCE_EXHAUSTED}:
        return Ending.REFUSED, f"{code.name}: {said}"
    return Ending.SERVER_ERROR, f"{code.name}: {said}"


def _connection_trouble(code: grpc.StatusCode, said: str) -> tuple[Ending, str] | None:
    """What gRPC itself says of a connection; None if it says something else."""
    lowered = said.lower()
    if code in _OF_GRPC_ITSELF and any(sign in lowered for sign in _NO_GRPC):
        return Ending.BROKEN, "what answers there speaks no gRPC"
    if code is _Code.UNAVAILABLE and any(sign in lowered for sign in _UNCONNECTED):
        return Ending.UNREACHABLE, f"no connection: {said}"
    if code is _Code.UNAVAILABLE and any(sign in lowered for sign in _CUT):
        return Ending.CUT, f"the connection was cut: {said}"
    return None


def _reason(error: grpc.aio.AioRpcError) -> str:
    trailing = error.trailing_metadata() or ()
    return next((str(value) for key, value in trailing if key == REASON_KEY), "")
