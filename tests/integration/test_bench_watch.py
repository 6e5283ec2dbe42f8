"""The watch over the engines and the cards during a cell: emulated engines, the real reader of NVML."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Iterator
from contextlib import aclosing
from pathlib import Path

import pytest
from gateway_harness import RunningEngine, emulated_engine, socket_folder

from dreamseed_cli.bench.cell_run import ServerView
from dreamseed_cli.bench.server_watch import ServerWatch
from dreamseed_cli.engine.client import EngineClient
from dreamseed_cli.engine.types import Endpoint, GenerationRequest


@pytest.fixture
def folder() -> Iterator[Path]:
    """Where the sockets are."""
    with socket_folder() as path:
        yield path


@pytest.fixture
def engines(folder: Path) -> Iterator[tuple[RunningEngine, RunningEngine]]:
    """Two of them."""
    with emulated_engine(folder, "e0") as first, emulated_engine(folder, "e1") as second:
        yield first, second


async def _ask(engine: RunningEngine, tokens: int) -> None:
    client = EngineClient(Endpoint(socket=engine.socket), model="emulated", api="chat", usage_per_chunk=True)
    try:
        request = GenerationRequest("r", "Why is the sky blue?" * 8, tokens, 0.0, 1.0, ignore_eos=True)
        async with aclosing(client.stream(request, timeout_s=60.0)) as chunks:
            async for _ in chunks:
                pass
    finally:
        await client.close()


async def test_the_watch_counts_what_the_engines_did(engines: tuple[RunningEngine, RunningEngine]) -> None:
    """Tokens are the growth over both engines since its start, and requests at once are seen as such."""
    await _ask(engines[0], 40)
    watch = ServerWatch([Endpoint(socket=engine.socket) for engine in engines], every_s=0.01)
    await watch.start()
    await asyncio.gather(*(_ask(engine, 300) for engine in engines for _ in range(3)))
    view = await watch.stop()
    assert view.generation_tokens == 6 * 300
    assert view.peak_in_flight == max(count for _, count in watch.looks) == 6
    assert view.prompt_tokens is not None
    # The first engine knows the prompt's beginning from before, and tells so.
    assert view.prefix_queries is not None
    assert view.prefix_hits is not None
    assert 0 < view.prefix_hits < view.prefix_queries


async def test_an_engine_that_dies_leaves_no_counters(engines: tuple[RunningEngine, RunningEngine]) -> None:
    """The watch goes on and says what it cannot know."""
    watch = ServerWatch([Endpoint(socket=engine.socket) for engine in engines])
    await watch.start()
    engines[1].process.kill()
    engines[1].process.wait()
    assert await watch.stop() == ServerView(peak_in_flight=0)


async def test_servers_that_tell_nothing_of_vllm(folder: Path) -> None:
    """No socket there, a server without metrics, one with nonsense: all open, nothing raised."""
    replies = {
        "silent": b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n",
        "odd": b'HTTP/1.1 200 OK\r\nContent-Length: 29\r\n\r\nvllm:num_requests_running {"x',
        "rude": b"no HTTP at all\r\n\r\n",
    }
    for name, reply in replies.items():

        async def answer(
            reader: asyncio.StreamReader, writer: asyncio.StreamWriter, reply: bytes = reply
        ) -> None:
            await reader.readline()
            writer.write(reply)
            writer.close()

        server = await asyncio.start_unix_server(answer, path=folder / name)
        async with server:
            watch = ServerWatch([Endpoint(socket=folder / name)])
            await watch.start()
            assert await watch.stop() == ServerView()
    watch = ServerWatch([Endpoint(socket=folder / "nobody")])
    await watch.start()
    assert await watch.stop() == ServerView()


async def test_a_watch_that_is_cut_off_leaves_nothing_open(folder: Path) -> None:
    """Its server hangs, and whoever waits for the last look gives up."""
    looks, hangs = 0, asyncio.Event()

    async def hang_from_the_second_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal looks
        while await reader.readline():
            await reader.readuntil(b"\r\n\r\n")
            looks += 1
            if looks == 1:
                writer.write(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
            else:
                hangs.set()
        writer.close()

    said: list[str] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: said.append(context["message"]))
    async with await asyncio.start_unix_server(hang_from_the_second_on, path=folder / "hangs"):
        watch = ServerWatch([Endpoint(socket=folder / "hangs")], every_s=0.001)
        await watch.start()
        await hangs.wait()
        stopping = asyncio.create_task(watch.stop())
        await asyncio.sleep(0)
        stopping.cancel()
        with pytest.raises(asyncio.CancelledError):
            await stopping
        del watch, stopping
        gc.collect()
    assert said == []
