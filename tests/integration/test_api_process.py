"""`dreamseed api` as a process: its environment, its end, its secrets."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import aiohttp
import psycopg
import pytest
from api_harness import (
    KEY,
    Context,
    answers,
    front_process,
    front_service,
    parts,
    scripted_gateway,
    serving,
)
from gateway_harness import emulated_engine, gateway_process, settings, socket_folder, target, until

from dreamseed_cli.api.settings import read_settings
from dreamseed_cli.database.migrate import migrate
from dreamseed_cli.gateway.proto.llm_pb2 import GenerateRequest

_CHAT = "/v1/chat/completions"
_ASK: dict[str, Any] = {"model": "served", "messages": [{"role": "user", "content": "a-secret-prompt"}]}
_HEADERS = {"authorization": f"Bearer {KEY}"}


async def test_sigterm_lets_running_answers_finish(tmp_path: Path) -> None:
    """The stream under way ends with [DONE], new connections are refused, the exit code is 0; and neither
    the prompt, nor the answer, nor the key, nor the token is in the log.
    """
    go_on = asyncio.Event()

    async def slow(request: GenerateRequest, context: Context, number: int) -> None:
        first, *rest = parts("a-secret-answer ", "two")
        await context.write(first)
        await go_on.wait()
        for message in rest:
            await context.write(message)

    log = tmp_path / "api.log"
    async with scripted_gateway(slow) as gateway:
        environment = {"GPU_ENDPOINT": f"127.0.0.1:{gateway.port}", "GATEWAY_TOKEN": "a-secret-token"}
        with front_process(environment, log) as (process, url):
            async with (
                aiohttp.ClientSession(url, headers=_HEADERS) as http,
                http.post(_CHAT, json=_ASK | {"stream": True}) as reply,
            ):
                await reply.content.readuntil(b"\n\n")
                process.send_signal(signal.SIGTERM)
                await until(lambda: _refuses(url))
                go_on.set()
                assert (await reply.text()).endswith("data: [DONE]\n\n")
            assert await asyncio.to_thread(process.wait, 15) == 0
    text = log.read_text()
    assert "api ended" in text
    for secret in ("a-secret-prompt", "a-secret-answer", "a-secret-token", KEY, "Traceback"):
        assert secret not in text


def _refuses(url: str) -> bool:
    port = int(url.rpartition(":")[2])
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except OSError:
        return True
    return False


async def test_an_answer_that_outlasts_the_drain_is_cut_with_a_word(tmp_path: Path) -> None:
    """After DRAIN_TIMEOUT_S the stream ends with answer_cut, and the process with code 0."""

    async def endless(request: GenerateRequest, context: Context, number: int) -> None:
        await context.write(parts("one ")[0])
        await asyncio.sleep(60)

    async with scripted_gateway(endless) as gateway:
        environment = {"GPU_ENDPOINT": f"127.0.0.1:{gateway.port}", "DRAIN_TIMEOUT_S": "1"}
        with front_process(environment, tmp_path / "api.log") as (process, url):
            async with (
                aiohttp.ClientSession(url, headers=_HEADERS) as http,
                http.post(_CHAT, json=_ASK | {"stream": True}) as reply,
            ):
                await reply.content.readuntil(b"\n\n")
                process.send_signal(signal.SIGTERM)
                event = json.loads((await reply.text()).removeprefix("data: "))
            assert event["error"]["code"] == "answer_cut"
            assert event["error"]["emitted_text"] == "one "
            assert await asyncio.to_thread(process.wait, 15) == 0
        await until(lambda: gateway.cancelled == 1)


@pytest.mark.parametrize("signum", [signal.SIGKILL, signal.SIGSTOP])
def test_a_gateway_that_is_killed_or_hangs_in_mid_answer(signum: signal.Signals) -> None:
    """The stream ends with answer_cut and what there is; the next request fails in bounded time."""
    with (
        socket_folder() as folder,
        emulated_engine(folder, "e0", step_ms=20) as engine,
        gateway_process(folder, settings(folder, target("r0", engine.socket))) as gateway,
    ):
        try:
            asyncio.run(_cut_off(gateway.address, lambda: gateway.process.send_signal(signum)))
        finally:
            gateway.process.send_signal(signal.SIGCONT)


async def _cut_off(address: str, cut: Callable[[], None]) -> None:
    environment = {"GPU_ENDPOINT": address, "GATEWAY_TIMEOUT_S": "3"}
    async with (
        serving(read_settings(environment, allow_anonymous=True)) as front,
        aiohttp.ClientSession(front.url) as http,
    ):
        async with http.post(_CHAT, json=_ASK | {"stream": True, "max_tokens": 2000}) as reply:
            await reply.content.readuntil(b"\n\n")
            cut()
            lines = (await reply.text()).strip().split("\n\n")
        error = json.loads(lines[-1].removeprefix("data: "))["error"]
        assert error["code"] == "answer_cut"
        assert error["emitted_tokens"] >= 1
        assert error["emitted_text"]
        async with http.post(_CHAT, json=_ASK) as reply:
            assert reply.status in {503, 504}


async def test_at_its_end_it_gives_back_the_money_it_did_not_spend(tmp_path: Path, postgres_dsn: str) -> None:
    """SIGTERM and Ctrl-C settle the lease; kill -9 leaves it open, and it counts as spent."""
    migrate(postgres_dsn)

    def rows() -> list[Any]:
        # Of the present month: in its last two hours there are the next one's, too.
        with psycopg.connect(postgres_dsn) as connection:
            return connection.execute(
                "SELECT spent_usd FROM fallback_leases"
                " WHERE month = (SELECT min(month) FROM fallback_leases) ORDER BY granted_at"
            ).fetchall()

    async with front_service(postgres_dsn) as service, scripted_gateway(answers, service) as gateway:
        environment = {
            "GPU_ENDPOINT": f"127.0.0.1:{gateway.port}",
            "FALLBACK_URL": "http://127.0.0.1:9/v1",
            "FALLBACK_MODEL": "other",
            "FALLBACK_INPUT_USD_PER_MTOK": "0.15",
            "FALLBACK_OUTPUT_USD_PER_MTOK": "0.60",
            "FALLBACK_MONTHLY_CAP_USD": "20",
        }
        for number, signum in enumerate((signal.SIGTERM, signal.SIGINT)):
            with front_process(environment, tmp_path / f"{number}.log") as (process, _):
                await until(lambda: rows()[-1:] == [(None,)])
                process.send_signal(signum)
                code = await asyncio.to_thread(process.wait, 15)
            assert (code == 0) is (signum is signal.SIGTERM)
        assert rows() == [(0,), (0,)]
        with front_process(environment, tmp_path / "killed.log") as (process, _):
            await until(lambda: rows()[-1:] == [(None,)])
            process.kill()
        assert rows() == [(0,), (0,), (None,)]


def test_unsafe_or_missing_settings_are_told_and_nothing_listens(tmp_path: Path) -> None:
    """Exit code 2, every variable named at once, no traceback."""
    ended = _run({"FALLBACK_URL": "http://elsewhere/v1", "PORT": "seventy"})
    assert ended.returncode == 2
    assert "$GPU_ENDPOINT" in ended.stderr
    assert "$PORT" in ended.stderr
    ended = _run({"GPU_ENDPOINT": "100.64.1.2:50051", "FALLBACK_URL": "http://elsewhere/v1"})
    assert ended.returncode == 2
    for name in ("$GATEWAY_TOKEN", "$FALLBACK_URL", "$FALLBACK_MODEL", "$FALLBACK_MONTHLY_CAP_USD"):
        assert name in ended.stderr
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        ended = _run({"GPU_ENDPOINT": "127.0.0.1:1", "PORT": str(port)})
        assert (ended.returncode, "cannot listen" in ended.stderr) == (4, True)
    missing = _run({"GPU_ENDPOINT": "10.0.0.1:1", "GATEWAY_TOKEN_FILE": str(tmp_path / "no")})
    assert (missing.returncode, "cannot be read" in missing.stderr) == (3, True)


def _run(environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    code = (
        "import sys\n"
        "from dreamseed_cli.commands.api import api\n"
        "from dreamseed_cli.core.errors import DreamseedError\n"
        "try:\n    api(as_json=False)\n"
        "except DreamseedError as error:\n    sys.exit(print(error, file=sys.stderr) or error.exit_code)\n"
    )
    return subprocess.run(
        [sys.executable, "-c", code],
        env={"PATH": "/usr/bin:/bin", **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
