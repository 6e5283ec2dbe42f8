"""The emulated engine as a real process on a real socket: what its clients and its supervisor rely on."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from prometheus_client.parser import text_string_to_metric_families

from dreamseed_cli.engine.emulated.command import emulated_command
from dreamseed_cli.profile.schema import EmulatedCard, EmulatedEngine

FAST_MS = 1.0
SLOW_MS = 20.0
ENDLESS = {"max_tokens": 1900, "ignore_eos": True, "stream": True}
WAIT_S = 90.0


def configuration(step_ms: float = FAST_MS, **changes: Any) -> EmulatedEngine:
    """An engine with a tiny card."""
    card = EmulatedCard(
        source="a test's card",
        prefill_tokens_per_s=1e5,
        decode_step_ms=step_ms,
        decode_step_ms_per_seq=0.0,
        kv_cache_tokens=changes.pop("kv_cache_tokens", 20_000),
    )
    fields: dict[str, Any] = {"served_name": "emu", "max_model_len": 2048, "max_num_seqs": 8} | changes
    return EmulatedEngine(kind="emulated", card=card, **fields)


class Engine:
    """A running engine process and a client session to it."""

    def __init__(self, process: subprocess.Popen[str], socket_path: Path) -> None:
        self.process = process
        self.socket = socket_path
        self.session = aiohttp.ClientSession(
            base_url="http://engine", connector=aiohttp.UnixConnector(path=str(socket_path), limit=0)
        )

    async def ready(self) -> None:
        """Until it answers."""

        async def healthy() -> bool:
            try:
                async with self.session.get("/health") as response:
                    return response.status == 200
            except aiohttp.ClientConnectionError:
                assert self.process.poll() is None, "the engine ended instead of starting"
                return False

        await until(healthy)

    async def post(self, path: str, **body: Any) -> tuple[int, dict[str, Any]]:
        """A JSON request; status and JSON answer."""
        async with self.session.post(path, json=body) as response:
            assert response.headers["x-dreamseed-provenance"] == "simulated"
            answer: dict[str, Any] = await response.json()
            return response.status, answer

    @asynccontextmanager
    async def stream(self, **body: Any) -> AsyncIterator[aiohttp.ClientResponse]:
        """An open completion stream."""
        request = {"prompt": "Hi"} | ENDLESS | body
        async with self.session.post("/v1/completions", json=request) as response:
            assert response.status == 200
            yield response

    async def metric(self, name: str, **labels: str) -> float:
        """The sum of a metric's samples that have these labels."""
        async with self.session.get("/metrics") as response:
            text = await response.text()
        return sum(
            sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
            if sample.name == name and labels.items() <= sample.labels.items()
        )

    async def running(self, count: int) -> None:
        """Until `count` sequences run and none waits."""

        async def reached() -> bool:
            waiting = await self.metric("vllm:num_requests_waiting")
            return waiting == 0 and await self.metric("vllm:num_requests_running") == count

        await until(reached)


async def until(condition: Callable[[], Any]) -> None:
    """Poll an asynchronous condition until it holds; TimeoutError after a long while."""
    async with asyncio.timeout(WAIT_S):
        while True:
            if await condition():
                return
            await asyncio.sleep(0.01)


async def token(response: aiohttp.ClientResponse) -> str:
    """The next line of a stream that carries something."""
    async with asyncio.timeout(WAIT_S):
        while True:
            line = await response.content.readline()
            if line != b"\n":
                return line.decode()


Start = Callable[..., Engine]


@pytest.fixture
async def start(tmp_path: Path) -> AsyncIterator[Start]:
    """Start engines; all of them are gone when the test is."""
    engines: list[Engine] = []

    def launch(engine: EmulatedEngine | None = None) -> Engine:
        number = len(engines)
        config, path = tmp_path / f"{number}.json", tmp_path / f"{number}.sock"
        config.write_text((engine or configuration()).model_dump_json(), encoding="utf-8")
        process = subprocess.Popen(
            emulated_command(config, path).argv, stderr=subprocess.PIPE, text=True, encoding="utf-8"
        )
        engines.append(Engine(process, path))
        return engines[-1]

    yield launch
    for engine in engines:
        await engine.session.close()
        engine.process.kill()
        engine.process.communicate()


@pytest.fixture
async def engine(start: Start) -> Engine:
    """A fast engine that is ready."""
    running = start()
    await running.ready()
    return running


@pytest.fixture
async def slow(start: Start) -> Engine:
    """An engine whose streams last long enough to be interfered with."""
    running = start(configuration(SLOW_MS, max_num_seqs=4, max_queued_requests=2))
    await running.ready()
    return running


async def test_streamed_and_whole_answers_agree(engine: Engine) -> None:
    """The same request gives the same text and usage, streamed or not, on either route."""
    for path, ask in (
        ("/v1/completions", {"prompt": "Why is the sky blue?"}),
        ("/v1/chat/completions", {"messages": [{"role": "user", "content": "하늘은 왜 파란가요?"}]}),
    ):
        body = ask | {"model": "emu", "max_tokens": 50, "ignore_eos": True}
        _, whole = await engine.post(path, **body)
        streaming = body | {"stream": True, "stream_options": {"include_usage": True}}
        async with engine.session.post(path, json=streaming) as response:
            lines = (await response.text()).split("\n\n")
        assert lines[-2:] == ["data: [DONE]", ""]
        events = [json.loads(line.removeprefix("data: ")) for line in lines[:-2]]
        choices = [event["choices"][0] for event in events if event["choices"]]
        text = "".join(c["delta"]["content"] if "delta" in c else c["text"] for c in choices)
        first = whole["choices"][0]
        assert text == (first["message"]["content"] if "message" in first else first["text"])
        assert len(choices) == 50 + ("chat" in path)
        usage = events[-1]["usage"]
        assert usage.items() <= whole["usage"].items()
        assert usage["completion_tokens"] == 50
        assert events[-1]["system_fingerprint"] == whole["system_fingerprint"] == "emulated-simulated"


async def test_restarted_engine_gives_the_same_text(start: Start) -> None:
    """The text depends on the seed in the profile, not on the process."""
    answers = []
    for seed in (1, 1, 2):
        engine = start(configuration(seed=seed))
        await engine.ready()
        _, answer = await engine.post("/v1/completions", prompt="Hi", max_tokens=40)
        answers.append(answer["choices"][0]["text"])
    assert answers[0] == answers[1] != answers[2]


async def test_everything_says_simulated(engine: Engine) -> None:
    """Version, model list and start log name the emulation, and the figures' source."""
    async with engine.session.get("/version") as response:
        assert (await response.json())["provenance"] == "simulated"
    async with engine.session.get("/v1/models") as response:
        (model,) = (await response.json())["data"]
    assert (model["id"], model["owned_by"]) == ("emu", "dreamseed-emulated")
    async with engine.session.get("/nowhere") as response:
        assert response.headers["x-dreamseed-provenance"] == "simulated"
        assert (response.status, await response.json()) == (404, {"detail": "Not Found"})
    assert engine.process.stderr is not None
    log = json.loads(engine.process.stderr.readline())
    assert (log["provenance"], log["card"]) == ("simulated", "a test's card")


async def test_context_errors_carry_the_numbers(engine: Engine) -> None:
    """A prompt beyond the context is a 400 with limit and length; /tokenize counts alike."""
    prompt = "four" * 3000
    status, answer = await engine.post("/v1/completions", prompt=prompt, max_tokens=5)
    assert status == 400
    assert "maximum context length is 2048 tokens" in answer["error"]["message"]
    assert "contains 3000 input tokens" in answer["error"]["message"]
    assert (await engine.post("/tokenize", prompt=prompt))[1]["count"] == 3000


async def test_malformed_requests_leave_the_engine_well(engine: Engine) -> None:
    """Bodies that are no requests are refused one by one, and the next good one is answered."""
    for raw in (b"", b"\xff\xfe", b"{", b"[[[[", b'{"prompt": 7}', b'{"prompt": "x", "stop": 1}'):
        async with engine.session.post("/v1/completions", data=raw) as response:
            assert response.status == 400
            assert (await response.json())["error"]["code"] == 400
    status, _ = await engine.post("/v1/completions", prompt="\0 null\n", max_tokens=2)
    assert status == 200


async def test_metrics_count_what_was_done(engine: Engine) -> None:
    """Tokens, successes and latencies appear under vLLM's names, one count each."""
    for _ in range(2):
        await engine.post("/v1/completions", prompt="x" * 400, max_tokens=10, ignore_eos=True)
    assert await engine.metric("vllm:generation_tokens_total") == 20
    assert await engine.metric("vllm:prompt_tokens_total") == 200
    assert await engine.metric("vllm:prefix_cache_hits_total") == 96
    assert await engine.metric("vllm:request_success_total", finished_reason="length") == 2
    assert await engine.metric("vllm:time_to_first_token_seconds_count") == 2
    assert await engine.metric("vllm:inter_token_latency_seconds_count") == 18
    assert await engine.metric("vllm:e2e_request_latency_seconds_count") == 2
    assert await engine.metric("vllm:kv_cache_usage_perc") == 0


async def test_full_kv_cache_preempts_and_still_answers_exactly(start: Start) -> None:
    """With too little KV cache for all, sequences are preempted, and each gets its tokens once."""
    engine = start(configuration(kv_cache_tokens=2048))
    await engine.ready()
    answers = await asyncio.gather(
        *(engine.post("/v1/completions", prompt=f"{n}", max_tokens=600, ignore_eos=True) for n in range(6))
    )
    assert [answer["usage"]["completion_tokens"] for _, answer in answers] == [600] * 6
    assert await engine.metric("vllm:num_preemptions_total") > 0


async def test_disconnected_client_frees_its_slot(slow: Engine) -> None:
    """When the client goes, streaming or waiting for a whole answer, its slot and KV are free again."""
    async with slow.stream() as response:
        await token(response)
        whole = asyncio.create_task(
            slow.post("/v1/completions", prompt="Hi", max_tokens=1900, ignore_eos=True)
        )
        await slow.running(2)
        assert await slow.metric("vllm:kv_cache_usage_perc") > 0
        response.close()
        await slow.running(1)
        whole.cancel()
        await slow.running(0)
    assert await slow.metric("vllm:kv_cache_usage_perc") == 0
    assert await slow.metric("vllm:request_success_total", finished_reason="abort") == 2


async def test_full_queue_is_503(slow: Engine) -> None:
    """Beyond max_num_seqs running and max_queued_requests waiting, a request is refused at once."""
    tasks = [
        asyncio.create_task(slow.post("/v1/completions", prompt="Hi", max_tokens=1900, ignore_eos=True))
        for _ in range(6)
    ]

    async def full() -> bool:
        return await slow.metric("vllm:num_requests_waiting") == 2

    await until(full)
    status, answer = await slow.post("/v1/completions", prompt="Hi")
    assert status == 503
    assert answer["error"]["message"].startswith("The engine is currently busy")
    assert await slow.metric("vllm:admission_rejections_total") == 1
    for task in tasks:
        task.cancel()
    await slow.running(0)
    assert (await slow.post("/v1/completions", prompt="Hi", max_tokens=1))[0] == 200


async def test_hang_keeps_health_and_stops_tokens(slow: Engine) -> None:
    """While hung, /health says 200, requests are taken and no token comes; afterwards it goes on."""
    async with slow.stream() as response:
        await token(response)
        await slow.post("/control/fault", fault="hang")
        before = await slow.metric("vllm:generation_tokens_total")
        waiting = asyncio.create_task(slow.post("/v1/completions", prompt="Hi", max_tokens=1))
        done, _ = await asyncio.wait({waiting}, timeout=10 * SLOW_MS / 1000)
        assert not done
        assert await slow.metric("vllm:generation_tokens_total") == before
        async with slow.session.get("/health") as health:
            assert health.status == 200
        await slow.session.delete("/control/fault")
        assert (await asyncio.wait_for(waiting, WAIT_S))[0] == 200
        await token(response)


@pytest.mark.parametrize("order", [{}, {"after_tokens": 5}])
async def test_crash_ends_the_process(slow: Engine, order: dict[str, int]) -> None:
    """The process ends with status 1, at once or after some tokens; open streams break off."""
    async with slow.stream() as response:
        await token(response)
        await slow.post("/control/fault", fault="crash", **order)
        with pytest.raises(aiohttp.ClientError):
            async with asyncio.timeout(WAIT_S):
                await response.read()
    assert await asyncio.to_thread(slow.process.wait, WAIT_S) == 1


async def test_stalled_stream_stops_midway_while_others_go_on(slow: Engine) -> None:
    """Open streams get nothing more, new requests are served; cleared, the stream goes on complete."""
    async with slow.stream(max_tokens=100, stream_options={"include_usage": True}) as response:
        received = await token(response)
        await slow.post("/control/fault", fault="stall_stream")
        status, _ = await slow.post("/v1/completions", prompt="new", max_tokens=20, ignore_eos=True)
        assert status == 200
        await slow.running(0)
        await slow.session.delete("/control/fault")
        async with asyncio.timeout(WAIT_S):
            received += (await response.read()).decode()
    events = [json.loads(line[6:]) for line in received.split("\n") if line.startswith("data: {")]
    _, whole = await slow.post("/v1/completions", prompt="Hi", max_tokens=100, ignore_eos=True)
    text = "".join(event["choices"][0]["text"] for event in events if event["choices"])
    assert text == whole["choices"][0]["text"]
    assert events[-1]["usage"]["completion_tokens"] == 100


async def test_slow_stretches_every_step(engine: Engine) -> None:
    """The scheduled gap between tokens is the factor times the card's."""
    await engine.post("/control/fault", fault="slow", factor=20.0)
    await engine.post("/v1/completions", prompt="Hi", max_tokens=3, ignore_eos=True)
    gaps = await engine.metric("vllm:inter_token_latency_seconds_sum")
    assert gaps == pytest.approx(2 * 20 * FAST_MS / 1000)


async def test_refuse_is_503_until_cleared(engine: Engine) -> None:
    """Every new request is refused; health and metrics still answer."""
    await engine.post("/control/fault", fault="refuse")
    assert (await engine.post("/v1/completions", prompt="Hi"))[0] == 503
    assert await engine.metric("vllm:num_requests_running") == 0
    await engine.session.delete("/control/fault")
    assert (await engine.post("/v1/completions", prompt="Hi"))[0] == 200


async def test_garbage_is_neither_json_nor_utf8(engine: Engine) -> None:
    """Events and whole answers become bytes that no client can parse; the connection stays proper HTTP."""
    await engine.post("/control/fault", fault="garbage")
    for stream in (True, False):
        body = {"prompt": "Hi", "max_tokens": 3, "ignore_eos": True, "stream": stream}
        async with engine.session.post("/v1/completions", json=body) as response:
            raw = await response.read()
        assert response.status == 200
        with pytest.raises(UnicodeDecodeError):
            raw.decode()
        assert b"[DONE]" not in raw


async def test_unknown_fault_names_the_known_ones(engine: Engine) -> None:
    """A fault that does not exist, or a wrong value, is a 400 that lists what there is."""
    for order in ({"fault": "flood"}, {"fault": "slow", "factor": -1}, {"fault": "hang", "x": 1}, {}):
        status, answer = await engine.post("/control/fault", **order)
        assert status == 400
        assert "hang, crash, stall_stream, slow, refuse, garbage" in answer["error"]["message"]


async def test_sigterm_drains(slow: Engine) -> None:
    """After SIGTERM a running stream ends complete, new requests get 503, then exit 0 and no socket."""
    async with slow.stream(max_tokens=150) as response:
        await token(response)
        slow.process.send_signal(signal.SIGTERM)

        async def draining() -> bool:
            async with slow.session.get("/health") as health:
                return health.status == 503

        await until(draining)
        assert (await slow.post("/v1/completions", prompt="Hi"))[0] == 503
        async with asyncio.timeout(WAIT_S):
            rest = await response.read()
    assert rest.endswith(b"data: [DONE]\n\n")
    assert await asyncio.to_thread(slow.process.wait, WAIT_S) == 0
    assert not slow.socket.exists()


async def test_sigterm_cuts_what_outlasts_the_timeout(start: Start) -> None:
    """A stream longer than shutdown_timeout_s is broken off, and the process still exits 0."""
    engine = start(configuration(SLOW_MS, shutdown_timeout_s=0))
    await engine.ready()
    async with engine.stream() as response:
        await token(response)
        engine.process.send_signal(signal.SIGTERM)
        with pytest.raises(aiohttp.ClientError):
            async with asyncio.timeout(WAIT_S):
                await response.read()
    assert await asyncio.to_thread(engine.process.wait, WAIT_S) == 0


async def test_sigterm_while_loading(start: Start) -> None:
    """A start that has not finished can be ended; nothing listens meanwhile."""
    engine = start(configuration(start_delay_s=600.0))
    assert engine.process.stderr is not None
    assert "starting" in await asyncio.to_thread(engine.process.stderr.readline)
    assert not engine.socket.exists()
    engine.process.send_signal(signal.SIGTERM)
    assert await asyncio.to_thread(engine.process.wait, WAIT_S) == 0


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    """The engine's entry with these arguments, to its end."""
    argv = [sys.executable, "-m", "dreamseed_cli.engine.emulated", *arguments]
    return subprocess.run(argv, capture_output=True, text=True, timeout=WAIT_S, check=False)


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """A good configuration file."""
    path = tmp_path / "engine.json"
    path.write_text(configuration().model_dump_json(), encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ("{", "Invalid JSON"),
        ({"max_num_seqs": 0}, "max_num_seqs"),
        ({"unknown": 1}, "unknown"),
        ({"max_model_len": 30_000}, "less than one sequence of max_model_len 30000"),
    ],
)
def test_bad_configuration_exits_2(config: Path, changes: str | dict[str, int], words: str) -> None:
    """A configuration that cannot be is one line on stderr and status 2."""
    if isinstance(changes, dict):
        changes = json.dumps(json.loads(config.read_text(encoding="utf-8")) | changes)
    config.write_text(changes, encoding="utf-8")
    ended = run("--config", str(config), "--uds", str(config.with_name("e.sock")))
    assert ended.returncode == 2
    assert len(ended.stderr.splitlines()) == 1
    assert words in ended.stderr
    assert str(config) in ended.stderr


def test_missing_configuration_exits_2(tmp_path: Path) -> None:
    """A configuration file that is not there is named."""
    ended = run("--config", str(tmp_path / "none.json"), "--uds", str(tmp_path / "e.sock"))
    assert ended.returncode == 2
    assert "none.json" in ended.stderr


@pytest.fixture
def listener(tmp_path: Path) -> Iterator[Path]:
    """Somebody else's Unix socket."""
    path = tmp_path / "taken.sock"
    with socket.socket(socket.AF_UNIX) as taken:
        taken.bind(str(path))
        taken.listen()
        yield path


def test_socket_in_use_exits_2(config: Path, listener: Path) -> None:
    """A socket on which somebody listens is left alone and named."""
    ended = run("--config", str(config), "--uds", str(listener))
    assert (ended.returncode, len(ended.stderr.splitlines())) == (2, 1)
    assert "in use" in ended.stderr
    assert str(listener) in ended.stderr
    assert listener.exists()


def test_path_that_is_no_socket_exits_2(config: Path) -> None:
    """A file in the socket's place is not removed."""
    ended = run("--config", str(config), "--uds", str(config))
    assert ended.returncode == 2
    assert "is no socket" in ended.stderr
    assert config.exists()


def test_port_in_use_exits_2(config: Path) -> None:
    """A TCP port that is taken is named."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        ended = run("--config", str(config), "--port", str(port))
    assert ended.returncode == 2
    assert f"127.0.0.1:{port}" in ended.stderr


async def test_dead_engines_socket_is_taken_over(start: Start, tmp_path: Path) -> None:
    """The socket that a crashed engine left behind does not stop the next one."""
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(tmp_path / "0.sock"))
    await start().ready()


@pytest.mark.parametrize(("how", "words"), [("oom", "CUDA out of memory"), ("config", "must be divisible")])
def test_fail_start(config: Path, how: str, words: str) -> None:
    """A rehearsed failure ends like vLLM's: its last line says what, the status is 1."""
    ended = run("--config", str(config), "--uds", str(config.with_name("e.sock")), "--fail-start", how)
    assert ended.returncode == 1
    assert words in ended.stderr.splitlines()[-1]
    assert "simulated" in ended.stderr
