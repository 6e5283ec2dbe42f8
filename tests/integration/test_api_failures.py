"""The front before a gateway that misbehaves: retries, refusals, cuts, a breaker, clients that leave."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import grpc
import openai
import pytest
from api_harness import (
    KEY,
    Behaviour,
    Context,
    RunningFront,
    ScriptedGateway,
    answers,
    front_here,
    parts,
    scripted_gateway,
    serving,
)
from free_ports import free_port
from gateway_harness import until
from prometheus_client.parser import text_string_to_metric_families

from dreamseed_cli.api.settings import read_settings
from dreamseed_cli.gateway.proto import PROVENANCE_KEY, REASON_KEY
from dreamseed_cli.gateway.proto.llm_pb2 import BATCH, PREMIUM, GenerateRequest, GenerateResponse
from dreamseed_cli.gateway.refusals import QueueFull
from dreamseed_cli.gateway.status import error_details

_CODE = grpc.StatusCode
_ASK: dict[str, Any] = {"model": "served", "messages": [{"role": "user", "content": "Hello"}]}
_HEADERS = {"authorization": f"Bearer {KEY}"}


@asynccontextmanager
async def _front(
    behaviour: Behaviour, **environment: str
) -> AsyncIterator[tuple[ScriptedGateway, RunningFront, aiohttp.ClientSession]]:
    async with (
        scripted_gateway(behaviour) as gateway,
        front_here(gateway.port, **environment) as front,
        aiohttp.ClientSession(front.url, headers=_HEADERS) as http,
    ):
        yield gateway, front, http


async def _ask(http: aiohttp.ClientSession, **more: Any) -> tuple[int, Any, Any]:
    """Status, headers and JSON of a whole answer."""
    async with http.post("/v1/chat/completions", json=_ASK | more) as reply:
        return reply.status, reply.headers, await reply.json()


async def _events(http: aiohttp.ClientSession, **more: Any) -> list[Any]:
    """The JSON of a streamed answer's events, `[DONE]` as it stands."""
    async with http.post("/v1/chat/completions", json=_ASK | {"stream": True} | more) as reply:
        assert reply.status == 200, await reply.text()
        lines = (await reply.text()).split("\n\n")
    payloads = [line.removeprefix("data: ") for line in lines if line]
    return [payload if payload == "[DONE]" else json.loads(payload) for payload in payloads]


def _failing(times: int, code: grpc.StatusCode, *trailer: tuple[str, str | bytes]) -> Behaviour:
    """A behaviour that fails so many times, then answers."""

    async def behave(request: GenerateRequest, context: Context, number: int) -> None:
        if number <= times:
            await context.abort(code, "as the script says", trailer)
        await answers(request, context, number)

    return behave


async def _metric(http: aiohttp.ClientSession, name: str, **labels: str) -> float:
    async with http.get("/metrics") as reply:
        families = text_string_to_metric_families(await reply.text())
    return sum(
        sample.value
        for family in families
        for sample in family.samples
        if sample.name == name and labels.items() <= sample.labels.items()
    )


async def test_the_request_reaches_the_gateway_as_it_was_meant() -> None:
    """Messages become system prompt, history and prompt; the key and our own fields go along, and the key
    alone says who asks.
    """
    async with _front(answers, gateway_token="a-service-token") as (gateway, _, http):
        messages = [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "One?"},
            {"role": "assistant", "content": "Two."},
            {"role": "user", "content": [{"type": "text", "text": "Th"}, {"type": "text", "text": "ree?"}]},
        ]
        more = {"user": "u1", "priority": "batch", "workload": "feedback", "cache": False, "stop": "."}
        status, headers, answer = await _ask(http, messages=messages, seed=7, top_p=0.5, **more)
        assert (status, headers["x-dreamseed-cache"], headers["x-dreamseed-replica"]) == (200, "hit", "r7")
        assert "x-dreamseed-provenance" not in headers
        assert answer["choices"][0]["message"]["content"] == "one two three"
        request, metadata = gateway.calls[0]
        assert metadata["authorization"] == "Bearer a-service-token"
        assert metadata["x-user-key"] == KEY
        assert request == GenerateRequest(
            prompt="Three?",
            temperature=0.7,
            priority=BATCH,
            model="served",
            system_prompt="Be brief.",
            top_p=0.5,
            seed=7,
            stop=["."],
            request_id=headers["x-request-id"],
            workload="feedback",
            bypass_cache=True,
            history=[{"role": "user", "content": "One?"}, {"role": "assistant", "content": "Two."}],
        )
        await _ask(http)
        async with http.post(
            "/v1/completions",
            json={"model": "served", "prompt": "Raw"},
            headers={"cache-control": "no-cache"},
        ) as reply:
            assert (await reply.json())["choices"][0]["text"] == "one two three"
        plain, raw = gateway.calls[1][0], gateway.calls[2][0]
        assert (plain.priority, plain.HasField("bypass_cache"), plain.HasField("top_p")) == (
            PREMIUM,
            False,
            False,
        )
        assert (raw.prompt, raw.raw, raw.bypass_cache) == ("Raw", True, True)


async def test_without_a_key_the_user_is_named() -> None:
    """On a developer's machine `user` is who asks; a client's made-up key is not passed on."""
    async with scripted_gateway() as gateway:
        environment = {"GPU_ENDPOINT": f"127.0.0.1:{gateway.port}"}
        async with (
            serving(read_settings(environment, allow_anonymous=True)) as front,
            aiohttp.ClientSession(front.url, headers={"authorization": "Bearer EMPTY"}) as http,
        ):
            assert (await _ask(http, user="u1"))[0] == 200
            async with aiohttp.ClientSession(front.url) as bare:
                assert (await _ask(bare))[0] == 200
        request, metadata = gateway.calls[0]
        assert request.user_id == "u1"
        assert "x-user-key" not in metadata


@pytest.mark.parametrize("stream", [False, True])
async def test_a_gateway_that_fails_before_the_first_token_is_asked_again(stream: bool) -> None:
    """Two failures are the client's patience, not its error."""
    async with _front(_failing(2, _CODE.UNAVAILABLE)) as (gateway, _, http):
        if stream:
            assert (await _events(http))[-1] == "[DONE]"
        else:
            assert (await _ask(http))[0] == 200
        assert len(gateway.calls) == 3
        assert await _metric(http, "dreamseed_api_retries_total", code="UNAVAILABLE") == 2


async def test_calls_that_fail_together_keep_their_attempts() -> None:
    """A gateway that is started anew fails all that are under way at once, which opens the breaker."""
    async with _front(_failing(8, _CODE.UNAVAILABLE)) as (gateway, _, http):
        replies = await asyncio.gather(*(_ask(http) for _ in range(8)))
        assert [status for status, _, _ in replies] == [200] * 8
        assert len(gateway.calls) == 16


@pytest.mark.parametrize(
    ("code", "status", "word"),
    [
        (_CODE.INVALID_ARGUMENT, 400, "invalid_value"),
        (_CODE.UNAUTHENTICATED, 401, "invalid_api_key"),
        (_CODE.PERMISSION_DENIED, 403, "not_permitted"),
        (_CODE.NOT_FOUND, 404, "not_found"),
        (_CODE.RESOURCE_EXHAUSTED, 429, "try_later"),
        (_CODE.DEADLINE_EXCEEDED, 504, "deadline_exceeded"),
        (_CODE.INTERNAL, 500, "internal"),
    ],
)
async def test_what_will_not_change_is_not_asked_again(code: grpc.StatusCode, status: int, word: str) -> None:
    """The right status at once, and none of it opens the breaker."""
    # A full queue that is not full until the deadline would be asked again; of the others nobody says when.
    later = error_details(QueueFull("full", retry_after_s=41.5)) if status == 429 else ()
    async with _front(_failing(8, code, *later)) as (gateway, _, http):
        for number in range(1, 9):
            got, _, body = await _ask(http, stream=number % 2 == 0)
            assert (got, body["error"]["code"]) == (status, word)
            assert len(gateway.calls) == number
        assert (await _ask(http))[0] == 200
        assert await _metric(http, "dreamseed_api_breaker_state") == 0


async def test_a_full_queue_is_waited_for_as_long_as_it_says() -> None:
    """RetryInfo that fits the deadline is obeyed; one that does not becomes 429 with Retry-After."""
    soon = error_details(QueueFull("full", retry_after_s=0.2))
    async with _front(_failing(1, _CODE.RESOURCE_EXHAUSTED, *soon)) as (gateway, _, http):
        began = asyncio.get_running_loop().time()
        assert (await _ask(http))[0] == 200
        assert asyncio.get_running_loop().time() - began >= 0.2
        assert len(gateway.calls) == 2
    late = error_details(QueueFull("full", retry_after_s=41.5))
    async with _front(_failing(1, _CODE.RESOURCE_EXHAUSTED, *late)) as (gateway, front, http):
        async with openai.AsyncOpenAI(base_url=f"{front.url}/v1", api_key=KEY, max_retries=0) as client:
            with pytest.raises(openai.RateLimitError) as caught:
                await client.chat.completions.create(**_ASK)
        assert caught.value.response.headers["retry-after"] == "42"
        assert caught.value.response.headers["retry-after-ms"] == "41500"
        assert len(gateway.calls) == 1


async def test_a_stream_that_dies_midway_says_so_and_what_there_is() -> None:
    """An error event instead of [DONE]; never another attempt, whose words would not fit."""

    async def dies(request: GenerateRequest, context: Context, number: int) -> None:
        for message in parts("one ", "two ")[:2]:
            await context.write(message)
        await context.abort(_CODE.UNAVAILABLE, "replica r0 failed at 10.0.0.7")

    async with _front(dies) as (gateway, front, http):
        events = await _events(http)
        assert events[-1]["error"] == {
            "message": "the answer broke off: the service is not available at the moment",
            "type": "server_error",
            "param": None,
            "code": "answer_cut",
            "emitted_tokens": 2,
            "emitted_text": "one two ",
        }
        assert len(gateway.calls) == 1
        async with openai.AsyncOpenAI(base_url=f"{front.url}/v1", api_key=KEY) as client:
            stream = await client.chat.completions.create(**_ASK, stream=True)
            got = [(await anext(stream)).choices[0].delta.content for _ in range(2)]
            with pytest.raises(openai.APIError) as caught:
                await anext(stream)
        assert (got, caught.value.code) == (["one ", "two "], "answer_cut")
        assert await _metric(http, "dreamseed_api_streams_cut_total", source="gateway") == 2


async def test_an_answer_without_an_end_is_cut_too() -> None:
    """A stream that ends in order but without finish_reason is not complete."""

    async def endless(request: GenerateRequest, context: Context, number: int) -> None:
        await context.write(GenerateResponse(text="one", tokens_generated=1))

    async with _front(endless) as (_, _, http):
        assert (await _events(http))[-1]["error"]["code"] == "answer_cut"


async def test_an_empty_answer_is_an_answer() -> None:
    """A model may stop at once: one chunk with the role, the reason, [DONE]."""

    async def says_nothing(request: GenerateRequest, context: Context, number: int) -> None:
        await context.write(parts()[0])

    async with _front(says_nothing) as (_, _, http):
        events = await _events(http)
    assert events[0]["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    assert events[1]["choices"][0]["finish_reason"] == "stop"
    assert events[2:] == ["[DONE]"]


async def test_a_slow_gateway_ends_in_504() -> None:
    """The deadline bounds everything, and a slow gateway is no reason to leave it alone."""

    async def slow(request: GenerateRequest, context: Context, number: int) -> None:
        await asyncio.sleep(30)

    async with _front(slow, gateway_timeout_s="0.6") as (gateway, _, http):
        for stream in (False, True, False, True, False, True):
            status, _, body = await _ask(http, stream=stream)
            assert (status, body["error"]["code"]) == (504, "deadline_exceeded")
        assert await _metric(http, "dreamseed_api_breaker_state") == 0
        await until(lambda: gateway.cancelled == 6)


@pytest.mark.parametrize("stream", [False, True])
async def test_a_client_that_leaves_frees_the_gateway(stream: bool) -> None:
    """Closing the connection ends the call, before the first token and after it."""
    started = asyncio.Event()

    async def long(request: GenerateRequest, context: Context, number: int) -> None:
        if stream:
            await context.write(parts("one ")[0])
        started.set()
        await asyncio.sleep(30)

    async with _front(long) as (gateway, _, http):
        asking = asyncio.create_task(_ask(http, stream=stream))
        await started.wait()
        asking.cancel()
        await until(lambda: gateway.cancelled == 1)
        await until(lambda: _is(_metric(http, "dreamseed_api_requests_in_flight"), 0))
        assert await _metric(http, "dreamseed_api_requests_total", status="499") == 1


async def _is(value: Any, wanted: float) -> bool:
    return bool(await value == wanted)


async def test_a_gateway_that_is_away_is_left_alone_until_it_is_back() -> None:
    """After five failures in a row nobody asks it any more; 503 comes once half of a request's time is spent
    on waiting. Its return is noticed without a client's help.
    """
    async with _front(answers, gateway_timeout_s="1.0") as (gateway, _, http):
        assert (await _ask(http))[0] == 200
        await gateway.stop()
        while await _metric(http, "dreamseed_api_breaker_state") == 0:
            status, headers, body = await _ask(http)
            assert (status, body["error"]["code"], headers["retry-after"]) == (503, "unavailable", "1")
            assert "127.0.0.1" not in body["error"]["message"]
        retries = await _metric(http, "dreamseed_api_retries_total")
        for _ in range(3):
            assert (await _ask(http))[0] == 503
        assert await _metric(http, "dreamseed_api_retries_total") == retries
        async with http.get("/readyz") as reply:
            assert reply.status == 503
        await gateway.start()
        await until(lambda: _is(_metric(http, "dreamseed_api_breaker_state"), 0))
        assert (await _ask(http))[0] == 200


async def test_a_gateway_that_is_started_anew_costs_time_and_no_answer() -> None:
    """Without a fallback nobody is refused: neither those whose calls fail with it, nor who comes later."""
    async with _front(answers) as (gateway, _, http):
        await gateway.stop()
        first = [asyncio.create_task(_ask(http)) for _ in range(6)]
        await until(lambda: _is(_metric(http, "dreamseed_api_breaker_state"), 2))
        later = [asyncio.create_task(_ask(http)) for _ in range(6)]
        await until(lambda: _is(_metric(http, "dreamseed_api_requests_waiting"), 12))
        await gateway.start()
        assert [(await asked)[0] for asked in (*first, *later)] == [200] * 12
        assert await _metric(http, "dreamseed_api_requests_waiting") == 0


async def test_the_last_attempt_is_not_spent_before_the_gateway_is_back() -> None:
    """One request alone never opens the breaker, and does not end with its retries either."""
    async with _front(answers, gateway_retries="1") as (gateway, _, http):
        await gateway.stop()
        asking = asyncio.create_task(_ask(http))
        await until(lambda: _is(_metric(http, "dreamseed_api_requests_waiting"), 1))
        await gateway.start()
        assert (await asking)[0] == 200
        assert len(gateway.calls) == 1


async def test_only_so_many_wait_for_the_gateway() -> None:
    """Each holds its body in memory: one too many gets 503 at once, one that leaves makes room."""
    async with _front(answers, gateway_most_waiting="2", gateway_retries="0") as (gateway, _, http):
        await gateway.stop()
        assert {(await _ask(http))[0] for _ in range(5)} == {503}
        waiting = [asyncio.create_task(_ask(http)) for _ in range(2)]
        await until(lambda: _is(_metric(http, "dreamseed_api_requests_waiting"), 2))
        assert (await _ask(http))[0] == 503
        waiting[0].cancel()
        await until(lambda: _is(_metric(http, "dreamseed_api_requests_waiting"), 1))
        other = asyncio.create_task(_ask(http))
        await until(lambda: _is(_metric(http, "dreamseed_api_requests_waiting"), 2))
        await gateway.start()
        assert [(await waiting[1])[0], (await other)[0]] == [200, 200]


async def test_a_front_that_starts_before_its_gateway() -> None:
    """It is alive and not ready; requests get 503; once the gateway is there, all is well."""
    gateway = ScriptedGateway(answers, port=free_port())
    async with (
        front_here(gateway.port, gateway_timeout_s="0.6") as front,
        aiohttp.ClientSession(front.url, headers=_HEADERS) as http,
    ):
        for path, status in (("/healthz", 200), ("/readyz", 503), ("/v1/models", 503)):
            async with http.get(path) as reply:
                assert reply.status == status, path
        assert (await _ask(http))[0] == 503
        await gateway.start()
        try:
            await until(lambda: _answered(http))
        finally:
            await gateway.stop()


async def _answered(http: aiohttp.ClientSession) -> bool:
    return (await _ask(http))[0] == 200


async def test_a_key_that_cannot_be_checked_does_not_open_the_breaker() -> None:
    """The gateway is there; only PostgreSQL behind it is not: known users are not sent elsewhere."""

    async def unverifiable(request: GenerateRequest, context: Context, number: int) -> None:
        if request.prompt == "Hello":
            trailer = ((REASON_KEY, "cannot_verify"),)
            await context.abort(_CODE.UNAVAILABLE, "the key cannot be looked up", trailer)
        await answers(request, context, number)

    async with _front(unverifiable, gateway_retries="0") as (_, _, http):
        for _ in range(8):
            assert (await _ask(http))[0] == 503
        known = [{"role": "user", "content": "known"}]
        assert (await _ask(http, messages=known))[0] == 200


async def test_a_simulated_stream_says_so_in_its_last_chunk() -> None:
    """What only the gateway's trailer tells is there before [DONE]."""

    async def simulated(request: GenerateRequest, context: Context, number: int) -> None:
        context.set_trailing_metadata(((PROVENANCE_KEY, "simulated"),))
        await answers(request, context, number)

    async with _front(simulated) as (_, _, http):
        events = await _events(http)
    assert events[-2]["dreamseed"] == {
        "source": "gateway",
        "cache": "hit",
        "replica": "r7",
        "provenance": "simulated",
    }


async def test_what_is_no_request_is_refused() -> None:
    """Wrong JSON, a wrong method, a body that is too long, an unknown path: each its status, in JSON."""
    async with _front(answers, max_body_bytes="2000") as (gateway, front, http):
        path = "/v1/chat/completions"
        bodies = {b"{": 400, b'"\xff"': 400, b"[]": 400, b"": 400, b"[" * 1500: 400, b" " * 2001: 413}
        for body, status in bodies.items():
            async with http.post(path, data=body) as reply:
                assert (reply.status, "error" in await reply.json()) == (status, True), body[:10]
        async with http.post(path, data=_pieces(b"x" * 700, 4)) as reply:
            assert reply.status == 413
        for method, where, status in (
            ("GET", path, 405),
            ("GET", "/v1/nothing", 404),
            ("POST", "/v1/models", 405),
            ("GET", "/docs", 404),
        ):
            async with http.request(method, where) as reply:
                assert (reply.status, "error" in await reply.json()) == (status, True), where
        async with aiohttp.ClientSession(front.url) as anonymous, anonymous.post(path, json=_ASK) as reply:
            assert (reply.status, reply.headers["www-authenticate"]) == (401, "Bearer")
        assert gateway.calls == []


async def _pieces(piece: bytes, count: int) -> AsyncIterator[bytes]:
    for _ in range(count):
        yield piece
