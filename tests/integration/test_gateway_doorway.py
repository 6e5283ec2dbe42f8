"""`PUT /doorway` on a running gateway: who is let in while the box saves power, or is about to stop."""

from __future__ import annotations

import asyncio
from pathlib import Path

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

from dreamseed_cli.core.errors import DreamseedError
from dreamseed_cli.gateway.client import GatewayClient
from dreamseed_cli.gateway.doorway import DoorOrder, Letting
from dreamseed_cli.gateway.proto.llm_pb2 import BATCH, PREMIUM, STANDARD
from dreamseed_cli.profile.schema import Accounts, Limits
from dreamseed_cli.supervisor.gateway_admin import GatewayAdmin, GatewayStats


async def _ask(gateway: RunningGateway, priority: int, max_tokens: int = 3) -> str:
    async with GatewayClient(await asyncio.to_thread(lambda: gateway.address)) as client:
        stream = client.ask("Go on", max_tokens=max_tokens, priority=priority)
        async for _ in stream:
            pass
        return stream.answer.text


async def _order(gateway: RunningGateway, letting: Letting, **settings: float) -> GatewayStats:
    admin = GatewayAdmin(gateway.admin_socket)
    try:
        return await admin.set_doorway(DoorOrder(letting=letting, **settings))
    finally:
        await admin.close()


async def _walk_through(gateway: RunningGateway) -> None:
    await _order(gateway, Letting.NO_BATCH, retry_after_s=90.0)
    with pytest.raises(DreamseedError, match="background work rests for now") as paused:
        await _ask(gateway, BATCH)
    assert "RESOURCE_EXHAUSTED" in str(paused.value)
    assert await _ask(gateway, STANDARD)

    running = asyncio.create_task(_ask(gateway, PREMIUM, 120))

    async def under_way() -> bool:
        return (await _order(gateway, Letting.NO_BATCH)).calls == 1

    await until(under_way)
    await _order(gateway, Letting.NOBODY)
    with pytest.raises(DreamseedError, match="about to stop") as closing:
        await _ask(gateway, PREMIUM)
    assert "UNAVAILABLE" in str(closing.value)
    assert await running

    async def none_left() -> bool:
        return (await _order(gateway, Letting.NOBODY, for_s=0.5)).calls == 0

    await until(none_left)
    await asyncio.sleep(0.6)
    assert await _ask(gateway, BATCH)


def test_work_is_refused_and_what_is_under_way_goes_on(tmp_path: Path) -> None:
    """BATCH first, then everybody; each is told when to come back. An order that is not renewed ends."""
    free = Accounts(unknown_user_tier="paid", limits_free=Limits())
    with (
        socket_folder() as folder,
        emulated_engine(folder, "e0", step_ms=20.0) as engine,
        gateway_process(
            folder,
            settings(folder, accounts=free).model_copy(update={"replicas": (target("r0", engine.socket),)}),
        ) as gateway,
    ):
        asyncio.run(_walk_through(gateway))
