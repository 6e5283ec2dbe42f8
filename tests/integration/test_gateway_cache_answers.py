"""Answers kept in a real cluster: what is kept, what never is, and generation when the cluster is away."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import real_services
from gateway_harness import until
from played_answers import WHOLE, PlayedAnswers, cache_settings, make_call, settle
from real_services import PASSWORD, RunningCluster

from dreamseed_cli.engine.types import EngineError, EngineTimeout, EngineUnavailable
from dreamseed_cli.gateway.cache.answers import CachedAnswers
from dreamseed_cli.gateway.cache.store import AnswerStore
from dreamseed_cli.gateway.call import Call, Delta, Workload
from dreamseed_cli.gateway.metrics import GatewayMetrics
from dreamseed_cli.gateway.settings import GatewaySettings

ANSWER = "".join(WHOLE)


class Place:
    """Played engines behind a cache."""

    def __init__(self, cluster: RunningCluster, settings: GatewaySettings, read_s: float) -> None:
        nodes = [("127.0.0.1", running.node.port) for running in cluster.nodes]
        self.inner = PlayedAnswers()
        self.metrics = GatewayMetrics()
        self.store = AnswerStore(
            nodes,
            password=PASSWORD,
            tls=False,
            watch=self.metrics.watch_dependency,
            read_s=read_s,
        )
        self.answers = CachedAnswers(self.inner, self.store, settings, self.metrics)

    def connected(self) -> bool:
        lanes = self.store._lanes.values()
        return len(lanes) == 3 and all(pair.reading.connected and pair.writing.connected for pair in lanes)

    async def ask(self, call: Call) -> list[Delta]:
        return [delta async for delta in self.answers.answer(call)]

    async def generated(self, call: Call, finish_reason: str | None = "stop") -> list[Delta]:
        """The answer to a call that the engines must give."""
        before = len(self.inner.generations)
        asking = asyncio.create_task(self.ask(call))
        await until(lambda: len(self.inner.generations) > before)
        for text in WHOLE:
            self.inner.generations[-1].give(text)
        self.inner.generations[-1].finish(finish_reason)
        return await asking

    def lookups(self, result: str, workload: str = "other") -> float:
        labels = {"workload": workload, "result": result}
        return self.metrics.registry.get_sample_value("dreamseed_cache_lookups_total", labels) or 0


@asynccontextmanager
async def place(
    cluster: RunningCluster, settings: GatewaySettings | None = None, *, read_s: float = 5.0
) -> AsyncIterator[Place]:
    """One gateway's cache, connected to all nodes."""
    here = Place(cluster, settings or cache_settings(), read_s)
    here.store.start()
    try:
        await until(here.connected)
        yield here
    finally:
        await here.answers.close()
        await here.store.close()


async def test_the_second_time_it_comes_from_the_cache(valkey: RunningCluster) -> None:
    """In one piece, with its counts, its provenance and the mark of a hit; no engine is asked."""
    async with place(valkey) as here:
        await here.generated(make_call(workload=Workload.QUESTION))
        for _ in range(3):
            (delta,) = await here.ask(make_call(workload=Workload.QUESTION))
            assert delta.text == ANSWER
            assert (delta.finish_reason, delta.prompt_tokens, delta.completion_tokens) == ("stop", 7, 4)
            assert delta.cache_hit
            assert delta.simulated
        assert len(here.inner.generations) == 1
        assert here.lookups("miss", "question") == 1
        assert here.lookups("hit", "question") + here.lookups("shared", "question") == 3


async def test_another_gateway_with_the_same_model_shares_it(valkey: RunningCluster) -> None:
    """And one with another revision does not."""
    async with place(valkey) as here:
        await here.generated(make_call())
        await until(lambda: not here.answers._flights)
    async with place(valkey) as there:
        (delta,) = await there.ask(make_call(user_id="another"))
        assert (delta.text, delta.replica) == (ANSWER, "cache")
        assert there.lookups("hit") == 1
    other_model = cache_settings().model_copy(update={"model_revision": "another"})
    async with place(valkey, other_model) as elsewhere:
        await elsewhere.generated(make_call())


async def test_an_answer_is_not_generated_again_while_it_is_being_kept(valkey: RunningCluster) -> None:
    """There is no gap between the generation's end and the answer in Redis."""
    async with place(valkey) as here:
        for number in range(20):
            await here.generated(make_call(f"prompt {number}"))
            await here.ask(make_call(f"prompt {number}"))
        assert len(here.inner.generations) == 20


@pytest.mark.parametrize("error", [EngineUnavailable("died in mid-answer"), EngineTimeout("late")])
async def test_a_cut_answer_is_never_kept(valkey: RunningCluster, error: EngineError) -> None:
    """The next call is generated anew."""
    async with place(valkey) as here:
        asking = asyncio.create_task(here.ask(make_call()))
        await until(lambda: here.inner.generations)
        here.inner.generations[0].give(WHOLE[0])
        await settle()
        here.inner.generations[0].fail(error)
        with pytest.raises(type(error)):
            await asking
        await here.generated(make_call())


async def test_the_answer_of_help_from_elsewhere_is_not_kept(valkey: RunningCluster) -> None:
    """Not even if only its beginning is: the key names the model and quantisation that are served here."""
    async with place(valkey) as here:
        asking = asyncio.create_task(here.ask(make_call()))
        await until(lambda: here.inner.generations)
        (generation,) = here.inner.generations
        generation.elsewhere = True
        generation.give(WHOLE[0])
        generation.elsewhere = False
        generation.play()
        assert (await asking)[-1].finish_reason == "stop"
        await here.generated(make_call())
        await here.ask(make_call())
        assert len(here.inner.generations) == 2


@pytest.mark.parametrize("finish_reason", [None, "abort", "content_filter"])
async def test_an_end_that_is_none_is_not_kept(valkey: RunningCluster, finish_reason: str | None) -> None:
    """Only `stop` and `length` say that the answer is whole."""
    async with place(valkey) as here:
        await here.generated(make_call(), finish_reason)
        await here.generated(make_call())
        (delta,) = await here.ask(make_call())
        assert delta.finish_reason == "stop"


async def test_an_abandoned_answer_is_not_kept(valkey: RunningCluster) -> None:
    """The caller left in mid-answer, so nobody knows its end."""
    async with place(valkey) as here:
        asking = asyncio.create_task(here.ask(make_call()))
        await until(lambda: here.inner.generations)
        here.inner.generations[0].give(WHOLE[0])
        await settle()
        asking.cancel()
        await until(lambda: not here.inner.open)
        await here.generated(make_call())


async def test_a_call_can_go_around_the_cache(valkey: RunningCluster) -> None:
    """Neither looked up nor kept; nor is a call that goes on after a part of its answer."""
    async with place(valkey) as here:
        await here.generated(make_call(use_cache=False))
        await here.generated(make_call(emitted="Beca"))
        await here.generated(make_call())
        await here.generated(make_call(use_cache=False))
        await here.generated(make_call(emitted="Beca"))
        assert here.lookups("bypass") == 4


async def test_generation_goes_on_without_the_cluster() -> None:
    """Killed or hung, under way or before: every call is answered, and hits return with the cluster."""
    with (
        tempfile.TemporaryDirectory(prefix="ds-vk-") as folder,
        real_services.valkey_cluster(Path(folder)) as cluster,
    ):
        async with place(cluster, read_s=0.020) as here:
            await here.generated(make_call("kept"))
            for running in cluster.nodes[:2]:
                running.pause()
            cluster.nodes[2].kill()
            for number in range(30):
                deltas = await here.generated(make_call(f"prompt {number}"))
                assert "".join(delta.text for delta in deltas) == ANSWER
            assert here.lookups("error") > 0
            for running in cluster.nodes[:2]:
                running.resume()
            cluster.nodes[2].start()
            await until(here.connected)
            await until(lambda: _hits(here))


async def _hits(here: Place) -> bool:
    call = make_call("again", within_s=5)
    asking = asyncio.create_task(here.ask(call))
    await until(lambda: asking.done() or here.inner.open)
    for generation in here.inner.open:
        generation.play()
    await asking
    return here.lookups("hit") > 0
