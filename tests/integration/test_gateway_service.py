"""The gateway before emulated engines: answers, deadlines, cancellation, failover, statuses, health."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest
from gateway_harness import (
    RunningEngine,
    emulated_engine,
    gateway_here,
    settings,
    socket_folder,
    target,
    until,
)
from google.rpc.error_details_pb2 import ErrorInfo, RetryInfo
from grpc import StatusCode
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase
from grpc_status.rpc_status import from_call
from no_collector import living, no_collector

from dreamseed_cli.engine.client import EngineClient
from dreamseed_cli.engine.types import Endpoint
from dreamseed_cli.gateway.admission.ticket import Ticket
from dreamseed_cli.gateway.journey import Journey
from dreamseed_cli.gateway.proto import GENERATE, GENERATE_STREAM, PROVENANCE_KEY, REASON_KEY, REQUEST_ID_KEY
from dreamseed_cli.gateway.proto.llm_pb2 import BATCH, STANDARD, GenerateRequest, GenerateResponse
from dreamseed_cli.gateway.server import GatewayServer
from dreamseed_cli.gateway.settings import ReplicaTarget
from dreamseed_cli.profile.schema import Admission


@dataclass(frozen=True, slots=True)
class _Caller:
    """A gateway, and the two methods as a client calls them."""

    server: GatewayServer
    channel: grpc.aio.Channel
    unary: Any
    stream: Any
    raw: Any

    def outstanding(self) -> int:
        return int(self.server.stats()["totals"]["outstanding"])


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """Where this module's sockets are."""
    with socket_folder() as path:
        yield path


@pytest.fixture(scope="module")
def engines(folder: Path) -> Iterator[tuple[RunningEngine, RunningEngine]]:
    """Two emulated engines: the first takes 8 requests at a time and lets none wait."""
    with (
        emulated_engine(folder, "e0", max_num_seqs=8, max_queued_requests=1) as first,
        emulated_engine(folder, "e1") as second,
    ):
        yield first, second


@pytest.fixture
async def good(
    engines: tuple[RunningEngine, RunningEngine],
) -> AsyncIterator[tuple[RunningEngine, RunningEngine]]:
    """The engines, which may misbehave in a test and behave after it."""
    yield engines
    for engine in engines:
        await engine.behave()


@asynccontextmanager
async def _calling(folder: Path, *targets: ReplicaTarget, **gateway: Any) -> AsyncIterator[_Caller]:
    async with gateway_here(settings(folder, *targets, **gateway)) as server:
        options = [("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1)]
        async with grpc.aio.insecure_channel(f"127.0.0.1:{server.port}", options=options) as channel:
            encode, decode = GenerateRequest.SerializeToString, GenerateResponse.FromString
            unary = channel.unary_unary(GENERATE, encode, decode)
            stream = channel.unary_stream(GENERATE_STREAM, encode, decode)
            yield _Caller(server, channel, unary, stream, channel.unary_unary(GENERATE))


async def _failure(call: Any) -> tuple[StatusCode, str]:
    """How a call failed."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await (_collect(call, []) if hasattr(call, "__aiter__") else call)
    return caught.value.code(), caught.value.details() or ""


async def _collect(call: Any, into: list[GenerateResponse]) -> None:
    async for message in call:
        into.append(message)  # noqa: PERF401 - what comes before a failure counts


async def _running(engine: RunningEngine) -> int:
    client = EngineClient(Endpoint(socket=engine.socket), model="m", api="chat", usage_per_chunk=True)
    try:
        metrics = await client.metrics()
    finally:
        await client.close()
    assert metrics is not None
    return metrics.running + metrics.waiting


Engines = tuple[RunningEngine, RunningEngine]


async def test_both_methods_give_the_same_complete_answer(folder: Path, good: Engines) -> None:
    """The stream's texts make the unary answer; both end with the totals and say who answered, and how."""
    request = GenerateRequest(prompt="Why is the sky blue?", max_tokens=24, seed=5, request_id="sky-1")
    async with _calling(folder, target("r0", good[0].socket)) as caller:
        call = caller.unary(request)
        whole = await call
        metadata = dict(await call.trailing_metadata())
        messages = [message async for message in caller.stream(request)]
    assert "".join(message.text for message in messages) == whole.text != ""
    last = messages[-1]
    for final in (whole, last):
        assert (final.tokens_generated, final.finish_reason, final.replica) == (24, "length", "r0")
        assert final.prompt_tokens > 0
        assert 0 < final.time_to_first_token_ms <= final.latency_ms
        assert not final.cache_hit
        assert final.granted_priority == BATCH
    assert last.text == ""
    assert all(message.text and not message.HasField("finish_reason") for message in messages[:-1])
    counts = [message.tokens_generated for message in messages]
    assert counts == sorted(counts)
    assert metadata == {PROVENANCE_KEY: "simulated", REQUEST_ID_KEY: "sky-1"}


async def test_a_measurement_may_force_the_length(folder: Path, good: Engines) -> None:
    """With `ignore_eos` the answer goes on to max_tokens where the model would have ended it."""
    natural = GenerateRequest(prompt="Why?", max_tokens=600, seed=5)
    forced = GenerateRequest(prompt="Why?", max_tokens=600, seed=5, ignore_eos=True)
    async with _calling(folder, target("r0", good[0].socket)) as caller:
        ended, whole = await asyncio.gather(caller.unary(natural), caller.unary(forced))
    assert (ended.finish_reason, whole.finish_reason) == ("stop", "length")
    assert ended.tokens_generated < whole.tokens_generated == 600


async def test_requests_spread_over_ready_replicas_only(folder: Path, good: Engines) -> None:
    """Equal requests are shared out evenly, and one that is not ready gets none."""
    targets = [
        target("r0", good[0].socket),
        target("r1", good[1].socket),
        target("r2", good[1].socket, ready=False),
    ]
    async with _calling(folder, *targets) as caller:
        request = GenerateRequest(prompt="Hi", max_tokens=20)
        answers = await asyncio.gather(*(caller.unary(request) for _ in range(8)))
        assert sorted(answer.replica for answer in answers) == ["r0"] * 4 + ["r1"] * 4
        stats = caller.server.stats()
    assert [(found["finished"], found["tokens"]) for found in stats["replicas"]] == [(4, 80), (4, 80), (0, 0)]
    assert stats["totals"]["outstanding_tokens"] == 0


async def test_refusals_name_what_is_wrong(folder: Path, good: Engines) -> None:
    """A field out of range, a prompt beyond the context (with the engine's numbers) and garbage bytes."""
    async with _calling(folder, target("r0", good[0].socket)) as caller:
        code, said = await _failure(caller.unary(GenerateRequest(prompt="x", temperature=9)))
        assert (code, said) == (StatusCode.INVALID_ARGUMENT, "temperature is 9.0: allowed are 0 to 2.0")
        code, said = await _failure(caller.stream(GenerateRequest(prompt="word " * 5000)))
        assert code is StatusCode.INVALID_ARGUMENT
        assert "4096" in said
        code, _ = await _failure(caller.raw(b"\xff\xff\xff"))
        assert code is StatusCode.INVALID_ARGUMENT
        assert caller.outstanding() == 0


async def test_a_callers_deadline_ends_the_call_and_the_generation(folder: Path, good: Engines) -> None:
    """When the caller's time is up it gets DEADLINE_EXCEEDED and the engine's slot is free again."""
    await good[1].order_fault(fault="slow", factor=20)
    async with _calling(folder, target("r1", good[1].socket)) as caller:
        request = GenerateRequest(prompt="Go on", max_tokens=2000)
        for call in (caller.unary(request, timeout=1.0), caller.stream(request, timeout=1.0)):
            code, _ = await _failure(call)
            assert code is StatusCode.DEADLINE_EXCEEDED
        await until(lambda: caller.outstanding() == 0)
        assert caller.server.stats()["totals"]["cancelled"] == 2

        async def idle() -> bool:
            return await _running(good[1]) == 0

        await until(idle)


async def test_a_call_without_a_deadline_gets_the_default(folder: Path, good: Engines) -> None:
    """A client that sets none does not wait for ever for an engine that hangs."""
    await good[1].order_fault(fault="hang")
    async with _calling(folder, target("r1", good[1].socket), default_timeout_s=0.4) as caller:
        code, said = await _failure(caller.unary(GenerateRequest(prompt="Hello?")))
        assert (code, said) == (StatusCode.DEADLINE_EXCEEDED, "the answer was not complete in time")
        assert caller.outstanding() == 0


def _refusal(failed: grpc.aio.AioRpcError) -> tuple[StatusCode, str, float]:
    """Status, the gateway's reason, and RetryInfo's delay in seconds, as a client reads them off the wire."""
    status, info = from_call(failed), RetryInfo()
    assert status is not None
    assert status.details[0].Unpack(info)
    reasons = dict(failed.trailing_metadata() or ())
    return failed.code(), str(reasons[REASON_KEY]), info.retry_delay.ToTimedelta().total_seconds()


async def test_a_full_queue_and_a_hopeless_deadline_say_when_to_come_again(folder: Path) -> None:
    """RetryInfo follows from the measured rate: 40 answers of at least 20 steps of 10 ms lie ahead."""
    queue, ahead_s, deadline_s = 40, 8.0, 3.0
    with emulated_engine(folder, "one", step_ms=10) as engine:
        place = target("r0", engine.socket).model_copy(update={"places": 1})
        admission = Admission(max_queued_standard=queue)
        async with _calling(folder, place, admission=admission, default_timeout_s=0.2) as caller:

            def ask(tokens: int, timeout_s: float | None = 300.0) -> Any:
                request = GenerateRequest(
                    prompt="Go on", max_tokens=tokens, priority=STANDARD, ignore_eos=True
                )
                return caller.unary(request, timeout=timeout_s)

            async def refused(timeout_s: float) -> tuple[StatusCode, str, float]:
                with pytest.raises(grpc.aio.AioRpcError) as caught:
                    await ask(20, timeout_s)
                return _refusal(caught.value)

            def under_way() -> int:
                return int(caller.server.stats()["calls"])

            holder = ask(2000)
            await until(lambda: caller.outstanding() == 1)
            # Nothing was measured yet, so this one waits, until the deadline that the gateway gave it.
            code, _ = await _failure(ask(20, None))
            assert code is StatusCode.DEADLINE_EXCEEDED
            holder.cancel()
            await asyncio.gather(*(ask(20) for _ in range(8)))
            calls = [ask(2000) for _ in range(1 + queue)]
            await until(lambda: under_way() == 1 + queue)
            code, reason, later_s = await refused(300.0)
            assert (code, reason) == (StatusCode.RESOURCE_EXHAUSTED, "queue_full")
            assert later_s > ahead_s / 2
            calls.pop().cancel()
            await until(lambda: under_way() == queue)
            code, reason, later_s = await refused(deadline_s)
            assert (code, reason) == (StatusCode.RESOURCE_EXHAUSTED, "deadline")
            assert later_s > deadline_s
            for call in calls:
                call.cancel()
            await until(lambda: under_way() == 0)


async def test_a_cancelled_call_frees_the_engines_slot(folder: Path, good: Engines) -> None:
    """Leaving in mid-answer, and before the first token, stops the generation in the engine."""
    await good[1].order_fault(fault="slow", factor=20)
    async with _calling(folder, target("r1", good[1].socket)) as caller:
        request = GenerateRequest(prompt="Go on", max_tokens=2000)
        streamed = caller.stream(request)
        await streamed.read()
        whole = caller.unary(request)

        async def runs(count: int) -> bool:
            return await _running(good[1]) == count

        await until(lambda: runs(2))
        streamed.cancel()
        whole.cancel()
        await until(lambda: runs(0))
        await until(lambda: caller.outstanding() == 0)
        assert caller.server.stats()["totals"]["cancelled"] == 2


async def test_an_engine_that_refuses_is_passed_over(folder: Path, good: Engines) -> None:
    """Before the first token another replica answers; the caller notices nothing."""
    await good[0].order_fault(fault="refuse")
    async with _calling(folder, target("r0", good[0].socket), target("r1", good[1].socket)) as caller:
        answers = [await caller.unary(GenerateRequest(prompt="Hi", max_tokens=3)) for _ in range(3)]
        assert {answer.replica for answer in answers} == {"r1"}
        assert {answer.tokens_generated for answer in answers} == {3}
        assert caller.server.stats()["replicas"][0]["busy"] > 0


async def test_an_engine_that_is_gone_is_passed_over(folder: Path, good: Engines) -> None:
    """A socket nobody listens on costs a caller nothing as long as another replica is ready."""
    async with _calling(folder, target("r0", folder / "none.sock"), target("r1", good[1].socket)) as caller:
        assert (await caller.unary(GenerateRequest(prompt="Hi", max_tokens=3))).replica == "r1"
        await caller.server.set_replicas([target("r0", folder / "none.sock")])
        code, said = await _failure(caller.unary(GenerateRequest(prompt="Hi")))
        assert code is StatusCode.UNAVAILABLE
        assert "sock" not in said


async def test_an_engine_that_is_full_is_asked_again(folder: Path, good: Engines) -> None:
    """An engine with fewer places than the table says refuses some; these wait and are answered."""
    async with _calling(folder, target("r0", good[0].socket)) as caller:
        # Long enough that the first answers are not over before the ninth request is there.
        request = GenerateRequest(prompt="Go on", max_tokens=400, ignore_eos=True)
        answers = await asyncio.gather(*(caller.unary(request) for _ in range(20)))
        assert [answer.tokens_generated for answer in answers] == [400] * 20
        counts = caller.server.stats()["replicas"][0]
        assert (counts["finished"], counts["failed"]) == (20, 0)
        assert counts["busy"] > 0


async def test_an_answer_cut_in_the_middle_is_told(folder: Path) -> None:
    """A sampled answer without a seed is continued by no other replica: it ends with UNAVAILABLE, why, and
    what had been emitted.
    """
    with emulated_engine(folder, "dies") as dies, emulated_engine(folder, "lives") as lives:
        targets = target("r0", dies.socket), target("r1", lives.socket)
        async with _calling(folder, *targets) as caller:
            await dies.order_fault(fault="crash", after_tokens=10)
            messages: list[GenerateResponse] = []
            request = GenerateRequest(prompt="Go on", max_tokens=500, temperature=0.7)
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await _collect(caller.stream(request), messages)
            assert messages
            assert not any(message.HasField("finish_reason") for message in messages)
            assert caught.value.code() is StatusCode.UNAVAILABLE
            assert "r0 failed in mid-answer" in (caught.value.details() or "")
            info = ErrorInfo()
            status = from_call(caught.value)
            assert status is not None
            assert status.details[0].Unpack(info)
            assert dict(info.metadata) == {
                "emitted_text": "".join(message.text for message in messages),
                "emitted_tokens": str(messages[-1].tokens_generated),
            }
            assert caller.outstanding() == 0
            assert (await caller.unary(GenerateRequest(prompt="Hi", max_tokens=3))).replica == "r1"


async def test_a_whole_answer_that_is_cut_begins_anew(folder: Path) -> None:
    """Nobody has seen a part of it, so a sampled one is made by another replica, with none of the first's."""
    with emulated_engine(folder, "dies") as dies, emulated_engine(folder, "lives") as lives:
        targets = target("r0", dies.socket), target("r1", lives.socket)
        async with _calling(folder, *targets) as caller:
            await dies.order_fault(fault="crash", after_tokens=10)
            answer = await caller.unary(GenerateRequest(prompt="Go on", max_tokens=50, temperature=0.7))
            assert (answer.replica, answer.tokens_generated) == ("r1", 50)
            assert len(answer.text.split()) <= 50
            assert caller.outstanding() == 0


async def test_garbage_from_an_engine_is_no_answer(folder: Path, good: Engines) -> None:
    """An engine that sends nonsense is passed over, and with no other one the caller is told."""
    await good[0].order_fault(fault="garbage")
    async with _calling(folder, target("r0", good[0].socket), target("r1", good[1].socket)) as caller:
        assert (await caller.unary(GenerateRequest(prompt="Hi", max_tokens=3))).replica == "r1"
        await caller.server.set_replicas([target("r0", good[0].socket)])
        code, _ = await _failure(caller.stream(GenerateRequest(prompt="Hi", max_tokens=3)))
        assert code is StatusCode.UNAVAILABLE


async def test_a_failed_request_does_not_wait_for_the_garbage_collector(folder: Path, good: Engines) -> None:
    """With all its frames and its prompt: when a storm of failures comes, memory would fill with them."""
    await good[0].order_fault(fault="garbage")
    request = GenerateRequest(prompt="Why?", max_tokens=8)
    with no_collector():
        async with _calling(folder, target("r0", good[0].socket)) as caller:
            calls = caller.unary(request), caller.stream(request), caller.unary(GenerateRequest())
            found = await asyncio.gather(*map(_failure, calls))
            assert [code.name for code, _ in found] == ["UNAVAILABLE", "UNAVAILABLE", "INVALID_ARGUMENT"]
            await until(lambda: not living(Journey, Ticket))


async def test_a_replica_may_vanish_while_it_answers(folder: Path, good: Engines) -> None:
    """A replica taken from the table finishes what it has and gets nothing new."""
    async with _calling(folder, target("r0", good[0].socket)) as caller:
        call = caller.stream(GenerateRequest(prompt="Go on", max_tokens=50))
        first = await call.read()
        await caller.server.set_replicas([target("r1", good[1].socket)])
        assert (await caller.unary(GenerateRequest(prompt="Hi", max_tokens=3))).replica == "r1"
        rest = await _read_all(call)
        assert first.text
        assert rest[-1].tokens_generated == 50
        assert rest[-1].replica == "r0"
        assert caller.server.stats()["totals"]["finished"] == 2


async def test_health_follows_the_replicas(folder: Path, good: Engines) -> None:
    """SERVING as long as one replica is ready; without one calls end with UNAVAILABLE at once."""
    async with _calling(folder) as caller:
        check = health_pb2_grpc.HealthStub(caller.channel).Check

        async def status(service: str) -> int:
            return int((await check(health_pb2.HealthCheckRequest(service=service))).status)

        serving = health_pb2.HealthCheckResponse
        for targets, expected in (
            ([], serving.NOT_SERVING),
            ([target("r0", good[0].socket)], serving.SERVING),
            ([target("r0", good[0].socket, ready=False)], serving.NOT_SERVING),
        ):
            await caller.server.set_replicas(targets)
            assert [await status(service) for service in ("", "LLMService")] == [expected] * 2
        code, said = await _failure(caller.unary(GenerateRequest(prompt="Hi")))
        assert (code, said) == (StatusCode.UNAVAILABLE, "no replica is ready. Try again shortly.")


async def test_an_idle_client_may_ask_whether_the_connection_stands(folder: Path, good: Engines) -> None:
    """As the HTTP front does, here once a second: gRPC would hang up at the third time."""
    pinging = [("grpc.keepalive_permit_without_calls", 1), ("grpc.http2.max_pings_without_data", 0)]
    async with _calling(folder, target("r0", good[0].socket)) as caller:
        options = [*pinging, ("grpc.keepalive_time_ms", 1000), ("grpc.keepalive_timeout_ms", 5000)]
        address = f"127.0.0.1:{caller.server.port}"
        async with grpc.aio.insecure_channel(address, options=options) as channel:
            await channel.channel_ready()
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(channel.wait_for_state_change(grpc.ChannelConnectivity.READY), 4.0)


async def test_reflection_tells_the_contract(folder: Path) -> None:
    """Tools such as grpcurl find the service and its fields without a file."""
    async with _calling(folder) as caller:

        def ask() -> tuple[set[str], list[str]]:
            with grpc.insecure_channel(f"127.0.0.1:{caller.server.port}") as channel:
                database = ProtoReflectionDescriptorDatabase(channel)
                services = set(database.get_services())
                described = database.FindFileContainingSymbol("LLMService")
                return services, [method.name for method in described.service[0].method]

        services, methods = await asyncio.to_thread(ask)
    assert {"LLMService", "grpc.health.v1.Health"} <= services
    assert methods == ["Generate", "GenerateStream"]


async def test_messages_over_the_limit_are_refused(folder: Path, good: Engines) -> None:
    """A request longer than `max_message_bytes` does not reach the engine."""
    async with _calling(folder, target("r0", good[0].socket), max_message_bytes=2048) as caller:
        code, said = await _failure(caller.unary(GenerateRequest(prompt="x" * 3000)))
        assert code is StatusCode.RESOURCE_EXHAUSTED
        assert "2048" in said
        assert (await caller.unary(GenerateRequest(prompt="Hi", max_tokens=3))).tokens_generated == 3


async def test_a_reader_that_does_not_read_holds_the_engine_back(folder: Path) -> None:
    """What a client does not read is not piled up without bound, and comes merged when it reads on."""
    flood = _Flood(events=30_000, text="x" * 499 + " ")
    listener = await asyncio.start_unix_server(flood.serve, folder / "flood.sock")
    async with _calling(folder, target("r0", folder / "flood.sock")) as caller:
        call = caller.stream(GenerateRequest(prompt="Go on"))
        first = await call.read()
        await until(flood.is_held_back)
        assert flood.sent < flood.events
        messages = [first, *await _read_all(call)]
    listener.close()
    assert "".join(message.text for message in messages) == flood.text * flood.events
    assert messages[-1].finish_reason == "stop"
    assert len(messages) < flood.events / 2


async def test_a_reader_that_never_reads_on_is_given_up(folder: Path) -> None:
    """Without a deadline of its own: at the default's end the engine's place and the call are free again."""
    flood = _Flood(events=30_000, text="x" * 499 + " ")
    listener = await asyncio.start_unix_server(flood.serve, folder / "unread.sock")
    async with _calling(folder, target("r0", folder / "unread.sock"), default_timeout_s=2.0) as caller:
        call = caller.stream(GenerateRequest(prompt="Go on"))
        await call.read()
        await until(lambda: caller.outstanding() == caller.server.stats()["calls"] == 0)
        with pytest.raises(grpc.aio.AioRpcError):
            await _read_all(call)
    listener.close()


class _Flood:
    """An engine that answers as fast as it can write."""

    def __init__(self, events: int, text: str) -> None:
        self.events = events
        self.text = text
        self.sent = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        with suppress(ConnectionError):
            await self._answer(writer)
        writer.close()

    async def _answer(self, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n")
        for _ in range(self.events):
            writer.write(b'data: {"choices":[{"delta":{"content":"%b"}}]}\n\n' % self.text.encode())
            await writer.drain()
            self.sent += 1
        writer.write(b'data: {"choices":[{"delta":{},"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n')
        await writer.drain()

    async def is_held_back(self) -> bool:
        """Whether nothing more could be written for a while."""
        before = self.sent
        await asyncio.sleep(0.2)
        return self.sent == before > 0


async def _read_all(call: Any) -> list[GenerateResponse]:
    messages = []
    while (message := await call.read()) is not grpc.aio.EOF:
        messages.append(message)
    return messages
