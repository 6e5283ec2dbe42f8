"""`PUT /settings` on a running gateway: new rules hold at once, and nobody under way notices."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from gateway_harness import (
    RunningGateway,
    emulated_engine,
    gateway_process,
    settings,
    socket_folder,
    target,
    until,
)

from dreamseed_cli.core.errors import DreamseedError, FailedError
from dreamseed_cli.gateway.client import GatewayClient
from dreamseed_cli.gateway.settings import GatewaySettings
from dreamseed_cli.profile.schema import Accounts, Admission, Gateway, Generation, Limits
from dreamseed_cli.supervisor.gateway_admin import GatewayAdmin

_ONE_PLACE = Admission(reserved_for_premium=0, max_queued_standard=2)
_LIMITED = Accounts(limits_free=Limits(requests_per_minute=1))
_FREE = Accounts(limits_free=Limits())


@pytest.fixture
def folder() -> Iterator[Path]:
    """Where a test's sockets are."""
    with socket_folder() as path:
        yield path


async def _put(gateway: RunningGateway, wanted: Gateway) -> None:
    admin = GatewayAdmin(gateway.admin_socket)
    try:
        await admin.set_settings(wanted)
    finally:
        await admin.close()


def _changed(before: GatewaySettings, **changes: Any) -> Gateway:
    return before.gateway.model_copy(update=changes)


async def _ask(gateway: RunningGateway, max_tokens: int = 3, **fields: Any) -> str:
    async with GatewayClient(await asyncio.to_thread(lambda: gateway.address)) as client:
        stream = client.ask("Go on", max_tokens=max_tokens, **fields)
        async for _ in stream:
            pass
        return stream.answer.text


@contextmanager
def _gateway(
    folder: Path, before: GatewaySettings, *, step_ms: float = 2.0, places: int = 32
) -> Iterator[RunningGateway]:
    """A gateway with these settings before one engine."""
    with emulated_engine(folder, "e0", step_ms=step_ms) as engine:
        engines = (target("r0", engine.socket).model_copy(update={"places": places}),)
        with gateway_process(folder, before.model_copy(update={"replicas": engines})) as gateway:
            yield gateway


def test_rules_change_and_calls_under_way_go_on(folder: Path) -> None:
    """A queue longer than its new bound keeps what it has; only the next one is refused, and none after the
    bound is raised again.
    """
    before = settings(folder, admission=_ONE_PLACE, accounts=_FREE)

    async def change(gateway: RunningGateway) -> None:
        running = asyncio.create_task(_ask(gateway, 250))
        await until(lambda: asyncio.to_thread(_outstanding, gateway, 1))
        waiting = [asyncio.create_task(_ask(gateway)) for _ in range(2)]
        await until(lambda: asyncio.to_thread(_queued, gateway, 2))
        await _put(gateway, _changed(before, admission=Admission(max_queued_standard=1)))
        with pytest.raises(DreamseedError, match="2 standard requests wait already"):
            await _ask(gateway)
        await _put(gateway, _changed(before, admission=Admission(max_queued_standard=3)))
        third = asyncio.create_task(_ask(gateway))
        await until(lambda: asyncio.to_thread(_queued, gateway, 3))
        assert all(await asyncio.gather(running, *waiting, third))

    with _gateway(folder, before, step_ms=20, places=1) as gateway:
        asyncio.run(change(gateway))


def test_limits_and_bounds_of_requests(folder: Path) -> None:
    """A limit that is set counts from now on, one that is lifted holds nobody; so do a request's bounds."""
    before = settings(folder, accounts=_FREE)

    async def change(gateway: RunningGateway) -> None:
        for _ in range(3):
            assert await _ask(gateway, user_id="u")
        await _put(gateway, _changed(before, accounts=_LIMITED))
        assert await _ask(gateway, user_id="u")
        with pytest.raises(DreamseedError, match="1 requests a minute are used up"):
            await _ask(gateway, user_id="u")
        await _put(gateway, _changed(before, generation=Generation(max_tokens_limit=2, default_max_tokens=1)))
        assert await _ask(gateway, 2, user_id="u")
        with pytest.raises(DreamseedError, match="allowed are 1 to 2"):
            await _ask(gateway, 3, user_id="u")

    with _gateway(folder, before) as gateway:
        asyncio.run(change(gateway))


def test_what_is_only_read_at_the_start_is_refused_by_name(folder: Path) -> None:
    """As a whole: nothing of it is taken. Any port means the one that it has."""
    before = settings(folder, accounts=_FREE)

    async def change(gateway: RunningGateway) -> None:
        wanted = _changed(
            before, metrics_port=1, accounts=_LIMITED, generation=Generation(max_tokens_limit=2)
        )
        with pytest.raises(FailedError, match="metrics_port cannot change while the gateway runs"):
            await _put(gateway, wanted)
        await _put(gateway, _changed(before, port=0))
        assert await _ask(gateway, 3, user_id="u")
        assert await _ask(gateway, 3, user_id="u")

    with _gateway(folder, before) as gateway:
        asyncio.run(change(gateway))


def test_a_longer_drain_holds_for_the_end_that_follows(folder: Path) -> None:
    """The gateway was started with a tenth of a second, and lets a call of two seconds finish."""
    before = settings(folder, drain_timeout_s=0.1)

    async def change(gateway: RunningGateway) -> None:
        await _put(gateway, _changed(before, drain_timeout_s=30.0))
        running = asyncio.create_task(_ask(gateway, 120))
        await until(lambda: asyncio.to_thread(_outstanding, gateway, 1))
        gateway.process.terminate()
        assert await running

    with _gateway(folder, before, step_ms=20) as gateway:
        asyncio.run(change(gateway))
        assert gateway.process.wait(60) == 0


def _outstanding(gateway: RunningGateway, count: int) -> bool:
    return bool(gateway.stats()["replicas"][0]["outstanding"] == count)


def _queued(gateway: RunningGateway, count: int) -> bool:
    return f'dreamseed_queue_length{{priority="standard"}} {count}.0' in asyncio.run(
        _metrics(gateway.admin_socket)
    )


async def _metrics(admin_socket: Path) -> str:
    admin = GatewayAdmin(admin_socket)
    try:
        return (await admin._call("GET", "/metrics")).decode()
    finally:
        await admin.close()
