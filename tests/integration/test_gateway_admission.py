"""The dispatcher before real emulated engines: order, cancellation, failover, continued answers."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing, asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import pytest
from gateway_harness import RunningEngine, emulated_engine, settings, socket_folder, target, until

from dreamseed_cli.engine.client import EngineClient
from dreamseed_cli.engine.types import Endpoint, EngineTimeout, EngineUnavailable, GenerationRequest, Turn
from dreamseed_cli.gateway.call import Call, Delta, PriorityClass
from dreamseed_cli.gateway.continuation import AnswerCut
from dreamseed_cli.gateway.dispatch import Dispatcher, NoReplica
from dreamseed_cli.gateway.metrics import GatewayMetrics
from dreamseed_cli.gateway.refusals import QueueFull
from dreamseed_cli.gateway.replicas import Replicas
from dreamseed_cli.gateway.settings import ReplicaTarget

_PREMIUM, _STANDARD, _BATCH = PriorityClass.PREMIUM, PriorityClass.STANDARD, PriorityClass.BATCH
_NUMBERS = itertools.count()


class _Bench:
    """A dispatcher with its replicas and metrics."""

    def __init__(self, folder: Path, *targets: ReplicaTarget, **admission: Any) -> None:
        chosen = settings(folder, *targets, admission=admission)
        self.replicas = Replicas(chosen)
        self.metrics = GatewayMetrics()
        self.dispatcher = Dispatcher(self.replicas, chosen.gateway.admission, self.metrics)

    def value(self, name: str, **labels: str) -> float:
        """One sample of the metrics, 0 if there is none."""
        return self.metrics.registry.get_sample_value(name, labels) or 0.0

    def stats(self, replica: int) -> dict[str, Any]:
        return self.replicas.stats()[replica]

    async def answer(self, call: Call) -> list[Delta]:
        async with aclosing(self.dispatcher.answer(call)) as deltas:
            return [delta async for delta in deltas]


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """Where this module's sockets are."""
    with socket_folder() as path:
        yield path


@pytest.fixture(scope="module")
def _engine(folder: Path) -> Iterator[RunningEngine]:
    with emulated_engine(folder, "lasting") as engine:
        yield engine


@pytest.fixture
async def engine(_engine: RunningEngine) -> AsyncIterator[RunningEngine]:
    """An engine that may misbehave in a test and behaves after it."""
    yield _engine
    await _engine.behave()


@asynccontextmanager
async def _bench(folder: Path, *targets: ReplicaTarget, **admission: Any) -> AsyncIterator[_Bench]:
    bench = _Bench(folder, *targets, **admission)
    try:
        yield bench
    finally:
        await bench.replicas.close()


def _call(
    max_tokens: int = 5, cls: PriorityClass = _STANDARD, *, patience_s: float = 30.0, **fields: Any
) -> Call:
    number = next(_NUMBERS)
    chosen: dict[str, Any] = {"prompt": f"Question {number}?", "temperature": 0.0, "top_p": 1.0} | fields
    request = GenerationRequest(request_id=f"id-{number}", max_tokens=max_tokens, **chosen)
    return Call(request, cls, time.monotonic() + patience_s, user_id="u")


def _target(name: str, engine: RunningEngine, places: int = 32) -> ReplicaTarget:
    return target(name, engine.socket).model_copy(update={"places": places})


def _text(deltas: list[Delta]) -> str:
    return "".join(delta.text for delta in deltas)


@contextmanager
def _two_engines(folder: Path) -> Iterator[tuple[RunningEngine, RunningEngine]]:
    """Engines of the test's own: one that crashes leaves its socket behind."""
    number = next(_NUMBERS)
    with emulated_engine(folder, f"a{number}") as first, emulated_engine(folder, f"b{number}") as second:
        yield first, second


async def _in_engine(engine: RunningEngine) -> int:
    client = EngineClient(Endpoint(socket=engine.socket), model="m", api="chat", usage_per_chunk=True)
    try:
        metrics = await client.metrics()
    finally:
        await client.close()
    assert metrics is not None
    return metrics.running + metrics.waiting


async def test_classes_go_in_order_and_say_how_long_they_waited(folder: Path, engine: RunningEngine) -> None:
    """With one place, PREMIUM passes STANDARD and BATCH that came before; deltas and metrics tell waits."""
    async with _bench(folder, _target("r0", engine, 1)) as bench:
        order: list[PriorityClass] = []

        async def ask(cls: PriorityClass) -> list[Delta]:
            deltas = await bench.answer(_call(20, cls))
            order.append(cls)
            return deltas

        first = asyncio.create_task(ask(_BATCH))
        await until(lambda: bench.stats(0)["outstanding"] == 1)
        tasks = [asyncio.create_task(ask(cls)) for cls in (_BATCH, _STANDARD, _PREMIUM)]
        await asyncio.sleep(0)
        assert bench.value("dreamseed_queue_length", priority="premium") == 1
        waits = [(await task)[0].queue_s for task in [first, *tasks]]
    assert order == [_BATCH, _PREMIUM, _STANDARD, _BATCH]
    assert waits[0] == 0
    assert waits[1] is not None
    assert waits[3] is not None
    assert waits[1] > waits[3] > 0
    assert bench.value("dreamseed_queue_wait_seconds_count", priority="batch", replica="r0") == 2
    assert bench.value("dreamseed_queue_length", priority="premium") == 0


async def test_a_full_queue_and_no_replica_are_told_at_once(folder: Path, engine: RunningEngine) -> None:
    """Neither costs any waiting; what was let in before is answered."""
    async with _bench(folder, _target("r0", engine, 1), max_queued_batch=1) as bench:
        tasks = [asyncio.create_task(bench.answer(_call(200, _BATCH))) for _ in range(2)]
        await asyncio.sleep(0)
        with pytest.raises(QueueFull):
            await bench.answer(_call(5, _BATCH))
        await asyncio.gather(*tasks)
        bench.replicas.update([])
        with pytest.raises(NoReplica):
            await bench.answer(_call(5, _PREMIUM))


async def test_leaving_frees_queue_place_and_engine_slot(folder: Path, engine: RunningEngine) -> None:
    """A caller that gives up while it waits, and one while its answer comes, leave nothing behind."""
    await engine.order_fault(fault="slow", factor=20)
    async with _bench(folder, _target("r0", engine, 1)) as bench:
        running = asyncio.create_task(bench.answer(_call(2000)))
        waiting = asyncio.create_task(bench.answer(_call(2000)))

        async def one_runs() -> bool:
            return await _in_engine(engine) == 1

        async def none_runs() -> bool:
            return await _in_engine(engine) == 0

        await until(one_runs)
        waiting.cancel()
        await asyncio.wait([waiting])
        assert bench.value("dreamseed_queue_length", priority="standard") == 0
        running.cancel()
        await asyncio.wait([running])
        await until(none_runs)
        assert bench.replicas.totals()["outstanding"] == 0
        assert bench.replicas.totals()["cancelled"] == 1


async def test_a_reader_that_stands_still_holds_no_place(folder: Path, engine: RunningEngine) -> None:
    """Once the engine has sent the whole answer its place is the next one's, read or not."""
    async with _bench(folder, _target("r0", engine, 1)) as bench:
        stream = bench.dispatcher.answer(_call(50))
        first = await anext(stream)
        assert len(await bench.answer(_call(5))) > 0
        rest = [delta async for delta in stream]
        assert rest[-1].completion_tokens == 50
        assert first.text
        assert bench.replicas.totals()["finished"] == 2


async def test_the_last_replica_may_go_away_for_a_moment(folder: Path, engine: RunningEngine) -> None:
    """What waits is answered when a replica is ready again."""
    async with _bench(folder, _target("r0", engine, 1)) as bench:
        first = asyncio.create_task(bench.answer(_call(100)))
        await until(lambda: bench.stats(0)["outstanding"] == 1)
        second = asyncio.create_task(bench.answer(_call(5)))
        await asyncio.sleep(0)
        bench.replicas.update([target("r0", engine.socket, ready=False)])
        await first
        assert not second.done()
        bench.replicas.update([_target("r0", engine, 1)])
        assert (await second)[-1].finish_reason == "length"


async def test_time_that_was_extended_is_given_at_the_engine_too(folder: Path, engine: RunningEngine) -> None:
    """A follower with more patience keeps a call alive that already has its engine."""
    await engine.order_fault(fault="slow", factor=5)
    async with _bench(folder, _target("r0", engine, 1)) as bench:
        call = _call(60, patience_s=0.25)
        answer = asyncio.create_task(bench.answer(call))
        await until(lambda: bench.stats(0)["outstanding"] == 1)
        bench.dispatcher.hasten(call, priority=_PREMIUM, deadline=time.monotonic() + 30)
        assert (await answer)[-1].completion_tokens == 60
        with pytest.raises(EngineTimeout):
            await bench.answer(_call(60, patience_s=0.25))


@pytest.mark.parametrize("more", [{}, {"temperature": 0.8, "seed": 4}, {"stop": (" never said",)}])
async def test_a_stream_that_dies_goes_on_elsewhere(folder: Path, more: dict[str, Any]) -> None:
    """A greedy or seeded answer that is cut is continued: text, counts and end as if nothing had happened."""
    with _two_engines(folder) as (dies, lives):
        async with _bench(folder, _target("r0", dies), _target("r1", lives)) as bench:
            call = _call(120, history=(Turn("user", "Hi"), Turn("assistant", "Hello.")), **more)
            bench.replicas.update([target("r0", dies.socket, ready=False), _target("r1", lives)])
            whole = await bench.answer(call)
            bench.replicas.update([_target("r0", dies), target("r1", lives.socket, ready=False)])
            await dies.order_fault(fault="crash", after_tokens=25)
            answer = asyncio.create_task(bench.answer(call))
            await until(lambda: bench.stats(0)["outstanding"] == 1)
            bench.replicas.update([_target("r0", dies), _target("r1", lives)])
            deltas = await answer
            assert _text(deltas) == _text(whole)
            assert [deltas[0].replica, deltas[-1].replica] == ["r0", "r1"]
            counts = [delta.completion_tokens or 0 for delta in deltas]
            assert counts == sorted(counts)
            last, expected = deltas[-1], whole[-1]
            assert (last.completion_tokens, last.prompt_tokens, last.finish_reason) == (
                expected.completion_tokens,
                expected.prompt_tokens,
                expected.finish_reason,
            )
            assert bench.value("dreamseed_retries_total", replica="r0", kind="continued") == 1
            assert bench.replicas.totals()["outstanding"] == 0


@pytest.mark.parametrize("other_ready", [True, False])
async def test_a_cut_that_cannot_be_mended_says_what_came(folder: Path, other_ready: bool) -> None:
    """A sampled answer, or one without another replica, ends with AnswerCut and what was emitted."""
    with _two_engines(folder) as (dies, lives):
        async with _bench(folder, _target("r0", dies), target("r1", lives.socket, ready=False)) as bench:
            await dies.order_fault(fault="crash", after_tokens=20)
            call = _call(120, temperature=0.7 if other_ready else 0.0)
            parts: list[Delta] = []

            async def read() -> None:
                async for delta in bench.dispatcher.answer(call):
                    parts.append(delta)  # noqa: PERF401 - what comes before the failure counts

            reading = asyncio.create_task(read())
            await until(lambda: bench.stats(0)["outstanding"] == 1)
            bench.replicas.update([_target("r0", dies), target("r1", lives.socket, ready=other_ready)])
            with pytest.raises(AnswerCut) as caught:
                await reading
    assert caught.value.emitted == _text(parts) != ""
    assert caught.value.tokens == parts[-1].completion_tokens
    assert caught.value.emitted not in str(caught.value)


@pytest.mark.parametrize("different", [{"model": "another"}, {"elsewhere": True}])
async def test_another_model_never_goes_on_with_an_answer(folder: Path, different: dict[str, Any]) -> None:
    """A replica that serves another model is no place for the rest, as long as there is time; nor is help
    from elsewhere, of whose model only the name is known.
    """
    with _two_engines(folder) as (dies, lives):
        other = _target("r1", lives).model_copy(update=different)
        async with _bench(folder, _target("r0", dies), other) as bench:
            await dies.order_fault(fault="crash", after_tokens=20)
            with pytest.raises(AnswerCut):
                await bench.answer(_call(120, patience_s=3.0))


async def test_a_failing_replica_costs_a_try_and_no_answer(folder: Path, engine: RunningEngine) -> None:
    """Requests go round one that nobody listens on; without another the failure is told."""
    gone = target("r0", folder / "none.sock")
    async with _bench(folder, gone, _target("r1", engine)) as bench:
        answers = await asyncio.gather(*(bench.answer(_call(3)) for _ in range(20)))
        assert {deltas[-1].replica for deltas in answers} == {"r1"}
        assert bench.value("dreamseed_retries_total", replica="r0", kind="failed") > 0
        bench.replicas.update([gone])
        with pytest.raises(EngineUnavailable):
            await bench.answer(_call(3))


async def test_what_help_from_elsewhere_gives_is_marked(folder: Path, engine: RunningEngine) -> None:
    """From its first piece on, so that nobody keeps it as this model's."""
    for elsewhere in (True, False):
        helper = _target("f0", engine).model_copy(update={"elsewhere": elsewhere})
        async with _bench(folder, helper) as bench:
            assert {delta.elsewhere for delta in await bench.answer(_call(5))} == {elsewhere}


async def test_raw_prompts_are_answered_beside_chats(folder: Path, engine: RunningEngine) -> None:
    """On one engine, one request without the template: its prompt counts fewer tokens."""
    async with _bench(folder, _target("r0", engine)) as bench:
        chat = await bench.answer(_call(5, prompt="Once upon a time"))
        raw = await bench.answer(_call(5, prompt="Once upon a time", raw=True))
        assert raw[-1].completion_tokens == 5
        assert (raw[-1].prompt_tokens or 0) < (chat[-1].prompt_tokens or 0)
