"""`dreamseed bench` before a server that misbehaves: said in the result, in the file and by the exit code."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import web
from aiohttp.test_utils import unused_port

_BOUND_S = 120
_PIECE = b'data: {"choices": [{"delta": {"content": "a"}, "finish_reason": null}]}\n\n'
_LAST = b'data: {"choices": [{"delta": {}, "finish_reason": "length"}]}\n\n'
_DONE = b"data: [DONE]\n\n"
_EMPTY = b'data: {"choices": [{"delta": {"content": ""}, "finish_reason": null}]}\n\n'
_TOKENS = 6


def _usage(tokens: int) -> bytes:
    told = {"prompt_tokens": 5, "completion_tokens": tokens, "total_tokens": 5 + tokens}
    return b"data: " + json.dumps({"choices": [], "usage": told}).encode() + b"\n\n"


_ANSWERS = {
    "answers 500": (500, b"it broke", "500"),
    "sends broken events": (200, b"data: {nonsense\n\n", "JSON is malformed"),
    "ends in the middle": (200, _PIECE * 2, "ended without a finish_reason"),
    "tells no usage": (200, _PIECE * _TOKENS + _LAST + _DONE, "tells no usage"),
    "sends no text": (200, _EMPTY + _LAST + _usage(_TOKENS) + _DONE, "tells tokens, and no text came"),
    "lies about usage": (200, _PIECE * _TOKENS + _LAST + _usage(2) + _DONE, "fewer tokens than pieces"),
}
"""Status, body, and the words by which the run names it."""


@asynccontextmanager
async def _server(status: int, body: bytes, *, well: int = 0) -> AsyncIterator[str]:
    """It has one model, answers so many requests well, and all others so.

    Its engine's counter tells of one token an answer.
    """
    left = well

    async def metrics(_request: web.Request) -> web.Response:
        lines = ("vllm:num_requests_running 0", "vllm:num_requests_waiting 0")
        told = f"vllm:generation_tokens_total {well - left}"
        return web.Response(text="\n".join((*lines, told)) + "\n")

    async def models(_request: web.Request) -> web.Response:
        return web.json_response({"object": "list", "data": [{"id": "m", "object": "model"}]})

    async def answer(request: web.Request) -> web.Response:
        nonlocal left
        left -= 1
        if left < 0:
            return web.Response(status=status, body=body, content_type="text/event-stream")
        wanted = (await request.json())["max_tokens"]
        good = _PIECE * wanted + _LAST + _usage(wanted) + _DONE
        return web.Response(body=good, content_type="text/event-stream")

    app = web.Application()
    app.router.add_get("/v1/models", models)
    app.router.add_get("/metrics", metrics)
    app.router.add_post("/v1/chat/completions", answer)
    app.router.add_post("/v1/completions", answer)
    async with _serving(app) as address:
        yield address


@asynccontextmanager
async def _plain_server(*, strict: bool, longest: int) -> AsyncIterator[str]:
    """OpenAI's interface and nothing more: its model stops after so many tokens, whatever is asked for."""

    async def models(_request: web.Request) -> web.Response:
        return web.json_response({"object": "list", "data": [{"id": "m", "object": "model"}]})

    async def answer(request: web.Request) -> web.Response:
        body = await request.json()
        unknown = {*body, *body["stream_options"]} & {"ignore_eos", "continuous_usage_stats"}
        if strict and unknown:
            refusal = {"error": {"message": f"Unrecognized request argument: {unknown.pop()}"}}
            return web.json_response(refusal, status=400)
        told = min(longest, body["max_tokens"])
        last = _LAST if told < longest else _LAST.replace(b"length", b"stop")
        return web.Response(
            body=_PIECE * told + last + _usage(told) + _DONE, content_type="text/event-stream"
        )

    app = web.Application()
    app.add_routes([web.get("/v1/models", models), web.post("/v1/chat/completions", answer)])
    async with _serving(app) as address:
        yield address


@asynccontextmanager
async def _serving(app: web.Application) -> AsyncIterator[str]:
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", port := unused_port())
        await site.start()
        yield f"http://127.0.0.1:{port}"
    finally:
        await runner.cleanup()


async def _bench(
    folder: Path, address: str, *more: str, tokens: int = _TOKENS
) -> subprocess.CompletedProcess[str]:
    trace = folder / "trace.jsonl"
    lines = [{"at_s": 0.1 * n, "prompt_tokens": 5, "output_tokens": tokens} for n in range(5)]
    trace.write_text("".join(json.dumps(line) + "\n" for line in lines))
    argv = [sys.executable, "-m", "dreamseed_cli", "bench", "--target", address, "--trace", str(trace)]
    argv += ["--state-dir", str(folder / "s"), *more]
    return await asyncio.to_thread(
        subprocess.run, argv, capture_output=True, text=True, timeout=_BOUND_S, check=False
    )


@pytest.mark.parametrize(
    "fault",
    ["answers 500", "sends broken events", "ends in the middle", "sends no text", "lies about usage"],
)
async def test_what_a_server_does_wrong_later_is_named(fault: str, tmp_path: Path) -> None:
    """A cell in which nothing was answered has failed and says by what; the exit code is 1."""
    status, body, words = _ANSWERS[fault]
    async with _server(status, body, well=1) as address:
        done = await _bench(tmp_path, address)

    assert done.returncode == 1, done.stderr
    said, failed = " ".join(done.stdout.split()).split("FAILED trace: ")
    assert "TARGET MISSED" in said
    assert failed.startswith("5 of 5 requests: ")
    assert words in failed


async def test_a_server_that_does_wrong_from_the_first_is_not_measured(tmp_path: Path) -> None:
    """No load is made; its count is named and what could not be told by it."""
    status, body, words = _ANSWERS["tells no usage"]
    async with _server(status, body) as address:
        done = await _bench(tmp_path, address)

    assert done.returncode == 4
    assert words in done.stderr
    assert "neither could a figure in tokens" in done.stderr


@pytest.mark.parametrize(("strict", "longest"), [(True, 3), (False, 3), (False, 40)])
async def test_a_server_without_vllms_extensions_is_measured(
    strict: bool, longest: int, tmp_path: Path
) -> None:
    """One refuses fields that it does not know, others pass them over: no length is forced, and it is said.

    One is found by its first answer, and one that talks more than that by its first cell, which begins anew.
    """
    async with _plain_server(strict=strict, longest=longest) as address:
        done = await _bench(tmp_path, address, "--out", str(tmp_path / "out"), "--json", tokens=60)

    (cell,) = json.loads(done.stdout)["data"]["suites"][0]["cells"]
    assert cell["endings"] == {"complete": 5}, done.stderr
    # Whether the load was on time is this machine's business.
    assert {one["rule"] for one in cell["problems"]} <= {"scheduling-delay", "loop-lag"}, done.stderr
    assert cell["output_tokens_mean"] == longest
    assert ("begins anew" in done.stderr) is (longest == 40)
    assert any("takes no `ignore_eos`" in note for note in cell["notes"])
    assert "takes no `ignore_eos`" in " ".join(done.stderr.split())


async def test_a_usage_that_the_engines_counter_denies(tmp_path: Path) -> None:
    """Whole answers in good time, and six times the tokens: the figures are not to be believed."""
    async with _server(500, b"", well=100) as address:
        done = await _bench(tmp_path, address)

    assert done.returncode == 1, done.stderr
    said = " ".join(done.stdout.split())
    assert "INVALID trace: the answers' usage tells 30 tokens, and the engines counted 5." in said


async def test_a_port_where_nobody_listens(tmp_path: Path) -> None:
    """It is told before any load is made."""
    address = f"http://127.0.0.1:{unused_port()}"
    done = await _bench(tmp_path, address, "--json")

    (error,) = json.loads(done.stdout)["errors"]
    assert (done.returncode, error["kind"], error["place"]) == (3, "missing", address)
    assert "connection refused" in error["cause"]
    assert "--target" in error["remedy"]
