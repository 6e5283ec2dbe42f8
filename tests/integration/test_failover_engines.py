"""One engine of the help, as different servers behind an address behave."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest
from aiohttp import web

from dreamseed_cli.profile.resilience import Failover
from dreamseed_cli.supervisor.failover import engines
from dreamseed_cli.supervisor.failover.engines import RemoteHelp

_TOKEN = b'data: {"choices": [{"delta": {"content": "Hi"}, "finish_reason": "stop"}]}\n\ndata: [DONE]\n\n'


@dataclass
class Server:
    """An OpenAI-compatible server that has neither /health nor /metrics, unless told to."""

    status: int = 200
    healthy: bool | None = None
    canaries: int = 0
    bodies: list[dict[str, object]] = field(default_factory=list)

    async def generate(self, request: web.Request) -> web.StreamResponse:
        self.canaries += 1
        self.bodies.append(await request.json())
        if request.headers.get("Authorization") != "Bearer secret":
            return web.json_response({"error": {"message": "no key"}}, status=401)
        if self.status != 200:
            return web.json_response({"error": {"message": "told to"}}, status=self.status)
        return web.Response(body=_TOKEN, content_type="text/event-stream")

    async def health(self, _: web.Request) -> web.Response:
        return web.Response(status=404 if self.healthy is None else 200 if self.healthy else 500)


@asynccontextmanager
async def _help(server: Server) -> AsyncIterator[RemoteHelp]:
    application = web.Application()
    application.router.add_post("/v1/chat/completions", server.generate)
    application.router.add_get("/health", server.health)
    runner = web.AppRunner(application, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    settings = Failover(urls=(url,), model="big", api_key_env="DS_HELP_KEY")
    engine = RemoteHelp("f0", url, settings, model="small", api="chat")
    try:
        yield engine
    finally:
        await engine.close()
        await runner.cleanup()


@pytest.fixture(autouse=True)
def _key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DS_HELP_KEY", "secret")


async def test_any_openai_server_will_do() -> None:
    """One token is all that is asked for; a canary is not sent more often than every 30 s."""
    server = Server()
    async with _help(server) as engine:
        assert engine.target(draining=False) is None
        for _ in range(5):
            await engine.probe()
        target = engine.target(draining=False)
        assert target
        assert (target.name, target.ready, target.model, target.state) == ("f0", True, "big", "ready")
        assert await engine.idle() is None
    assert server.canaries == 1
    assert (server.bodies[0]["model"], server.bodies[0]["max_tokens"]) == ("big", 1)


async def test_a_wrong_key_is_told_and_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    """The server's answer is the obstacle."""
    monkeypatch.setenv("DS_HELP_KEY", "wrong-secret")
    async with _help(Server()) as engine:
        await engine.probe()
        shown = engine.snapshot()
        assert not shown.answers
        assert "401" in shown.obstacle
        assert "wrong-secret" not in shown.obstacle
        assert engine.target(draining=False) is None


async def test_bad_health_is_confirmed_by_a_token() -> None:
    """Health costs nothing and is asked each time; a token decides."""
    server = Server(healthy=True)
    async with _help(server) as engine:
        await engine.probe()
        await engine.probe()
        assert server.canaries == 1
        server.healthy = False
        await engine.probe()
        assert (server.canaries, engine.answers) == (2, True)
        server.status = 500
        await engine.probe()
        target = engine.target(draining=False)
        assert target
        assert (target.ready, target.state) == (False, "unreachable")
        server.status, server.healthy = 200, True
        await engine.probe()
        assert engine.answers


async def test_too_busy_is_an_answer_of_one_that_serves_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """A full queue is work that is being done; before the first token it is a server that loads."""
    monkeypatch.setattr(engines, "CANARY_EVERY_S", 0.0)
    server = Server(status=503)
    async with _help(server) as engine:
        await engine.probe()
        assert not engine.answers
        server.status = 200
        await engine.probe()
        server.status = 429
        await engine.probe()
        assert engine.answers


async def test_sent_home_it_has_to_prove_itself_anew() -> None:
    """And what drains gets nothing new."""
    async with _help(Server()) as engine:
        await engine.probe()
        draining = engine.target(draining=True)
        assert draining
        assert (draining.ready, draining.state) == (False, "draining")
        engine.forget()
        assert engine.target(draining=False) is None


async def test_nobody_there() -> None:
    """The address is named."""
    engine = RemoteHelp("f0", "http://127.0.0.1:9", Failover(), model="m", api="completions")
    await asyncio.wait_for(engine.probe(), 10)
    assert "127.0.0.1:9" in engine.snapshot().obstacle
    await engine.close()
