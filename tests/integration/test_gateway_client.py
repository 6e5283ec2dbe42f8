"""The client to the gateway that the other rooms use."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing
from pathlib import Path

import grpc
import pytest
from free_ports import free_port
from gateway_harness import emulated_engine, gateway_here, settings, socket_folder, target, until

from dreamseed_cli.core.errors import DreamseedError, FailedError, MissingError, UsageError
from dreamseed_cli.gateway.client import GatewayClient
from dreamseed_cli.gateway.continuation import AnswerCut
from dreamseed_cli.gateway.proto import SERVICE
from dreamseed_cli.gateway.refusals import QueueFull
from dreamseed_cli.gateway.server import GatewayServer
from dreamseed_cli.gateway.status import error_details, grpc_status


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """Where this module's sockets are."""
    with socket_folder() as path:
        yield path


@pytest.fixture(scope="module")
def engine_socket(folder: Path) -> Iterator[Path]:
    """An emulated engine."""
    with emulated_engine(folder, "e0", step_ms=10) as engine:
        yield engine.socket


@pytest.fixture
async def server(folder: Path, engine_socket: Path) -> AsyncIterator[GatewayServer]:
    """A gateway before it."""
    async with gateway_here(settings(folder, target("r0", engine_socket))) as running:
        yield running


@pytest.fixture
async def client(server: GatewayServer) -> AsyncIterator[GatewayClient]:
    """The client under test."""
    async with GatewayClient(f"127.0.0.1:{server.port}") as made:
        yield made


async def test_an_answer_is_read_as_it_comes(client: GatewayClient) -> None:
    """The texts make the answer; it knows its counts, its times and that it is simulated."""
    stream = client.ask("Why?", max_tokens=12, seed=3)
    with pytest.raises(FailedError, match="not complete"):
        _ = stream.answer
    texts = [text async for text in stream]
    answer = stream.answer
    assert answer.text == "".join(texts)
    assert (answer.tokens, answer.finish_reason, answer.replica, answer.simulated) == (
        12,
        "length",
        "r0",
        True,
    )
    assert answer.ttft_s is not None
    assert 0 < answer.ttft_s < answer.latency_s
    whole = await client.generate("Why?", max_tokens=12, seed=3)
    assert (whole.text, whole.tokens, whole.ttft_s) == (answer.text, 12, None)


async def test_leaving_a_stream_early_ends_the_generation(
    client: GatewayClient, server: GatewayServer
) -> None:
    """Closing the iterator frees the replica, as does cancelling the task that reads."""
    async with aclosing(aiter(client.ask("Go on", max_tokens=2000))) as texts:
        await anext(texts)
    stream = client.ask("Go on", max_tokens=2000)
    started = asyncio.Event()

    async def read() -> None:
        async for _ in stream:
            started.set()

    task = asyncio.create_task(read())
    await started.wait()
    task.cancel()
    await until(lambda: server.stats()["totals"]["outstanding"] == 0)
    assert server.stats()["totals"]["cancelled"] == 2
    assert task.done()


async def test_errors_name_address_cause_and_remedy(client: GatewayClient, server: GatewayServer) -> None:
    """A wrong request, time running out and a gateway without replicas are told apart."""
    with pytest.raises(UsageError, match=r"temperature is 9\.0: allowed are 0 to 2\.0"):
        await client.generate("x", temperature=9)
    with pytest.raises(FailedError, match="no complete answer in time"):
        await client.generate("Go on", max_tokens=2000, timeout_s=0.2)
    await server.set_replicas([])
    with pytest.raises(FailedError, match="no replica is ready") as caught:
        async for _ in client.ask("x"):
            pass
    assert caught.value.place == client.address
    assert "dreamseed status" in caught.value.remedy


async def test_without_a_gateway_the_remedy_is_to_start_it() -> None:
    """Nothing listens: the error says how to change that."""
    port = free_port()
    async with GatewayClient(f"127.0.0.1:{port}") as client:
        with pytest.raises(MissingError, match="Start it: dreamseed serve"):
            await client.generate("x")


class _Refusing:
    """Answers every call with one status."""

    def __init__(self, code: grpc.StatusCode, said: str, trailer: tuple[tuple[str, bytes], ...] = ()) -> None:
        self._ending = (code, said, trailer)

    async def generate(self, message: bytes, context: grpc.aio.ServicerContext[bytes, bytes]) -> bytes:
        await context.abort(*self._ending)

    def handler(self) -> grpc.GenericRpcHandler:
        methods: dict[str, grpc.RpcMethodHandler[bytes, bytes]] = {
            "Generate": grpc.unary_unary_rpc_method_handler(self.generate)
        }
        return grpc.method_handlers_generic_handler(SERVICE, methods)


async def _refused_with(refusing: _Refusing) -> DreamseedError:
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((refusing.handler(),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        async with GatewayClient(f"127.0.0.1:{port}") as client:
            with pytest.raises(DreamseedError) as caught:
                await client.generate("x")
    finally:
        await server.stop(0)
    return caught.value


async def test_when_to_try_again_is_told() -> None:
    """RetryInfo of a full queue becomes the remedy; without it, or with a broken one, it is a general one."""
    full = QueueFull("the queue is full", retry_after_s=2.34)
    code, said = grpc_status(full)
    error = await _refused_with(_Refusing(code, said, error_details(full)))
    assert isinstance(error, FailedError)
    assert (error.cause, error.remedy) == ("RESOURCE_EXHAUSTED: the queue is full", "Try again in 2.3 s.")
    broken = (("grpc-status-details-bin", b"\xff\xff"),)
    for trailer in ((), broken):
        error = await _refused_with(_Refusing(code, said, trailer))
        assert error.remedy == "Try again when there is less to do."


async def test_a_long_emitted_text_does_not_cost_the_status() -> None:
    """The longest that is sent fits into the metadata that gRPC's clients take."""
    cut = AnswerCut("replica r0 failed in mid-answer: " + "w" * 500, emitted="x" * 4096, tokens=2048)
    code, said = grpc_status(cut)
    error = await _refused_with(_Refusing(code, said, error_details(cut)))
    assert error.cause == f"UNAVAILABLE: {said}"


@pytest.mark.parametrize(
    ("code", "kind", "remedy"),
    [
        (grpc.StatusCode.UNAUTHENTICATED, MissingError, "DREAMSEED_TOKEN"),
        (grpc.StatusCode.PERMISSION_DENIED, UsageError, "within your tier"),
        (grpc.StatusCode.INTERNAL, FailedError, "dreamseed logs"),
        (grpc.StatusCode.UNAVAILABLE, FailedError, "dreamseed status"),
    ],
)
async def test_a_refusal_keeps_the_gateways_words_and_adds_a_remedy(
    code: grpc.StatusCode, kind: type[DreamseedError], remedy: str
) -> None:
    """Each status has its own."""
    error = await _refused_with(_Refusing(code, "because so"))
    assert type(error) is kind
    assert "because so" in error.cause
    assert remedy in error.remedy
