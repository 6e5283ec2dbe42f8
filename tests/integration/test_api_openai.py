"""The front before a real gateway (TLS, accounts in PostgreSQL) and emulated engines, as OpenAI's own client
sees it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import openai
import psycopg
import pytest
from api_harness import RunningFront, front_here
from gateway_harness import emulated_engine, gateway_here, settings, socket_folder, target
from security_harness import NAME, Office

from dreamseed_cli.database.migrate import migrate
from dreamseed_cli.gateway.accounts.admin import add_user, create_key, set_disabled
from dreamseed_cli.gateway.accounts.keys import new_key
from dreamseed_cli.gateway.accounts.types import Tier
from dreamseed_cli.gateway.security.tokens import new_token
from dreamseed_cli.gateway.server import GatewayServer
from dreamseed_cli.gateway.settings import ServiceAddresses
from dreamseed_cli.profile.schema import Security

_HELLO: list[Any] = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hello"}]


_TOKEN = new_token()


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """Where this module's sockets are."""
    with socket_folder() as path:
        yield path


@pytest.fixture(scope="module")
def engine_socket(folder: Path) -> Iterator[Path]:
    """An emulated engine."""
    with emulated_engine(folder, "e0") as engine:
        yield engine.socket


@pytest.fixture
def keys(postgres_dsn: str) -> dict[str, str]:
    """API keys of a paying, a free and a disabled user, by tier."""
    migrate(postgres_dsn)
    made = {}
    with psycopg.connect(postgres_dsn) as connection:
        connection.execute("INSERT INTO questions VALUES ('q1', '{}')")
        for user, tier in (("ann", Tier.PAID), ("bob", Tier.FREE), ("eve", Tier.FREE)):
            add_user(connection, user, tier)
            made[user] = create_key(connection, user)[0].text
        set_disabled(connection, "eve", disabled=True)
    return made


@pytest.fixture
async def gateway(
    folder: Path, engine_socket: Path, postgres_dsn: str, tmp_path: Path, keys: dict[str, str]
) -> AsyncIterator[GatewayServer]:
    """A gateway before the engine, with TLS, PostgreSQL, and a token for the front."""
    office = Office(tmp_path)
    tokens = office.put_bytes("tokens", f"{_TOKEN}\n".encode())
    security = Security(tls=office.tls(), service_tokens_file=str(tokens), require_authentication=True)
    office.ca()
    given = settings(folder, target("r0", engine_socket), security=security)
    services = ServiceAddresses(postgres_dsn=postgres_dsn, journal=str(tmp_path / "journal"))
    async with gateway_here(given.model_copy(update={"services": services})) as running:
        yield running


@pytest.fixture
async def front(gateway: GatewayServer, tmp_path: Path) -> AsyncIterator[RunningFront]:
    """The front before that."""
    async with front_here(
        gateway.port, gateway_token=_TOKEN, gateway_ca_file=str(tmp_path / "ca.crt"), gateway_server_name=NAME
    ) as running:
        yield running


@pytest.fixture
async def client(front: RunningFront, keys: dict[str, str]) -> AsyncIterator[openai.AsyncOpenAI]:
    """OpenAI's client, unchanged but for the address, with a paying user's key."""
    async with openai.AsyncOpenAI(base_url=f"{front.url}/v1", api_key=keys["ann"], max_retries=0) as made:
        yield made


async def test_a_whole_chat_answer(client: openai.AsyncOpenAI) -> None:
    """Text, finish reason and usage are where the client looks for them; the rest is in headers."""
    raw = await client.chat.completions.with_raw_response.create(
        model="served", messages=_HELLO, max_tokens=6, seed=1, extra_headers={"x-request-id": "mine-1"}
    )
    answer = raw.parse()
    assert answer.choices[0].message.content
    assert answer.choices[0].finish_reason == "length"
    assert answer.usage is not None
    assert answer.usage.completion_tokens == 6
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + 6
    assert (answer.object, answer.model) == ("chat.completion", "served")
    assert {name: raw.headers[name] for name in raw.headers if name.startswith("x-dreamseed")} == {
        "x-dreamseed-source": "gateway",
        "x-dreamseed-cache": "miss",
        "x-dreamseed-replica": "r0",
        "x-dreamseed-priority": "premium",
        "x-dreamseed-provenance": "simulated",
    }
    assert raw.headers["x-request-id"] == "mine-1"
    assert raw.headers["cache-control"] == "no-store"


async def test_a_streamed_chat_answer_is_the_whole_one(client: openai.AsyncOpenAI) -> None:
    """The same seed gives the same text in pieces; the last chunks carry the reason, the facts, the usage."""
    whole = await client.chat.completions.create(model="served", messages=_HELLO, max_tokens=9, seed=4)
    chunks = [
        chunk
        async for chunk in await client.chat.completions.create(
            model="served",
            messages=_HELLO,
            max_tokens=9,
            seed=4,
            stream=True,
            stream_options={"include_usage": True},
        )
    ]
    assert chunks[0].choices[0].delta.role == "assistant"
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text == whole.choices[0].message.content
    assert [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices][-1] == "length"
    facts = chunks[-2].model_extra
    assert facts is not None
    assert facts["dreamseed"] == {
        "source": "gateway",
        "cache": "miss",
        "replica": "r0",
        "priority": "premium",
        "provenance": "simulated",
    }
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens == 9


async def test_text_completions_whole_and_streamed(client: openai.AsyncOpenAI) -> None:
    """The older interface, which sends the prompt without a template."""
    whole = await client.completions.create(model="served", prompt="Once", max_tokens=5, seed=2)
    pieces = [
        chunk.choices[0].text
        async for chunk in await client.completions.create(
            model="served", prompt=["Once"], max_tokens=5, seed=2, stream=True
        )
    ]
    assert "".join(pieces) == whole.choices[0].text != ""
    assert whole.usage is not None
    assert whole.usage.completion_tokens == 5


async def test_the_synchronous_client_works_too(front: RunningFront, keys: dict[str, str]) -> None:
    """Whole and streamed, from a thread of its own."""

    def ask() -> tuple[str | None, str]:
        with openai.OpenAI(base_url=f"{front.url}/v1", api_key=keys["ann"], max_retries=0) as client:
            whole = client.chat.completions.create(model="served", messages=_HELLO, max_tokens=5, seed=3)
            chunks = client.chat.completions.create(
                model="served", messages=_HELLO, max_tokens=5, seed=3, stream=True
            )
            return whole.choices[0].message.content, "".join(
                chunk.choices[0].delta.content or "" for chunk in chunks
            )

    whole, streamed = await asyncio.to_thread(ask)
    assert whole == streamed
    assert whole


async def test_wrong_requests_raise_the_right_class_and_name_the_field(client: openai.AsyncOpenAI) -> None:
    """400 with the parameter, 404 for a model that is not there: by the front and by the gateway."""
    cases: list[tuple[dict[str, Any], str]] = [
        ({"n": 2}, "n"),
        ({"logprobs": True}, "logprobs"),
        ({"tools": [{"type": "function", "function": {"name": "f"}}]}, "tools"),
        ({"response_format": {"type": "json_object"}}, "response_format"),
        ({"extra_body": {"top_k": 5}}, "top_k"),
        ({"extra_body": {"priority": "golden"}}, "priority"),
        ({"temperature": 9}, "temperature"),
        ({"max_tokens": 10**6}, "max_tokens"),
        ({"top_p": 0.0}, "top_p"),
        ({"stop": ["a"] * 9}, "stop"),
        ({"messages": [{"role": "assistant", "content": "x"}]}, "messages"),
        ({"messages": [{"role": "user", "content": " "}]}, "prompt"),
    ]
    for more, param in cases:
        with pytest.raises(openai.BadRequestError) as caught:
            await client.chat.completions.create(**({"model": "served", "messages": _HELLO} | more))
        assert caught.value.param == param, more
        assert caught.value.type == "invalid_request_error"
    with pytest.raises(openai.NotFoundError) as missing:
        await client.chat.completions.create(model="gpt-5", messages=_HELLO)
    assert missing.value.code == "model_not_found"


async def test_neutral_values_are_passed_over(client: openai.AsyncOpenAI) -> None:
    """Values that ask for nothing are no errors: many clients always send them."""
    answer = await client.chat.completions.create(
        model="served",
        messages=_HELLO,
        n=1,
        logprobs=False,
        frequency_penalty=0,
        presence_penalty=0.0,
        response_format={"type": "text"},
        tools=[],
        max_completion_tokens=4,
        service_tier="auto",
        metadata={"lesson": "7"},
        extra_body={"priority": "batch", "workload": "question", "cache": False},
    )
    assert answer.usage is not None
    assert answer.usage.completion_tokens == 4


async def test_without_a_key_nothing_is_answered(front: RunningFront) -> None:
    """401, and the gateway is not asked."""
    async with openai.AsyncOpenAI(base_url=f"{front.url}/v1", api_key="with space", max_retries=0) as client:
        with pytest.raises(openai.AuthenticationError):
            await client.chat.completions.create(model="served", messages=_HELLO)
        with pytest.raises(openai.AuthenticationError):
            await client.models.list()


async def test_the_key_says_who_asks_and_what_it_may(front: RunningFront, keys: dict[str, str]) -> None:
    """A free user is answered as STANDARD, whatever it asks for and whoever it says it is; unknown keys are
    401, a disabled user's 403.
    """
    async with openai.AsyncOpenAI(base_url=f"{front.url}/v1", api_key="x", max_retries=0) as client:
        free = client.with_options(api_key=keys["bob"])
        raw = await free.chat.completions.with_raw_response.create(
            model="served", messages=_HELLO, max_tokens=3, user="ann", extra_body={"priority": "premium"}
        )
        assert raw.headers["x-dreamseed-priority"] == "standard"
        for unknown in ("x", new_key().text, _TOKEN):
            with pytest.raises(openai.AuthenticationError):
                await client.with_options(api_key=unknown).chat.completions.create(
                    model="served", messages=_HELLO
                )
        with pytest.raises(openai.PermissionDeniedError):
            await client.with_options(api_key=keys["eve"]).chat.completions.create(
                model="served", messages=_HELLO
            )


async def test_models_and_questions_come_through_the_same_line(
    client: openai.AsyncOpenAI, front: RunningFront
) -> None:
    """The gateway's own FrontService answers the front, by its token."""
    assert [model.id async for model in client.models.list()] == ["served"]
    async with aiohttp.ClientSession(front.url) as http:
        for path in ("/v1/questions/q1", "/readyz"):
            async with http.get(path) as reply:
                assert reply.status == 200


async def test_a_front_that_does_not_believe_the_gateway(gateway: GatewayServer) -> None:
    """With the public authorities only, a private certificate is not accepted: nothing is sent, 503."""
    async with (
        front_here(gateway.port, gateway_server_name=NAME, gateway_retries="0") as front,
        aiohttp.ClientSession(front.url, headers={"authorization": "Bearer k"}) as http,
        http.post("/v1/completions", json={"model": "served", "prompt": "x"}) as reply,
    ):
        assert reply.status == 503


async def test_fifty_streams_at_once(client: openai.AsyncOpenAI) -> None:
    """Every stream gets its own answer, whole."""

    async def one(seed: int) -> str:
        chunks = await client.chat.completions.create(
            model="served", messages=_HELLO, max_tokens=30, seed=seed, stream=True
        )
        return "".join([chunk.choices[0].delta.content or "" async for chunk in chunks])

    streamed = await asyncio.gather(*(one(seed) for seed in range(50)))
    again = await asyncio.gather(*(one(seed) for seed in range(50)))
    assert streamed == again
    assert len(set(streamed)) > 40
