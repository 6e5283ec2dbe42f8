"""Targets behind TLS with a certificate of a private authority (`--ca`): an HTTPS server, and the gateway."""

from __future__ import annotations

import json
import ssl
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import web
from gateway_harness import emulated_engine, gateway_here, settings, socket_folder, target, until
from security_harness import Office

from dreamseed_cli.bench.queue_watch import QueueWatch
from dreamseed_cli.bench.records import Ending, Job, Record
from dreamseed_cli.bench.server_watch import ServerWatch
from dreamseed_cli.bench.target.key import Access, access_to
from dreamseed_cli.bench.target.opening import open_target
from dreamseed_cli.bench.under_test import UnderTest, introduce, of_address, spec_of
from dreamseed_cli.core.errors import DreamseedError, MissingError
from dreamseed_cli.core.paths import StateDir
from dreamseed_cli.engine.types import Endpoint
from dreamseed_cli.profile.schema import Security


@pytest.fixture
def folder() -> Iterator[Path]:
    """For certificates and sockets."""
    with socket_folder() as path:
        yield path


async def _answer(request: web.Request) -> web.StreamResponse:
    """As many tokens as are asked for."""
    wanted = (await request.json())["max_tokens"]
    reply = web.StreamResponse(headers={"content-type": "text/event-stream"})
    await reply.prepare(request)
    for number in range(1, wanted + 1):
        ends = "length" if number == wanted else None
        event = {
            "choices": [{"delta": {"content": "a"}, "finish_reason": ends}],
            "usage": {"prompt_tokens": 5, "completion_tokens": number},
        }
        await reply.write(b"data: " + json.dumps(event).encode() + b"\n\n")
    await reply.write(b"data: [DONE]\n\n")
    return reply


async def _models(_request: web.Request) -> web.Response:
    return web.json_response({"data": [{"id": "m"}]})


_looks: list[str] = []


async def _metrics(request: web.Request) -> web.Response:
    if request.headers.get("authorization") != "Bearer sk-1":
        raise web.HTTPUnauthorized
    _looks.append(request.path)
    lines = (
        "vllm:num_requests_running 3",
        "vllm:num_requests_waiting 1",
        "dreamseed_api_requests_in_flight 7",
    )
    return web.Response(text="\n".join(lines) + "\n")


@asynccontextmanager
async def _https(office: Office) -> AsyncIterator[str]:
    app = web.Application()
    app.add_routes([web.get("/v1/models", _models), web.post("/v1/chat/completions", _answer)])
    app.add_routes([web.get("/metrics", _metrics)])
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(*office.put("web", office.server()))
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context)
    await site.start()
    try:
        yield f"https://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


async def test_an_https_target_is_measured_with_its_authority(folder: Path) -> None:
    """Its model is found, it is asked, and the handshake is noted apart from the sending; without the
    authority it is refused by name.
    """
    office = Office(folder)
    async with _https(office) as address:
        spec = spec_of(address, model="", api_key_env=None, ca_file=office.ca())
        met = await of_address(spec, StateDir(folder / "s"))
        asked = open_target(met.spec)
        record = Record(number=0, workload="w", scheduled_s=0.0, wanted_tokens=3)
        epoch = time.monotonic()
        await asked.ask(Job(0, "w", "Why?", 3), record, lambda: time.monotonic() - epoch)
        await asked.close()
        with pytest.raises(MissingError, match="CERTIFICATE_VERIFY_FAILED"):
            await of_address(spec_of(address, model="m", api_key_env=None, ca_file=None), StateDir(folder))
        with pytest.raises(MissingError, match="no TLS connection: unable to get local issuer") as caught:
            await of_address(spec_of(address, model="", api_key_env=None, ca_file=None), StateDir(folder))
        assert "--ca" in caught.value.remedy
    assert (met.spec.model, met.spec.ours, met.foreign) == ("m", False, True)
    assert record.ending is Ending.COMPLETE
    assert record.connect_s is not None
    assert record.sent_s is not None
    assert 0 < record.connect_s <= record.sent_s


async def test_metrics_are_watched_with_the_targets_authority_and_key(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else the rules that look at them would be off without a word."""
    monkeypatch.setenv("BENCH_KEY", "sk-1")
    _looks.clear()
    office = Office(folder)
    async with _https(office) as address:
        spec = spec_of(address, model="m", api_key_env="BENCH_KEY", ca_file=office.ca())
        for access, peaks in ((access_to(spec), (4, 7)), (Access(), (None, None))):
            server = ServerWatch([Endpoint(url=address)], access, every_s=0.01)
            queue = QueueWatch(Endpoint(url=address), access, every_s=0.01)
            await server.start()
            await queue.start()
            await until(lambda access=access: not access.api_key or len(_looks) > 3)
            assert ((await server.stop()).peak_in_flight, await queue.stop()) == peaks


def test_a_gateways_key_is_not_for_what_is_behind_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its engines' metrics are elsewhere."""
    monkeypatch.setenv("BENCH_KEY", "sk-1")
    assert access_to(spec_of("a:1", model="", api_key_env="BENCH_KEY", ca_file=None)) == Access()


async def test_the_gateway_is_measured_over_tls(folder: Path) -> None:
    """With the authority it answers; without, the connection is refused."""
    office = Office(folder)
    with emulated_engine(folder, "e0") as engine:
        told = settings(folder, target("e0", engine.socket), security=Security(tls=office.tls()))
        async with gateway_here(told) as gateway:
            address = f"127.0.0.1:{gateway.port}"
            spec = spec_of(address, model="", api_key_env=None, ca_file=office.ca())
            met = await of_address(spec, StateDir(folder / "s"))
            plain = spec_of(address, model="", api_key_env=None, ca_file=None)
            with pytest.raises(DreamseedError, match=address):
                await introduce(UnderTest(plain))
    assert met.simulated
