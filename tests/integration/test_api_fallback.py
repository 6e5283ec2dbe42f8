"""The fallback: who gets it, what it costs, what happens when it fails. Leases live in PostgreSQL."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from decimal import Decimal
from typing import Any

import aiohttp
import grpc
import openai
import psycopg
import pytest
from aiohttp import web
from api_harness import (
    FALLBACK_MODEL,
    KEY,
    Behaviour,
    Context,
    RunningFront,
    ScriptedGateway,
    answers,
    fallback_engine,
    front_here,
    front_service,
    parts,
    scripted_gateway,
)
from gateway_harness import socket_folder, until
from prometheus_client.parser import text_string_to_metric_families

from dreamseed_cli.api.fallback.keeper import Keeper
from dreamseed_cli.api.fallback.unsent import Unsent
from dreamseed_cli.api.fallback.wallet import Wallet
from dreamseed_cli.api.line import Line
from dreamseed_cli.api.metrics import ApiMetrics
from dreamseed_cli.api.settings import read_settings
from dreamseed_cli.database.migrate import migrate
from dreamseed_cli.gateway.accounts.keys import new_key
from dreamseed_cli.gateway.front import MOST_AT_ONCE
from dreamseed_cli.gateway.proto.front_pb2 import EndedRequest
from dreamseed_cli.gateway.proto.llm_pb2 import GenerateRequest

_ASK: dict[str, Any] = {
    "model": "served",
    "messages": [{"role": "user", "content": "Hello"}],
    "max_tokens": 20,
}
_PRICES = {
    "fallback_model": FALLBACK_MODEL,
    "fallback_input_usd_per_mtok": "100",
    "fallback_output_usd_per_mtok": "1000",
    "fallback_monthly_cap_usd": "1",
    "fallback_lease_usd": "0.1",
    # One failure is enough to know in these tests.
    "gateway_retries": "0",
}


@pytest.fixture(scope="module")
def provider() -> Iterator[str]:
    """Somebody else's service."""
    with socket_folder() as folder, fallback_engine(folder) as url:
        yield url


@pytest.fixture
def dsn(postgres_dsn: str) -> str:
    """A migrated database."""
    migrate(postgres_dsn)
    return postgres_dsn


@asynccontextmanager
async def _stack(
    dsn: str, url: str, behaviour: Behaviour = answers, **environment: str
) -> AsyncIterator[tuple[ScriptedGateway, RunningFront, aiohttp.ClientSession]]:
    """A front that holds a lease and knows the key, before a gateway with FrontService."""
    async with (
        front_service(dsn) as service,
        scripted_gateway(behaviour, front=service) as gateway,
        front_here(gateway.port, fallback_url=url, **(_PRICES | environment)) as front,
        aiohttp.ClientSession(front.url, headers={"authorization": f"Bearer {KEY}"}) as http,
    ):
        await until(lambda: _lent(dsn))
        await until(lambda: _has(http, "dreamseed_api_fallback_left_usd"))
        async with http.post("/v1/chat/completions", json=_ASK) as reply:
            assert reply.headers["x-dreamseed-source"] == "gateway"
        yield gateway, front, http


def _rows(dsn: str) -> list[tuple[Decimal, Decimal | None]]:
    """Leases of the present month: in its last two hours there are the next one's, too."""
    with psycopg.connect(dsn) as connection:
        return connection.execute(
            "SELECT granted_usd, spent_usd FROM fallback_leases"
            " WHERE month = (SELECT min(month) FROM fallback_leases) ORDER BY granted_at"
        ).fetchall()


def _lent(dsn: str) -> bool:
    return bool(_rows(dsn))


async def _metric(http: aiohttp.ClientSession, name: str, **labels: str) -> float:
    async with http.get("/metrics") as reply:
        families = text_string_to_metric_families(await reply.text())
    return sum(
        sample.value
        for family in families
        for sample in family.samples
        if sample.name == name and labels.items() <= sample.labels.items()
    )


async def _has(http: aiohttp.ClientSession, name: str) -> bool:
    return await _metric(http, name) > 0


async def test_while_the_gateway_is_away_somebody_else_answers(dsn: str, provider: str) -> None:
    """Whole and streamed, under the other model's own name and with a label; the money is accounted for."""
    async with _stack(dsn, provider) as (gateway, front, http):
        await gateway.stop()
        async with openai.AsyncOpenAI(base_url=f"{front.url}/v1", api_key=KEY, max_retries=0) as client:
            raw = await client.chat.completions.with_raw_response.create(**_ASK)
            whole = raw.parse()
            assert raw.headers["x-dreamseed-source"] == "fallback"
            assert whole.model == FALLBACK_MODEL
            stream = await client.chat.completions.create(**_ASK, stream=True)
            assert stream.response.headers["x-dreamseed-source"] == "fallback"
            chunks = [chunk async for chunk in stream]
        assert {chunk.model for chunk in chunks} == {FALLBACK_MODEL}
        assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
        assert all(chunk.usage is None for chunk in chunks)
        assert whole.usage is not None
        prompt, answer = whole.usage.prompt_tokens, whole.usage.completion_tokens
        spent = await _metric(http, "dreamseed_api_fallback_spent_usd_total")
        assert spent == pytest.approx(2 * (prompt * 100 + answer * 1000) / 1e6)
        assert await _metric(http, "dreamseed_api_fallback_requests_total", outcome="answered") == 2
        assert await _metric(http, "dreamseed_api_requests_total", source="fallback") == 2
        await gateway.start()
        await until(lambda: len(_rows(dsn)) == 2)
        (first, settled), (_, open_) = _rows(dsn)
    assert (first, open_) == (Decimal("0.100000"), None)
    assert float(settled or 0) == pytest.approx(spent)


async def test_a_streamed_answer_asked_with_usage_has_it(dsn: str, provider: str) -> None:
    """The usage chunk is passed on to who asked for it."""
    async with _stack(dsn, provider) as (gateway, _, http):
        await gateway.stop()
        body = _ASK | {"stream": True, "stream_options": {"include_usage": True}}
        async with http.post("/v1/chat/completions", json=body) as reply:
            lines = (await reply.text()).strip().split("\n\n")
    assert lines[-1] == "data: [DONE]"
    assert json.loads(lines[-2].removeprefix("data: "))["usage"]["completion_tokens"] > 0


async def test_the_money_ends_and_nothing_is_given_away(dsn: str, provider: str) -> None:
    """Requests are answered until the lease is used up; then 503 says why. The cap holds in the table."""
    async with _stack(dsn, provider, fallback_monthly_cap_usd="0.09") as (gateway, _, http):
        await gateway.stop()
        statuses = []
        for _ in range(12):
            async with http.post("/v1/chat/completions", json=_ASK) as reply:
                statuses.append(reply.status)
                body = await reply.json()
        assert statuses[0] == 200
        assert statuses[-1] == 503
        assert "no money left" in body["error"]["message"]
        assert await _metric(http, "dreamseed_api_fallback_requests_total", outcome="no_money") >= 1
        assert await _metric(http, "dreamseed_api_fallback_spent_usd_total") <= 0.09
        await gateway.start()
        await until(lambda: _rows(dsn)[0][1] is not None)
        # One event each: of the answers with the account, of the others as the front's refusals.
        await until(lambda: len(_events(dsn)) == 12)
    told = [(event["source"], event["reason"]) for event in _events(dsn)]
    assert told.count(("fallback", None)) == statuses.count(200)
    assert told.count(("front", "no_money")) == statuses.count(503)
    assert sum(spent if spent is not None else granted for granted, spent in _rows(dsn)) <= Decimal("0.09")


async def test_keys_that_the_gateway_never_accepted_get_nothing(dsn: str, provider: str) -> None:
    """Nobody can check a key while the gateway is away: one that was refused or never seen is turned down."""

    async def knows_one(request: GenerateRequest, context: Context, number: int) -> None:
        shown = dict(context.invocation_metadata() or ()).get("x-user-key")
        if shown == "ds_revoked":
            await context.abort(grpc.StatusCode.UNAUTHENTICATED, "the key is unknown")
        await answers(request, context, number)

    async with _stack(dsn, provider, knows_one) as (gateway, _, http):
        stranger = {"authorization": "Bearer ds_stranger"}
        revoked = {"authorization": "Bearer ds_revoked"}
        async with http.post("/v1/chat/completions", json=_ASK, headers=revoked) as reply:
            assert reply.status == 401
        await gateway.stop()
        for headers in (stranger, revoked):
            async with http.post("/v1/chat/completions", json=_ASK, headers=headers) as reply:
                assert reply.status == 503
                assert "cannot check this key" in (await reply.json())["error"]["message"]
        async with http.post("/v1/chat/completions", json=_ASK) as reply:
            assert reply.status == 200
        await gateway.start()
        await until(lambda: len(_events(dsn)) == 4)
    told = sorted((event["source"], str(event["reason"])) for event in _events(dsn))
    refused = [("front", "unauthenticated"), *[("front", "unknown_key")] * 2]
    assert told == [("fallback", "None"), *refused]
    async with _stack(dsn, provider, fallback_for="any_key") as (gateway, _, http):
        await gateway.stop()
        async with http.post("/v1/chat/completions", json=_ASK, headers=stranger) as reply:
            assert reply.status == 200


async def test_an_answer_that_has_begun_is_never_finished_by_another_model(dsn: str, provider: str) -> None:
    """A gateway that dies midway gives answer_cut, though the fallback could speak."""

    async def dies(request: GenerateRequest, context: Context, number: int) -> None:
        if number == 1:
            await answers(request, context, number)
            return
        await context.write(parts("one ")[0])
        await context.abort(grpc.StatusCode.UNAVAILABLE, "gone")

    async with _stack(dsn, provider, dies) as (_, _, http):
        async with http.post("/v1/chat/completions", json=_ASK | {"stream": True}) as reply:
            lines = (await reply.text()).strip().split("\n\n")
        assert json.loads(lines[-1].removeprefix("data: "))["error"]["code"] == "answer_cut"
        assert not any("[DONE]" in line for line in lines)
        assert await _metric(http, "dreamseed_api_fallback_requests_total") == 0


async def test_refusals_of_the_gateway_are_final(dsn: str, provider: str) -> None:
    """A full queue, a wrong request or a slow answer is no reason to spend money."""
    codes = [
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        grpc.StatusCode.INVALID_ARGUMENT,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.INTERNAL,
    ]

    async def refuses(request: GenerateRequest, context: Context, number: int) -> None:
        if number > 1:
            await context.abort(codes[number - 2], "no")
        await answers(request, context, number)

    async with _stack(dsn, provider, refuses) as (_, _, http):
        for status in (429, 400, 504, 500):
            async with http.post("/v1/chat/completions", json=_ASK) as reply:
                assert reply.status == status
        assert await _metric(http, "dreamseed_api_fallback_requests_total") == 0


def _events(dsn: str) -> list[dict[str, Any]]:
    with psycopg.connect(dsn) as connection:
        return [
            json.loads(row[0]) for row in connection.execute("SELECT payload FROM outbox ORDER BY sequence")
        ]


def _register(dsn: str, user_id: str) -> dict[str, str]:
    """The headers of a new user."""
    key = new_key()
    with psycopg.connect(dsn) as connection:
        connection.execute("INSERT INTO users (id, tier) VALUES (%s, 'paid')", (user_id,))
        connection.execute(
            "INSERT INTO api_keys (user_id, hash, prefix) VALUES (%s, %s, %s)",
            (user_id, key.hash, key.prefix),
        )
    return {"authorization": f"Bearer {key.text}"}


async def test_answers_of_the_fallback_are_events_once_the_gateway_is_back(dsn: str, provider: str) -> None:
    """One for each, whole, streamed or failed, with its user, and without a word of it; none of the gateway's
    own answer, which is the gateway's to tell.
    """
    headers = _register(dsn, "u1")
    async with (
        _bad_provider() as (_, refusing),
        _stack(dsn, provider, fallback_lease_usd="0.5") as (gateway, front, http),
    ):
        await _ask(http, _ASK, headers)
        await gateway.stop()
        body = _ASK | {"workload": "feedback", "priority": "batch"}
        whole = await _ask(http, body, headers | {"x-request-id": "mine"})
        usage = json.loads(whole)["usage"]
        await _ask(http, body | {"stream": True}, headers)
        assert front.front._fallback is not None
        front.front._fallback.provider._url = refusing
        await _ask(http, body, headers, status=503)
        assert await _metric(http, "dreamseed_api_fallback_events_unsent") == 3
        assert _events(dsn) == []
        await gateway.start()
        await until(lambda: len(_events(dsn)) == 3)
        await until(lambda: _all_sent(http))
    first, second, third = events = _events(dsn)
    assert {(event["user_id"], event["source"], event["model"]) for event in events} == {
        ("u1", "fallback", FALLBACK_MODEL)
    }
    assert {(event["workload"], event["priority"]) for event in events} == {("feedback", "batch")}
    assert [event["outcome"] for event in events] == ["finished", "finished", "failed"]
    assert [event["reason"] for event in events] == [None, None, "fallback_failed"]
    assert first["request_id"] == "mine"
    for event in (first, second):
        assert event["prompt_tokens"] == usage["prompt_tokens"]
        assert event["completion_tokens"] == usage["completion_tokens"]
        assert event["finish_reason"] in {"stop", "length"}
    assert (first["ttft_s"], third["completion_tokens"]) == (None, None)
    assert 0 < second["ttft_s"] <= second["duration_s"]


async def _all_sent(http: aiohttp.ClientSession) -> bool:
    return not await _has(http, "dreamseed_api_fallback_events_unsent")


async def _ask(
    http: aiohttp.ClientSession, body: dict[str, Any], headers: dict[str, str], status: int = 200
) -> str:
    async with http.post("/v1/chat/completions", json=body, headers=headers) as reply:
        assert reply.status == status
        return await reply.text()


async def test_a_client_that_leaves_the_fallback_is_an_event(dsn: str) -> None:
    """`cancelled`, as with the gateway; even though nothing more is heard of that answer."""
    async with (
        _bad_provider() as (bad, url),
        _stack(dsn, url, fallback_lease_usd="0.5") as (gateway, _, http),
    ):
        await gateway.stop()
        bad.how = "hang"
        async with http.post("/v1/chat/completions", json=_ASK | {"stream": True}) as reply:
            await reply.content.readany()
        await until(lambda: _has(http, "dreamseed_api_fallback_events_unsent"))
        bad.going.set()
        await gateway.start()
        await until(lambda: len(_events(dsn)) == 1)
    (event,) = _events(dsn)
    assert (event["outcome"], event["user_id"], event["reason"]) == ("cancelled", "", None)


async def test_a_front_that_ends_says_so_in_the_fallbacks_answer(dsn: str) -> None:
    """As in the gateway's: with what there is of it, and no [DONE]. The answer's own end keeps nobody up."""
    path, headers = "/v1/chat/completions", {"authorization": f"Bearer {KEY}"}
    async with asyncio.timeout(15) as bound, _bad_provider() as (bad, url), aiohttp.ClientSession() as http:
        async with _stack(dsn, url, drain_timeout_s="1") as (gateway, front, _):
            await gateway.stop()
            bad.how = "hang"
            reply = await http.post(front.url + path, json=_ASK | {"stream": True}, headers=headers)
            await reply.content.readuntil(b"\n\n")
        rest = (await reply.text()).strip()
        bad.going.set()
    assert not bound.expired(), "the front did not end by itself"
    error = json.loads(rest.removeprefix("data: "))["error"]
    assert (error["code"], error["emitted_text"]) == ("answer_cut", "Hi")


@asynccontextmanager
async def _keeper(dsn: str, *answers: EndedRequest) -> AsyncIterator[tuple[Keeper, Unsent, ApiMetrics]]:
    """A keeper that nobody started, with these answers of a lease it holds."""
    async with front_service(dsn) as service, scripted_gateway(front=service) as gateway:
        metrics, wallet = ApiMetrics(), Wallet()
        unsent = Unsent(metrics.fallback_events_lost.inc)
        line = Line(read_settings({"GPU_ENDPOINT": f"127.0.0.1:{gateway.port}"}), metrics)
        keeper = Keeper(line, wallet, metrics, unsent, lease=Decimal(1), cap=Decimal(10))
        await keeper.tend()
        (lease, *_) = wallet.leases()
        reservation = wallet.reserve(Decimal(1), lease.month)
        assert reservation is not None
        wallet.settle(reservation, Decimal("0.25"))
        for answer in answers:
            unsent.add(reservation.lease.id, answer)
        try:
            yield keeper, unsent, metrics
        finally:
            await line.close()


def _answer(number: int, **fields: Any) -> EndedRequest:
    given: dict[str, Any] = {
        "event_id": str(uuid.UUID(int=number)),
        "outcome": "finished",
        "priority": "premium",
        "arrived_at": 1.0,
    }
    return EndedRequest(**given | fields)


async def test_a_front_that_ends_hands_over_what_it_has(dsn: str) -> None:
    """All of it, with as many calls as that takes."""
    count = 2 * MOST_AT_ONCE + 50
    async with _keeper(dsn, *map(_answer, range(count))) as (keeper, unsent, _):
        await keeper.stop()
        assert len(unsent) == 0
    events = _events(dsn)
    assert [event["event_id"] for event in events] == [_answer(number).event_id for number in range(count)]
    assert Decimal("0.25") in [spent for _, spent in _rows(dsn)]


async def test_answers_that_the_gateway_refuses_do_not_keep_the_account_back(dsn: str) -> None:
    """They are counted as lost; the money is accounted for without them, even at the front's end."""
    async with _keeper(dsn, _answer(1, arrived_at=1e300)) as (keeper, unsent, metrics):
        await keeper.stop()
        assert Decimal("0.25") in [spent for _, spent in _rows(dsn)]
        assert len(unsent) == 0
        lost = metrics.registry.get_sample_value("dreamseed_api_fallback_events_lost_total")
    assert (lost, _events(dsn)) == (1, [])


class _BadProvider:
    """A service that misbehaves as told."""

    def __init__(self) -> None:
        self.how = "refuse"
        self.going = asyncio.Event()
        self.asked: list[tuple[dict[str, Any], str]] = []

    async def __call__(self, request: web.Request) -> web.StreamResponse:
        self.asked.append((await request.json(), request.headers.get("authorization", "")))
        if self.how == "refuse":
            return web.json_response({"error": {"message": "secret details"}}, status=429)
        if self.how == "garbage":
            return web.Response(text="<html>captive portal</html>")
        if self.how == "no usage":
            return web.json_response({"model": "other", "choices": [{"message": {"content": "Hi"}}]})
        reply = web.StreamResponse()
        await reply.prepare(request)
        await reply.write(b'data: {"model":"other","choices":[{"delta":{"content":"Hi"}}]}\n\n')
        if self.how == "error event":
            await reply.write(b'data: {"error":{"message":"overloaded"}}\n\n')
        if self.how == "hang":
            await self.going.wait()
        if request.transport is not None and self.how == "cut":
            request.transport.close()
        return reply


@asynccontextmanager
async def _bad_provider() -> AsyncIterator[tuple[_BadProvider, str]]:
    handler = _BadProvider()
    app = web.Application()
    app.router.add_post("/v1/chat/completions", handler.__call__)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield handler, f"{site.name}/v1"
    finally:
        with suppress(ConnectionError):
            await runner.cleanup()


async def test_a_fallback_that_fails_is_told_and_paid_for_with_care(dsn: str) -> None:
    """A refusal costs nothing; what may have been generated and was not counted costs all that was set
    aside; its words never reach the client. No identity goes there but the key of its own.
    """
    most = Decimal(100 * (5 + 32) + 1000 * 20) / 1_000_000
    async with (
        _bad_provider() as (bad, url),
        _stack(dsn, url, fallback_api_key="sk-x", fallback_lease_usd="0.5") as (gateway, _, http),
    ):
        await gateway.stop()
        spent = Decimal(0)
        for how, stream, status, costs in (
            ("refuse", False, 503, False),
            ("refuse", True, 503, False),
            ("garbage", False, 503, True),
            ("no usage", False, 200, True),
        ):
            bad.how = how
            body = _ASK | {"stream": stream, "user": "u7", "priority": "batch"}
            async with http.post("/v1/chat/completions", json=body) as reply:
                assert reply.status == status, how
                assert "secret details" not in await reply.text()
            spent += most if costs else 0
            found = await _metric(http, "dreamseed_api_fallback_spent_usd_total")
            assert found == pytest.approx(float(spent)), how
        for how in ("error event", "cut", "ends"):
            bad.how = how
            async with http.post("/v1/chat/completions", json=_ASK | {"stream": True}) as reply:
                lines = (await reply.text()).strip().split("\n\n")
            error = json.loads(lines[-1].removeprefix("data: "))["error"]
            assert (error["code"], error["emitted_text"]) == ("answer_cut", "Hi"), how
        body, shown = bad.asked[0]
        assert shown == "Bearer sk-x"
        assert body == {
            "model": FALLBACK_MODEL,
            "messages": [{"role": "user", "content": "Hello"}],
            "max_tokens": 20,
            "temperature": 0.7,
        }
