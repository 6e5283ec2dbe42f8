"""What becomes of requests that nobody answered: each is one event, whoever refused it, whatever is away."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from typing import Any, cast

import aiohttp
import grpc
import msgspec
import psycopg
import pytest
from api_harness import (
    Behaviour,
    Context,
    RunningFront,
    ScriptedGateway,
    answers,
    front_here,
    front_service,
    scripted_gateway,
    serving,
)
from event_harness import record
from free_ports import free_port
from gateway_harness import (
    RunningGateway,
    emulated_engine,
    gateway_process,
    get_stats,
    settings,
    socket_folder,
    target,
    until,
)

from dreamseed_cli.api import courier, untold
from dreamseed_cli.api.settings import read_settings
from dreamseed_cli.database.migrate import migrate
from dreamseed_cli.gateway.accounts.admin import add_user, create_key
from dreamseed_cli.gateway.accounts.types import Tier
from dreamseed_cli.gateway.events.store import store_records
from dreamseed_cli.gateway.front.service import FrontService
from dreamseed_cli.gateway.proto import EVENT_ID_KEY, REASON_KEY
from dreamseed_cli.gateway.proto.llm_pb2 import GenerateRequest
from dreamseed_cli.gateway.settings import ServiceAddresses

_CHAT = "/v1/chat/completions"
_ASK: dict[str, Any] = {
    "model": "served",
    "messages": [{"role": "user", "content": "a secret prompt"}],
    "priority": "batch",
    "workload": "feedback",
}


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(courier, "_EVERY_S", 0.02)
    monkeypatch.setattr(courier, "_AGAIN_S", 0.1)
    monkeypatch.setattr(untold, "DOUBT_S", 0.3)


@pytest.fixture
def key(postgres_dsn: str) -> str:
    """That of the user ann, in a migrated database."""
    migrate(postgres_dsn)
    with psycopg.connect(postgres_dsn) as connection:
        add_user(connection, "ann", Tier.PAID)
        return create_key(connection, "ann")[0].text


@asynccontextmanager
async def _stack(
    dsn: str, key: str, behaviour: Behaviour = answers, **environment: str
) -> AsyncIterator[tuple[ScriptedGateway, RunningFront, aiohttp.ClientSession]]:
    """A front without a fallback, before a gateway with FrontService, and a client with the key."""
    given = {"gateway_retries": "0", "gateway_timeout_s": "2"} | environment
    async with (
        front_service(dsn) as service,
        scripted_gateway(behaviour, front=service) as gateway,
        front_here(gateway.port, **given) as front,
        _client(front, key) as http,
    ):
        yield gateway, front, http


def _client(front: RunningFront, key: str | None) -> aiohttp.ClientSession:
    headers = {"authorization": f"Bearer {key}"} if key is not None else {}
    return aiohttp.ClientSession(front.url, headers=headers, connector=aiohttp.TCPConnector(limit=50))


async def _ask(http: aiohttp.ClientSession, name: str = "", **more: Any) -> int:
    """The status of one request. name: its x-request-id."""
    headers = {"x-request-id": name} if name else {}
    async with http.post(_CHAT, json=_ASK | more, headers=headers) as reply:
        await reply.read()
        return reply.status


def _events(dsn: str) -> list[dict[str, Any]]:
    """The outbox's, each with its row in `requests`."""
    with psycopg.connect(dsn) as connection:
        found = [json.loads(row[0]) for row in connection.execute("SELECT payload FROM outbox")]
        rows = connection.execute("SELECT event_id, user_id, source, count FROM requests").fetchall()
    told = [(event["event_id"], event["user_id"], event["source"], event["count"]) for event in found]
    assert sorted(told) == sorted(rows)
    return found


def _number(dsn: str) -> int:
    return sum(event["count"] for event in _events(dsn))


def _all_told(front: RunningFront) -> bool:
    return not front.front._courier._untold


async def test_what_the_front_refuses_itself_is_an_event_each(postgres_dsn: str, key: str) -> None:
    """With the user whose key was shown, and nothing of the request's texts. What the gateway answers is the
    gateway's to tell.
    """
    async with _stack(postgres_dsn, key, max_body_bytes="1024") as (_, front, http):
        async with _client(front, None) as stranger, _client(front, "ds_nobodys") as other:
            statuses = [await _ask(stranger), await _ask(other, messages=[])]
        async with http.post(_CHAT, data=b"{") as bad, http.get(_CHAT) as wrong:
            statuses += [bad.status, wrong.status]
        statuses += [await _ask(http, tools=[{}]), await _ask(http, stop="x" * 1024), await _ask(http)]
        assert statuses == [401, 400, 400, 405, 400, 413, 200]
        await until(lambda: len(_events(postgres_dsn)) == 6)
        await until(lambda: _all_told(front))
    events = _events(postgres_dsn)
    assert Counter((event["reason"], event["user_id"]) for event in events) == {
        ("unauthenticated", ""): 1,
        ("invalid_value", ""): 1,
        ("invalid_json", "ann"): 1,
        ("method_not_allowed", ""): 1,
        ("unsupported_parameter", "ann"): 1,
        ("body_too_long", "ann"): 1,
    }
    assert {(event["source"], event["outcome"], event["model"], event["count"]) for event in events} == {
        ("front", "rejected", "served", 1)
    }
    assert len({event["event_id"] for event in events}) == 6
    assert "secret" not in json.dumps(events)


async def test_while_the_gateway_is_away_each_is_kept_until_it_is_back(postgres_dsn: str, key: str) -> None:
    """Those that were tried and those that were not, once each, as they were asked."""
    async with _stack(postgres_dsn, key, gateway_timeout_s="1") as (gateway, front, http):
        await gateway.stop()
        # After five failures the gateway is not asked any more.
        names = [f"r{number}" for number in range(7)]
        assert {await _ask(http, name) for name in names} == {503}
        assert front.front._courier._untold.requests() == 7
        assert _events(postgres_dsn) == []
        await gateway.start()
        await until(lambda: _number(postgres_dsn) == 7)
        await until(lambda: _all_told(front))
    events = _events(postgres_dsn)
    assert sorted(event["request_id"] for event in events) == names
    told = {
        tuple(event[name] for name in ("outcome", "reason", "user_id", "source", "priority", "workload"))
        for event in events
    }
    assert told == {("failed", "unavailable", "ann", "front", "batch", "feedback")}


async def test_what_the_gateway_refused_or_may_have_heard_of_is_one_event(
    postgres_dsn: str, key: str
) -> None:
    """A reason is the gateway's word that it has told. One that died without a word is told by whoever comes,
    under one id.
    """
    ids: list[str] = []

    async def dies(request: GenerateRequest, context: Context, number: int) -> None:
        if number == 1:
            await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "full", ((REASON_KEY, "queue_full"),))
        shown = dict(context.invocation_metadata() or ())
        ids.append(str(shown[EVENT_ID_KEY]))
        if number == 2:
            known = record(ids[0], request_id=request.request_id, user_id="ann")
            async with await psycopg.AsyncConnection.connect(postgres_dsn, autocommit=True) as connection:
                await store_records(connection, [msgspec.json.encode(known)], keep_events=True)
        await context.abort(grpc.StatusCode.UNAVAILABLE, "gone")

    async with _stack(postgres_dsn, key, dies) as (_, front, http):
        assert [await _ask(http, name) for name in ("refused", "heard", "unheard")] == [429, 503, 503]
        await until(lambda: len(_events(postgres_dsn)) == 2)
        await until(lambda: _all_told(front))
    events = {event["event_id"]: (event["request_id"], event["source"]) for event in _events(postgres_dsn)}
    assert events == {ids[0]: ("heard", "gateway"), ids[1]: ("unheard", "front")}


async def test_a_client_that_leaves_before_anybody_was_asked_is_an_event(postgres_dsn: str, key: str) -> None:
    """Its body never came whole; or it waited for a gateway that is away."""
    async with _stack(postgres_dsn, key, gateway_timeout_s="30") as (gateway, front, http):
        _, writer = await asyncio.open_connection("127.0.0.1", front.port)
        writer.write(f"POST {_CHAT} HTTP/1.1\r\nHost: f\r\nAuthorization: Bearer {key}\r\n".encode())
        writer.write(b"Content-Length: 9\r\n\r\n{")
        await writer.drain()
        await until(lambda: _gauge(front, "dreamseed_api_requests_in_flight") == 1)
        writer.close()
        await until(lambda: len(_events(postgres_dsn)) == 1)
        await gateway.stop()
        assert [await _ask(http) for _ in range(5)] == [503] * 5
        waiting = asyncio.create_task(_ask(http))
        await until(lambda: _gauge(front, "dreamseed_api_requests_waiting") == 1)
        waiting.cancel()
        await asyncio.wait({waiting})
        await until(lambda: _gauge(front, "dreamseed_api_requests_in_flight") == 0)
        await gateway.start()
        await until(lambda: _number(postgres_dsn) == 7)
    told = Counter((event["outcome"], event["reason"], event["user_id"]) for event in _events(postgres_dsn))
    assert told == {("cancelled", "caller_left", "ann"): 2, ("failed", "unavailable", "ann"): 5}


def _gauge(front: RunningFront, name: str) -> float | None:
    return front.front._metrics.registry.get_sample_value(name)


async def test_a_flood_is_told_whole_in_few_events(postgres_dsn: str, key: str) -> None:
    """500 calls without a key: so many they stand for, and nobody can fill the database with them."""
    async with _stack(postgres_dsn, key) as (_, front, http):
        async with _client(front, None) as stranger:
            began = asyncio.get_running_loop().time()
            assert set(await asyncio.gather(*(_ask(stranger) for _ in range(500)))) == {401}
            took_s = asyncio.get_running_loop().time() - began
        assert await _ask(http, tools=[{}]) == 400
        await until(lambda: _number(postgres_dsn) == 501)
        await until(lambda: _all_told(front))
    events = _events(postgres_dsn)
    assert len(events) <= (took_s + 2) * 22
    assert [event["user_id"] for event in events if event["reason"] == "unsupported_parameter"] == ["ann"]


async def test_a_front_that_ends_hands_over_what_it_has(postgres_dsn: str, key: str) -> None:
    """Also of a flood that goes on, and what the gateway may tell of itself."""

    async def silent(request: GenerateRequest, context: Context, number: int) -> None:
        await context.abort(grpc.StatusCode.UNAVAILABLE, "gone")

    async with _stack(postgres_dsn, key, silent) as (_, front, http), _client(front, None) as stranger:
        assert set(await asyncio.gather(*(_ask(stranger) for _ in range(40)), _ask(http))) == {401, 503}
    assert _number(postgres_dsn) == 41


class _Older:
    """A gateway's FrontService from before it took refusals."""

    def handler(self) -> grpc.GenericRpcHandler:
        return grpc.method_handlers_generic_handler("dreamseed.front.FrontService", {})


async def test_a_gateway_that_does_not_take_them_yet_is_asked_again(
    postgres_dsn: str, key: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without a word in the log; once it is a newer one, it gets them."""
    async with _stack(postgres_dsn, key) as (gateway, front, http):
        newer, gateway.front = gateway.front, cast("FrontService", _Older())
        await gateway.stop()
        await gateway.start()
        assert await _ask(http, tools=[{}]) == 400
        await until(lambda: front.front._courier._complaint is grpc.StatusCode.UNIMPLEMENTED)
        assert front.front._courier._untold.requests() == 1
        gateway.front = newer
        await gateway.stop()
        await gateway.start()
        await until(lambda: _number(postgres_dsn) == 1)
    assert "not recorded" not in capsys.readouterr().out


async def test_refusals_that_the_gateway_cannot_take_are_lost_and_counted(
    postgres_dsn: str, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They hold up no others."""
    async with _stack(postgres_dsn, key) as (_, front, http):
        with monkeypatch.context() as patched:
            patched.setattr("dreamseed_cli.api.ended.UNKNOWN_PRIORITY", "rubbish")
            assert await _ask(http, tools=[{}]) == 400
            await until(lambda: _all_told(front))
        lost = _gauge(front, "dreamseed_api_refusals_lost_total")
        assert await _ask(http, tools=[{}]) == 400
        await until(lambda: _number(postgres_dsn) == 1)
    assert lost == 1


async def test_a_request_under_way_when_the_gateway_is_killed_is_one_event(postgres_dsn: str) -> None:
    """The next gateway finds it in the journal, the front got no word of it: both tell, under one id."""
    migrate(postgres_dsn)
    with (
        socket_folder() as folder,
        emulated_engine(folder, "e0", step_ms=50) as engine,
        ExitStack() as gateways,
    ):
        services = ServiceAddresses(postgres_dsn=postgres_dsn, journal=str(folder / "journal"))
        given = settings(folder, target("r0", engine.socket), port=free_port())
        wanted = given.model_copy(update={"services": services})
        environment = {"GPU_ENDPOINT": f"127.0.0.1:{wanted.gateway.port}", "GATEWAY_RETRIES": "0"}
        gateway = await asyncio.to_thread(gateways.enter_context, gateway_process(folder, wanted))
        async with (
            serving(read_settings(environment, allow_anonymous=True)) as front,
            _client(front, None) as http,
        ):
            asking = asyncio.create_task(_ask(http, "mine", max_tokens=2000))
            await until(lambda: _stat(gateway, "calls", 1))
            gateway.process.kill()
            assert await asking == 503
            anew = await asyncio.to_thread(gateways.enter_context, gateway_process(folder, wanted))
            await until(lambda: bool(_events(postgres_dsn)) and _all_told(front))
            await until(lambda: _stat(anew, "journal_bytes", 0))
    (event,) = _events(postgres_dsn)
    assert (event["request_id"], event["outcome"]) == ("mine", "failed")
    assert (event["reason"], event["source"]) in {("gateway_lost", "gateway"), ("unavailable", "front")}


async def _stat(gateway: RunningGateway, name: str, wanted: int) -> bool:
    return bool((await get_stats(gateway.admin_socket))[name] == wanted)
