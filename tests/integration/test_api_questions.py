"""GET /v1/questions/{id} and /v1/models: PostgreSQL through FrontService through the front, for a CDN."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import cast

import aiohttp
import openai
import psycopg
import pytest
import real_services
from api_harness import KEY, MODEL, RunningFront, any_user, front_here, front_service, scripted_gateway
from gateway_harness import until

from dreamseed_cli.core.dependency import DependencyDown
from dreamseed_cli.database.migrate import migrate
from dreamseed_cli.gateway.front.service import FrontService
from dreamseed_cli.gateway.front.store import FrontStore, StoredQuestion


@pytest.fixture
def dsn(postgres_dsn: str) -> str:
    """A migrated database with one question."""
    migrate(postgres_dsn)
    _store(postgres_dsn, "INSERT INTO questions VALUES ('q 1', '{\"b\": 1, \"a\": \"수도\"}', '2026-11-10Z')")
    return postgres_dsn


def _store(dsn: str, statement: str) -> None:
    with psycopg.connect(dsn) as connection:
        connection.execute(statement)


@pytest.fixture
async def front(dsn: str) -> AsyncIterator[RunningFront]:
    """A front whose gateway has FrontService."""
    async with (
        front_service(dsn) as service,
        scripted_gateway(front=service) as gateway,
        front_here(gateway.port) as running,
    ):
        yield running


@pytest.fixture
async def http(front: RunningFront) -> AsyncIterator[aiohttp.ClientSession]:
    """A client without a key, as a CDN is."""
    async with aiohttp.ClientSession(front.url) as session:
        yield session


async def test_a_question_is_for_every_cache(http: aiohttp.ClientSession) -> None:
    """Five minutes, public, with a strong validator that answers 304; HEAD tells the same."""
    async with http.get("/v1/questions/q%201") as reply:
        assert reply.status == 200
        assert reply.headers["cache-control"] == "public, max-age=300"
        assert reply.headers["content-type"] == "application/json"
        etag = reply.headers["etag"]
        assert etag.startswith('"')
        assert await reply.json() == {
            "id": "q 1",
            "updated_at": "2026-11-10T00:00:00Z",
            "content": {"a": "수도", "b": 1},
        }
    for tags in (etag, f"W/{etag}", f'"other", {etag}', "*"):
        async with http.get("/v1/questions/q%201", headers={"if-none-match": tags}) as reply:
            assert (reply.status, await reply.read(), reply.headers["etag"]) == (304, b"", etag)
            assert "content-length" not in reply.headers
            assert reply.headers["cache-control"] == "public, max-age=300"
            assert "content-length" not in reply.headers, "it would be that of the answer that is not sent"
    async with http.head("/v1/questions/q%201", headers={"if-none-match": '"other"'}) as reply:
        assert (reply.status, reply.headers["etag"]) == (200, etag)
    async with http.get("/metrics") as reply:
        counted = await reply.text()
    for status, times in (("200", 2.0), ("304", 4.0)):
        labels = f'route="/v1/questions/{{question_id}}",source="front",status="{status}"'
        assert f"dreamseed_api_requests_total{{{labels}}} {times}" in counted


async def test_a_changed_question_has_another_etag(http: aiohttp.ClientSession, dsn: str) -> None:
    """The old validator no longer gets 304."""
    async with http.get("/v1/questions/q%201") as reply:
        etag = reply.headers["etag"]
    _store(dsn, "UPDATE questions SET content = '{\"a\": 2}'")
    async with http.get("/v1/questions/q%201", headers={"if-none-match": etag}) as reply:
        assert reply.status == 200
        assert reply.headers["etag"] != etag
        assert (await reply.json())["content"] == {"a": 2}


async def test_a_missing_question_is_cached_for_a_shorter_time(http: aiohttp.ClientSession) -> None:
    """404 in OpenAI's error shape; an id that cannot be is 400 and not cached."""
    async with http.get("/v1/questions/nothing") as reply:
        assert (reply.status, reply.headers["cache-control"]) == (404, "public, max-age=30")
        assert (await reply.json())["error"]["code"] == "not_found"
    async with http.get("/v1/questions/" + "x" * 300) as reply:
        assert (reply.status, reply.headers["cache-control"]) == (400, "no-store")


async def test_the_models_are_listed(front: RunningFront) -> None:
    """By OpenAI's client; what is not there is its NotFoundError."""
    async with openai.AsyncOpenAI(base_url=f"{front.url}/v1", api_key=KEY, max_retries=0) as client:
        assert [model.id async for model in client.models.list()] == [MODEL]
        assert (await client.models.retrieve(MODEL)).owned_by == "dreamseed"
        with pytest.raises(openai.NotFoundError):
            await client.models.retrieve("other")


async def test_a_gateway_that_is_started_anew_costs_a_question_time_only(dsn: str) -> None:
    """The CDN's request waits for it as an answer's would."""
    async with (
        front_service(dsn) as service,
        scripted_gateway(front=service) as gateway,
        front_here(gateway.port, gateway_retries="1") as front,
        aiohttp.ClientSession(front.url) as http,
    ):
        await gateway.stop()
        asking = asyncio.create_task(_found(http, "q%201"))
        await until(lambda: _says(http, "dreamseed_api_requests_waiting 1.0"))
        await gateway.start()
        assert await asking


async def test_while_postgres_is_away_no_cache_keeps_the_failure() -> None:
    """503 with no-store; the question is there again when PostgreSQL is."""
    with (
        tempfile.TemporaryDirectory(prefix="ds-pq-") as folder,
        real_services.postgres(Path(folder)) as server,
    ):
        dsn = server.new_database()
        migrate(dsn)
        async with (
            front_service(dsn) as service,
            scripted_gateway(front=service) as gateway,
            front_here(gateway.port, gateway_retries="0") as front,
            aiohttp.ClientSession(front.url) as http,
        ):
            server.kill()
            async with http.get("/v1/questions/q1") as reply:
                assert (reply.status, reply.headers["cache-control"]) == (503, "no-store")
            server.start()
            _store(dsn, "INSERT INTO questions VALUES ('q1', '{}')")
            await until(lambda: _found(http))


class _AwayStore:
    """PostgreSQL, when it does not answer."""

    async def question(self, question_id: str) -> None:
        raise DependencyDown("it did not answer within 1000 ms", place="postgres-front")


async def test_a_gateway_without_its_postgres_is_not_to_blame() -> None:
    """Its breaker stays closed however often questions fail: it has answers to give."""
    store = cast("FrontStore", _AwayStore())
    service = FrontService([MODEL], lambda _: True, store, check_user=any_user)
    async with (
        scripted_gateway(front=service) as gateway,
        front_here(gateway.port, gateway_retries="0") as front,
        aiohttp.ClientSession(front.url) as http,
    ):
        assert not any([await _found(http) for _ in range(8)])
        assert await _says(http, "dreamseed_api_breaker_state 0.0")


class _HeldStore:
    """PostgreSQL, which answers when it is told to."""

    def __init__(self) -> None:
        self.asked = 0
        self.answer = asyncio.Event()

    async def question(self, question_id: str) -> StoredQuestion:
        self.asked += 1
        await self.answer.wait()
        return StoredQuestion(question_id, "{}", 0)


async def test_more_questions_than_can_be_answered_are_refused_at_once() -> None:
    """With the time to come again, kept by no cache, and only until there is a place again."""
    held = _HeldStore()
    service = FrontService([MODEL], lambda _: True, cast("FrontStore", held), check_user=any_user)
    async with (
        scripted_gateway(front=service) as gateway,
        front_here(gateway.port, questions_at_once="2") as front,
        aiohttp.ClientSession(front.url) as http,
    ):
        first = [asyncio.create_task(_found(http)) for _ in range(2)]
        await until(lambda: held.asked == 2)
        async with http.get("/v1/questions/q1") as reply:
            assert (reply.status, reply.headers["cache-control"]) == (503, "no-store")
            assert reply.headers["retry-after"] == "1"
            assert (await reply.json())["error"]["code"] == "overloaded"
        held.answer.set()
        assert await asyncio.gather(*first) == [True, True]
        assert await _found(http)
        assert held.asked == 3


async def test_questions_are_only_read(http: aiohttp.ClientSession) -> None:
    """What is not GET is 405, what is not a question's address is 404, in OpenAI's error shape."""
    async with http.post("/v1/questions/q1", json={}) as reply:
        assert (reply.status, reply.headers["allow"]) == (405, "GET, HEAD")
        assert (await reply.json())["error"]["code"] == "method_not_allowed"
    for method, path, allowed in (("GET", "/v1/chat/completions", "POST"), ("DELETE", "/v1/models", "GET")):
        async with http.request(method, path) as reply:
            assert (reply.status, reply.headers["allow"]) == (405, allowed)
    for path in ("/v1/questions/", "/v1/questions/a/b"):
        async with http.get(path) as reply:
            assert (reply.status, reply.headers["cache-control"]) == (404, "no-store")
            assert path in (await reply.json())["error"]["message"]


async def _found(http: aiohttp.ClientSession, name: str = "q1") -> bool:
    async with http.get(f"/v1/questions/{name}") as reply:
        return reply.status == 200


async def _says(http: aiohttp.ClientSession, line: str) -> bool:
    async with http.get("/metrics") as reply:
        return f"{line}\n" in await reply.text()


async def test_a_front_the_gateway_does_not_trust_says_unavailable() -> None:
    """The client's key has no part in it, so it is not told that its key is wrong."""
    service = FrontService([MODEL], lambda _: False, None, check_user=any_user)
    async with (
        scripted_gateway(front=service) as gateway,
        front_here(gateway.port) as front,
        aiohttp.ClientSession(front.url, headers={"authorization": f"Bearer {KEY}"}) as http,
    ):
        for path in ("/v1/questions/q1", "/v1/models", "/readyz"):
            async with http.get(path) as reply:
                assert reply.status == 503


async def test_metrics_can_have_a_token_of_their_own() -> None:
    """With METRICS_TOKEN only its bearer sees them; the users' keys do not open them."""
    async with scripted_gateway() as gateway, front_here(gateway.port, metrics_token="m-secret") as front:
        for shown, status in (("m-secret", 200), (KEY, 401), ("", 401)):
            headers = {"authorization": f"Bearer {shown}"} if shown else {}
            async with (
                aiohttp.ClientSession(front.url, headers=headers) as http,
                http.get("/metrics") as reply,
            ):
                assert (reply.status, "dreamseed_api_requests" in await reply.text()) == (
                    status,
                    status == 200,
                )
