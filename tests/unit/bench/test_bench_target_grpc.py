"""A gateway that misbehaves is named for what it does."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import grpc
import pytest

from dreamseed_cli.bench.records import Ending, Job, Record
from dreamseed_cli.bench.shapes import TargetSpec
from dreamseed_cli.bench.target.grpc import classify, generation_request
from dreamseed_cli.bench.target.opening import open_target
from dreamseed_cli.core.errors import MissingError
from dreamseed_cli.gateway.proto import PROVENANCE_KEY, REASON_KEY, SERVICE
from dreamseed_cli.gateway.proto.llm_pb2 import PREMIUM, GenerateRequest, GenerateResponse

Context = grpc.aio.ServicerContext[GenerateRequest, GenerateResponse]
Behaviour = Callable[[GenerateRequest, Context], AsyncIterator[GenerateResponse]]
_Code = grpc.StatusCode


def _last(total: int, **fields: Any) -> GenerateResponse:
    fields = {"finish_reason": "length"} | fields
    return GenerateResponse(tokens_generated=total, **fields)


async def _good(_request: GenerateRequest, context: Context) -> AsyncIterator[GenerateResponse]:
    yield GenerateResponse(text="a", tokens_generated=1)
    yield GenerateResponse(text="bc", tokens_generated=3)
    context.set_trailing_metadata(((PROVENANCE_KEY, "simulated"),))
    yield _last(3, replica="gpu1", cache_hit=False, prompt_tokens=9)


async def _unended(_request: GenerateRequest, _context: Context) -> AsyncIterator[GenerateResponse]:
    yield GenerateResponse(text="abc", tokens_generated=3)


async def _uncounted(_request: GenerateRequest, _context: Context) -> AsyncIterator[GenerateResponse]:
    yield GenerateResponse(text="abc")
    yield _last(0)


async def _short(_request: GenerateRequest, _context: Context) -> AsyncIterator[GenerateResponse]:
    yield GenerateResponse(text="a", tokens_generated=1)
    yield _last(1, finish_reason="stop")


async def _silent(_request: GenerateRequest, _context: Context) -> AsyncIterator[GenerateResponse]:
    yield GenerateResponse(text="a", tokens_generated=1)
    await asyncio.Event().wait()


def _refuses(code: grpc.StatusCode, said: str, reason: str = "") -> Behaviour:
    async def behave(_request: GenerateRequest, context: Context) -> AsyncIterator[GenerateResponse]:
        if said:
            await context.abort(code, said, ((REASON_KEY, reason),) if reason else ())
        yield GenerateResponse()

    return behave


@asynccontextmanager
async def _gateway(behave: Behaviour) -> AsyncIterator[str]:
    server = grpc.aio.server()
    handler = grpc.unary_stream_rpc_method_handler(
        behave, GenerateRequest.FromString, GenerateResponse.SerializeToString
    )
    server.add_generic_rpc_handlers(
        [grpc.method_handlers_generic_handler(SERVICE, {"GenerateStream": handler})]
    )
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        await server.stop(0)


def _job(**changes: Any) -> Job:
    fields: dict[str, Any] = {"number": 5, "workload": "question", "prompt": "Why?", "wanted_tokens": 3}
    return Job(**(fields | changes))


async def _ask(address: str, job: Job | None = None, **changes: Any) -> Record:
    job = job or _job()
    fields: dict[str, Any] = {"timeout_s": 60.0, "stall_s": 60.0}
    target = open_target(TargetSpec(kind="grpc", address=address, **(fields | changes)))
    record, epoch = Record(5, "question", 0.0, job.wanted_tokens), time.monotonic()
    try:
        await target.ask(job, record, lambda: time.monotonic() - epoch)
    finally:
        await target.close()
    return record


async def test_a_good_answer() -> None:
    """It is complete; a message with two tokens is one piece; the facts of the last message are kept."""
    async with _gateway(_good) as address:
        record = await _ask(address)
    assert (record.ending, record.piece_tokens, record.completion_tokens) == (Ending.COMPLETE, [1, 3], 3)
    assert (record.replica, record.cache_hit, record.prompt_tokens) == ("gpu1", False, 9)
    assert record.simulated
    moments = [record.sent_s, record.first_token_s, record.last_token_s, record.end_s]
    assert moments == sorted(moment for moment in moments if moment is not None)


@pytest.mark.parametrize(
    ("behave", "changes", "ending", "detail"),
    [
        (_unended, {}, Ending.CUT, "without a finish_reason"),
        (_uncounted, {}, Ending.MISCOUNTED, "no usage"),
        (_short, {}, Ending.WRONG_LENGTH, "shorter than the forced length"),
        (_silent, {"stall_s": 0.2}, Ending.STALLED, "no message for 0.2 s"),
        (_silent, {"timeout_s": 1.0}, Ending.TIMED_OUT, "not complete within 1 s"),
        (_refuses(_Code.UNAVAILABLE, "no replica", "none_ready"), {}, Ending.REFUSED, "no replica"),
        (_refuses(_Code.RESOURCE_EXHAUSTED, "full", "queue_full"), {}, Ending.REFUSED, "full"),
        (_refuses(_Code.INVALID_ARGUMENT, "too long"), {}, Ending.REJECTED, "INVALID_ARGUMENT: too long"),
        (_refuses(_Code.INTERNAL, "a bug"), {}, Ending.SERVER_ERROR, "INTERNAL: a bug"),
    ],
)
async def test_a_misbehaviour_is_named(
    behave: Behaviour, changes: dict[str, Any], ending: Ending, detail: str
) -> None:
    """Its ending says what kind it is, its detail says it in words, and the record has its end."""
    async with _gateway(behave) as address:
        record = await _ask(address, **changes)
    assert (record.ending, bool(re.search(detail, record.detail))) == (ending, True), record.detail
    assert record.end_s is not None


async def test_nobody_listens() -> None:
    """A refused connection is the gateway's absence."""
    async with _gateway(_good) as address:
        pass
    record = await _ask(address)
    assert record.ending is Ending.UNREACHABLE, record.detail


async def test_another_kind_of_server() -> None:
    """A web server on that port is named as such."""

    async def page(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n")
        writer.close()

    listener = await asyncio.start_server(page, "127.0.0.1", 0)
    async with listener:
        record = await _ask(f"127.0.0.1:{listener.sockets[0].getsockname()[1]}")
    assert (record.ending, record.detail) == (Ending.BROKEN, "what answers there speaks no gRPC")


async def test_a_cancelled_call_is_hung_up() -> None:
    """Who is cancelled lets the gateway know, so that it stops generating."""
    gone, asked = asyncio.Event(), asyncio.Event()

    async def behave(_request: GenerateRequest, _context: Context) -> AsyncIterator[GenerateResponse]:
        asked.set()
        try:
            await asyncio.Event().wait()
            yield GenerateResponse()
        finally:
            gone.set()

    async with _gateway(behave) as address:
        asking = asyncio.create_task(_ask(address))
        await asked.wait()
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        await asyncio.wait_for(gone.wait(), 60)


async def test_many_calls_do_not_wait_for_each_other() -> None:
    """Beyond a connection's hundred calls another one is opened: none waits in the client."""
    everybody = asyncio.Barrier(250)

    async def behave(_request: GenerateRequest, _context: Context) -> AsyncIterator[GenerateResponse]:
        await everybody.wait()
        yield _last(3, text="abc")

    async with _gateway(behave) as address:
        target = open_target(TargetSpec(kind="grpc", address=address))
        records = [Record(number, "question", 0.0, 3) for number in range(250)]
        await asyncio.gather(*(target.ask(_job(), record, time.monotonic) for record in records))
        await target.close()
    assert {record.ending for record in records} == {Ending.COMPLETE}


def test_the_gateways_own_fields() -> None:
    """Forced length, cache, class and workload go along."""
    job = _job(system_prompt="Be kind.", seed=4, priority="PREMIUM", user="ann", top_p=0.5)
    request = generation_request(job, TargetSpec(kind="grpc", address="e:1", model="m"))
    assert (request.prompt, request.max_tokens, request.ignore_eos) == ("Why?", 3, True)
    assert (request.system_prompt, request.seed, request.model) == ("Be kind.", 4, "m")
    assert request.top_p == 0.5
    assert (request.priority, request.user_id, request.workload) == (PREMIUM, "ann", "question")
    assert request.bypass_cache
    free = generation_request(_job(forced=False), TargetSpec(kind="grpc", address="e:1"))
    assert generation_request(_job(), TargetSpec(kind="grpc", address="e:1", vllm=False)) == free
    assert not any(free.HasField(name) for name in ("ignore_eos", "model", "seed", "system_prompt"))


@pytest.mark.parametrize(
    ("code", "said", "ending"),
    [
        (_Code.UNAVAILABLE, "failed to connect to all addresses; last error: refused", Ending.UNREACHABLE),
        (_Code.UNAVAILABLE, "errors resolving nowhere:1", Ending.UNREACHABLE),
        (_Code.UNAVAILABLE, "Socket closed", Ending.CUT),
        (_Code.UNAVAILABLE, "recvmsg:Connection reset by peer", Ending.CUT),
        (_Code.UNAVAILABLE, "come back later", Ending.REFUSED),
        (_Code.UNKNOWN, "a bug", Ending.SERVER_ERROR),
        (_Code.UNIMPLEMENTED, "Method not found!", Ending.REJECTED),
    ],
)
def test_what_grpc_says_is_understood(code: grpc.StatusCode, said: str, ending: Ending) -> None:
    """The same code means that nobody listens, that the line was cut, or that there is no room."""
    assert classify(code, said, "", TargetSpec(kind="grpc", address="e:1"))[0] is ending


async def test_a_page_cannot_be_had() -> None:
    """The gateway has no paths: such a job is named as rejected, not sent as a prompt."""
    record = await _ask("127.0.0.1:1", _job(path="/"))
    assert (record.ending, record.sent_s) == (Ending.REJECTED, None)


async def test_a_key_that_is_not_there() -> None:
    """It is said before anything is asked."""
    with pytest.raises(MissingError, match="BENCH_NO_KEY"):
        open_target(TargetSpec(kind="grpc", address="e:1", api_key_env="BENCH_NO_KEY"))
