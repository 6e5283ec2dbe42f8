"""Calls of nobody known at the real gateway are events, however many; and ids that callers choose."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import psycopg
import pytest
from gateway_harness import gateway_here, settings, until

from dreamseed_cli.database.migrate import migrate
from dreamseed_cli.gateway.proto import EVENT_ID_KEY, GENERATE, REASON_KEY
from dreamseed_cli.gateway.proto.llm_pb2 import GenerateRequest
from dreamseed_cli.gateway.security.tokens import new_token
from dreamseed_cli.gateway.server import GatewayServer
from dreamseed_cli.gateway.settings import ServiceAddresses
from dreamseed_cli.profile.schema import Security

_TOKEN = new_token()


@pytest.fixture
async def gateway(tmp_path: Path, postgres_dsn: str) -> AsyncIterator[GatewayServer]:
    """With PostgreSQL and a service token, and without an engine: nothing here gets that far."""
    migrate(postgres_dsn)
    tokens = tmp_path / "tokens"
    tokens.touch(0o600)
    tokens.write_text(_TOKEN)
    security = Security(service_tokens_file=str(tokens), require_authentication=True)
    services = ServiceAddresses(postgres_dsn=postgres_dsn, journal=str(tmp_path / "journal"))
    given = settings(tmp_path, security=security).model_copy(update={"services": services})
    async with gateway_here(given) as running:
        yield running


async def _refused(channel: grpc.aio.Channel, token: str, **metadata: str) -> str:
    """The reason of a call with this bearer token that is not in order."""
    call: Any = channel.unary_unary(GENERATE, GenerateRequest.SerializeToString)
    shown = (("authorization", f"Bearer {token}"), *metadata.items())
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call(GenerateRequest(prompt="Why?", max_tokens=-1), metadata=shown, timeout=60)
    return str(dict(caught.value.trailing_metadata() or ())[REASON_KEY])


def _events(dsn: str) -> list[dict[str, Any]]:
    with psycopg.connect(dsn) as connection:
        return [json.loads(row[0]) for row in connection.execute("SELECT payload FROM outbox")]


async def test_500_calls_with_a_wrong_token_are_few_events_that_stand_for_all(
    gateway: GatewayServer, postgres_dsn: str
) -> None:
    """Of nobody's; and a user's refusal among them is an event of its own."""

    def number() -> int:
        return sum(event["count"] for event in _events(postgres_dsn))

    began = asyncio.get_running_loop().time()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{gateway.port}") as channel:
        reasons = await asyncio.gather(*(_refused(channel, "dss_wrong") for _ in range(500)))
        assert await _refused(channel, _TOKEN) == "invalid_argument"
    took_s = asyncio.get_running_loop().time() - began
    assert set(reasons) == {"unauthenticated"}
    await until(lambda: number() == 501)
    events = _events(postgres_dsn)
    assert len(events) <= (took_s + 2) * 22
    assert {(event["user_id"], event["outcome"], event["source"]) for event in events} == {
        ("", "rejected", "gateway")
    }
    assert [event["count"] for event in events if event["reason"] == "invalid_argument"] == [1]


async def test_a_trusted_caller_may_choose_the_id_of_its_requests_event(
    gateway: GatewayServer, postgres_dsn: str
) -> None:
    """A UUID, in whatever spelling; nobody else, and nothing else."""
    chosen = str(uuid.uuid4())
    async with grpc.aio.insecure_channel(f"127.0.0.1:{gateway.port}") as channel:
        await _refused(channel, _TOKEN, **{EVENT_ID_KEY: chosen.upper()})
        await _refused(channel, _TOKEN, **{EVENT_ID_KEY: "seven"})
        await _refused(channel, "ds_nobodys", **{EVENT_ID_KEY: str(uuid.uuid4())})
    await until(lambda: len(_events(postgres_dsn)) == 3)
    versions = {uuid.UUID(event["event_id"]).version for event in _events(postgres_dsn)}
    assert versions == {4, 7}
    assert [event["event_id"] for event in _events(postgres_dsn)].count(chosen) == 1
