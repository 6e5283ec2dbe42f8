"""Single flight: equal calls under way share one generation, each at its own pace, class and deadline."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
from gateway_harness import until
from hypothesis import given, settings
from hypothesis import strategies as st
from no_collector import living, no_collector
from played_answers import WHOLE, PlayedAnswers, cache_settings, make_call, settle

from dreamseed_cli.engine.types import EngineBusy, EngineRefused, EngineTimeout, EngineUnavailable
from dreamseed_cli.gateway.cache.answers import CachedAnswers
from dreamseed_cli.gateway.cache.flight import Flight, Passenger
from dreamseed_cli.gateway.call import Call, Delta, PriorityClass
from dreamseed_cli.gateway.metrics import GatewayMetrics
from dreamseed_cli.gateway.refusals import DeadlineUnmeetable, OverLimit, QueueFull

BATCH, STANDARD, PREMIUM = PriorityClass
ANSWER = "".join(WHOLE)


@dataclass
class Reader:
    """A caller that reads an answer in a task of its own."""

    call: Call
    deltas: list[Delta] = field(default_factory=list)
    error: Exception | None = None
    done: bool = False
    task: asyncio.Task[None] | None = None

    @property
    def text(self) -> str:
        return "".join(delta.text for delta in self.deltas)

    async def read(self, answers: CachedAnswers) -> None:
        try:
            async with aclosing(answers.answer(self.call)) as deltas:
                async for delta in deltas:
                    self.deltas.append(delta)
        except Exception as error:  # noqa: BLE001 - the tests look at it
            self.error = error
        self.done = True

    def leave(self) -> None:
        assert self.task is not None
        self.task.cancel()

    def forget(self) -> None:
        """Keep neither an error nor a task that ended with one: they hold the frames they came through."""
        self.error = self.task = None


class Room:
    """Played engines behind single flight without a store, and callers."""

    def __init__(self, **cache: Any) -> None:
        self.inner = PlayedAnswers()
        self.metrics = GatewayMetrics()
        self.extended: list[tuple[Call, float]] = []
        self.answers = CachedAnswers(
            self.inner,
            None,
            cache_settings(**cache),
            self.metrics,
            extend=lambda call, deadline: self.extended.append((call, deadline)),
        )

    async def join(self, call: Call | None = None) -> Reader:
        """A caller that has asked."""
        reader = Reader(call or make_call())
        reader.task = asyncio.create_task(reader.read(self.answers))
        await settle()
        return reader

    def lookups(self, result: str, workload: str = "other") -> float:
        labels = {"workload": workload, "result": result}
        return self.metrics.registry.get_sample_value("dreamseed_cache_lookups_total", labels) or 0


@asynccontextmanager
async def room(**cache: Any) -> AsyncIterator[Room]:
    """A room that must be empty in the end."""
    before = asyncio.all_tasks()
    here = Room(**cache)
    yield here
    await settle()
    assert not here.inner.open
    assert not here.answers._flights
    await here.answers.close()
    assert asyncio.all_tasks() <= before


async def test_equal_calls_share_one_generation() -> None:
    """Each gets the whole text; the first one's is its own, the others' is a hit."""
    async with room() as here:
        readers = [await here.join() for _ in range(5)]
        assert len(here.inner.generations) == 1
        here.inner.generations[0].play()
        await settle()
        for reader in readers:
            assert reader.done
            assert reader.error is None
            assert reader.text == ANSWER
            assert {delta.cache_hit for delta in reader.deltas} == {reader is not readers[0]}
            assert reader.deltas[-1].finish_reason == "stop"
            assert reader.deltas[-1].completion_tokens == len(WHOLE) + 1
        assert (here.lookups("miss"), here.lookups("shared")) == (1, 4)


async def test_different_calls_do_not() -> None:
    """Another prompt is another generation."""
    async with room() as here:
        readers = [await here.join(make_call(prompt)) for prompt in ("one", "two")]
        for generation in here.inner.generations:
            generation.play(generation.call.request.prompt)
        await settle()
        assert [reader.text for reader in readers] == ["one", "two"]


async def test_a_late_follower_hears_it_from_the_start() -> None:
    """As one piece what has come already, then piece by piece."""
    async with room() as here:
        leader = await here.join()
        (generation,) = here.inner.generations
        generation.give(WHOLE[0])
        generation.give(WHOLE[1])
        await settle()
        follower = await here.join()
        assert [delta.text for delta in follower.deltas] == [WHOLE[0] + WHOLE[1]]
        assert follower.deltas[0].queue_s == 0.5
        assert follower.deltas[0].completion_tokens == 2
        generation.give(WHOLE[2])
        generation.finish()
        await settle()
        assert leader.text == follower.text == ANSWER


async def test_a_slow_reader_holds_nobody_up_and_gets_fewer_pieces() -> None:
    """What waits for it becomes one delta, whose counts are the last ones."""
    async with room() as here:
        slow = here.answers.answer(make_call())
        first = asyncio.create_task(anext(slow))
        await settle()
        quick = await here.join()
        (generation,) = here.inner.generations
        generation.give("a")
        assert (await first).text == "a"
        for text in "bcdef":
            generation.give(text)
        generation.finish("length")
        await settle()
        assert quick.done
        assert quick.text == "abcdef"
        rest = [delta async for delta in slow]
        assert [delta.text for delta in rest] == ["bcdef"]
        assert (rest[0].finish_reason, rest[0].completion_tokens) == ("length", 7)


async def test_the_generation_ends_with_its_last_reader() -> None:
    """Not with the first: whoever asked first may leave, the others go on."""
    async with room() as here:
        readers = [await here.join() for _ in range(3)]
        (generation,) = here.inner.generations
        generation.give(WHOLE[0])
        await settle()
        for reader in readers[:2]:
            reader.leave()
            await settle()
            assert generation.open
        readers[2].leave()
        await settle()
        assert not generation.open
        newcomer = await here.join()
        assert len(here.inner.generations) == 2
        here.inner.generations[1].play()
        await settle()
        assert newcomer.text == ANSWER


async def test_somebody_who_reads_on_always_owns_the_generation() -> None:
    """When the first one leaves, the answer is another's own: tokens are never generated for nobody."""
    async with room() as here:
        readers = [await here.join() for _ in range(3)]
        (generation,) = here.inner.generations
        generation.give(WHOLE[0])
        await settle()
        readers[0].leave()
        await settle()
        generation.play()
        await settle()
        assert {readers[1].text, readers[2].text} == {WHOLE[0] + ANSWER}
        assert sorted(reader.deltas[-1].cache_hit for reader in readers[1:]) == [False, True]


async def test_what_was_complete_stays_the_first_ones() -> None:
    """Whoever has not read it to the end yet gets a hit, though its owner has left."""
    async with room() as here:
        slow = here.answers.answer(make_call())
        owner = await here.join()
        first = asyncio.create_task(anext(slow))
        await settle()
        here.inner.generations[0].play()
        await settle()
        assert owner.done
        rest = [await first] + [delta async for delta in slow]
        assert {delta.cache_hit for delta in rest} == {True}


async def test_a_caller_that_leaves_before_anything_ran_leaves_nothing() -> None:
    """Closed before its first step, or right after."""
    async with room() as here:
        await here.answers.answer(make_call()).aclose()
        assert not here.inner.generations
        reader = Reader(make_call())
        reader.task = asyncio.create_task(reader.read(here.answers))
        await asyncio.sleep(0)
        reader.leave()
        await settle()
        assert not here.inner.open


async def test_every_reader_has_its_own_deadline() -> None:
    """The one whose time is over leaves with EngineTimeout; the generation goes on for the other."""
    async with room() as here:
        patient = await here.join()
        hasty = await here.join(make_call(within_s=0.03))
        (generation,) = here.inner.generations
        generation.give(WHOLE[0])
        await until(lambda: hasty.done)
        assert isinstance(hasty.error, EngineTimeout)
        assert hasty.text == WHOLE[0]
        assert generation.open
        generation.give(WHOLE[1])
        generation.give(WHOLE[2])
        generation.finish()
        await settle()
        assert patient.text == ANSWER


async def test_the_last_deadline_ends_the_generation() -> None:
    """Even if its reader does not read at that moment."""
    async with room() as here:
        idle = here.answers.answer(make_call(within_s=0.05))
        first = asyncio.create_task(anext(idle))
        await settle()
        (generation,) = here.inner.generations
        generation.give(WHOLE[0])
        await first
        await until(lambda: not generation.open)
        with pytest.raises(EngineTimeout):
            await anext(idle)


async def test_whoever_can_wait_for_longer_gives_the_generation_more_time() -> None:
    """A follower's later deadline holds for the generation too; an earlier one changes nothing."""
    async with room() as here:
        leader = await here.join(make_call(within_s=10))
        await here.join(make_call(within_s=5))
        assert here.extended == []
        follower = await here.join(make_call(within_s=20))
        (generation,) = here.inner.generations
        assert here.extended == [(generation.call, follower.call.deadline)]
        generation.play()
        await until(lambda: leader.done and follower.done)
        assert leader.text == follower.text == ANSWER


async def test_a_premium_call_does_not_wait_behind_a_batch_one() -> None:
    """It takes the flight over: exactly one generation goes on, at its class, for both."""
    async with room() as here:
        batch = await here.join(make_call(priority=BATCH, within_s=300))
        premium = await here.join(make_call(priority=PREMIUM, user_id="payer"))
        queued, taken_over = here.inner.generations
        assert not queued.open
        assert taken_over.call.priority is PREMIUM
        assert taken_over.call.user_id == "payer"
        assert taken_over.call.deadline == batch.call.deadline
        taken_over.play()
        await settle()
        assert batch.text == premium.text == ANSWER
        assert not any(delta.cache_hit for delta in premium.deltas)
        assert all(delta.cache_hit for delta in batch.deltas)


async def test_a_flight_is_taken_over_as_often_as_a_higher_class_comes() -> None:
    """And by none of its own class or below."""
    async with room() as here:
        readers = [
            await here.join(make_call(priority=priority))
            for priority in (BATCH, STANDARD, BATCH, STANDARD, PREMIUM, PREMIUM, BATCH)
        ]
        assert [generation.call.priority for generation in here.inner.generations] == [
            BATCH,
            STANDARD,
            PREMIUM,
        ]
        assert len(here.inner.open) == 1
        here.inner.open[0].play()
        await settle()
        assert {reader.text for reader in readers} == {ANSWER}


async def test_an_answer_that_has_begun_is_not_begun_again() -> None:
    """A premium call joins a batch call's answer: its first token is there already."""
    async with room() as here:
        batch = await here.join(make_call(priority=BATCH))
        here.inner.generations[0].give(WHOLE[0])
        await settle()
        premium = await here.join(make_call(priority=PREMIUM))
        assert premium.text == WHOLE[0]
        assert len(here.inner.generations) == 1
        here.inner.generations[0].give(WHOLE[1])
        here.inner.generations[0].give(WHOLE[2])
        here.inner.generations[0].finish()
        await settle()
        assert batch.text == premium.text == ANSWER


async def test_whoever_took_over_may_leave_again() -> None:
    """The call it took over from is still answered."""
    async with room() as here:
        batch = await here.join(make_call(priority=BATCH))
        premium = await here.join(make_call(priority=PREMIUM))
        premium.leave()
        await settle()
        (generation,) = here.inner.open
        generation.play()
        await settle()
        assert batch.text == ANSWER


@pytest.mark.parametrize(
    "error",
    [
        EngineRefused("too long", status=400),
        EngineBusy("queue full"),
        EngineUnavailable("gone"),
        ValueError("ours"),
    ],
)
async def test_the_engines_failure_is_everybodys(error: Exception) -> None:
    """The request is the same, so another attempt would end the same."""
    async with room() as here:
        readers = [await here.join() for _ in range(3)]
        here.inner.generations[0].fail(error)
        await settle()
        assert all(reader.error is error for reader in readers)
        assert len(here.inner.generations) == 1


@pytest.mark.parametrize(
    ("error", "follower", "again"),
    [
        (QueueFull("full", retry_after_s=1), {"priority": BATCH}, True),
        (QueueFull("full", retry_after_s=1), {"user_id": "another"}, False),
        (DeadlineUnmeetable("late", retry_after_s=1), {"priority": BATCH, "within_s": 5}, True),
        (DeadlineUnmeetable("late", retry_after_s=1), {"within_s": 300}, True),
        (DeadlineUnmeetable("late", retry_after_s=1), {"within_s": 5}, False),
        (OverLimit("used up", retry_after_s=1), {"user_id": "another"}, True),
        (OverLimit("used up", retry_after_s=1), {}, False),
        (EngineTimeout("late"), {"within_s": 300}, True),
        (EngineTimeout("late"), {"within_s": 5}, False),
    ],
)
async def test_a_refusal_is_only_theirs_whom_it_concerns(
    error: Exception, follower: dict[str, Any], again: bool
) -> None:
    """The first caller's class, user and deadline are not its followers'."""
    async with room() as here:
        leading: dict[str, Any] = {"priority": PREMIUM, "user_id": "leader"}
        leader = await here.join(make_call(**leading))
        other = await here.join(make_call(**(leading | follower)))
        here.inner.generations[0].fail(error)
        await settle()
        assert leader.error is error
        assert len(here.inner.generations) == 1 + again
        if again:
            here.inner.generations[1].play()
            await settle()
            assert other.text == ANSWER
            assert here.inner.generations[1].call.deadline == other.call.deadline
        else:
            assert other.error is error


async def test_followers_ask_again_together_and_once() -> None:
    """One new generation for all of them; if that fails, too, it is their failure."""
    async with room() as here:
        await here.join(make_call(priority=PREMIUM))
        followers = [await here.join(make_call(priority=BATCH)) for _ in range(4)]
        full = QueueFull("full", retry_after_s=1)
        here.inner.generations[0].fail(full)
        await settle()
        assert len(here.inner.generations) == 2
        late = await here.join(make_call(priority=PREMIUM))
        assert len(here.inner.open) == 1
        here.inner.open[0].fail(full)
        await settle()
        assert len(here.inner.generations) == 3
        assert [reader.error for reader in (*followers, late)] == [full] * 5
        assert not here.inner.open


async def test_a_cut_answer_is_told_to_whom_it_was_begun() -> None:
    """The caller whose answer it was gets its part and the error; whoever got nothing is answered anew."""
    async with room() as here:
        leader, follower = await here.join(), await here.join()
        (generation,) = here.inner.generations
        generation.give(WHOLE[0])
        generation.fail(EngineUnavailable("died"))
        await settle()
        assert leader.text == WHOLE[0]
        assert isinstance(leader.error, EngineUnavailable)
        assert not follower.deltas
        here.inner.generations[1].play()
        await settle()
        assert follower.text == ANSWER


async def test_a_part_of_an_answer_is_never_followed_by_another_answer() -> None:
    """A follower that has got a part gets the error, too."""
    async with room() as here:
        readers = [await here.join(), await here.join()]
        (generation,) = here.inner.generations
        generation.give(WHOLE[0])
        await settle()
        generation.give(WHOLE[1])
        generation.fail(EngineUnavailable("died"))
        await settle()
        for reader in readers:
            assert reader.text == WHOLE[0] + WHOLE[1]
            assert isinstance(reader.error, EngineUnavailable)


async def test_a_generation_that_is_cancelled_from_within_is_a_failure() -> None:
    """Nobody waits for ever for an answer that nobody generates."""
    async with room() as here:
        reader = await here.join()
        here.inner.generations[0].fail(asyncio.CancelledError())
        await settle()
        assert isinstance(reader.error, EngineUnavailable)


async def test_calls_that_must_not_be_shared_are_not() -> None:
    """One that asks for no cache, and one that goes on in mid-answer."""
    async with room() as here:
        readers = [
            await here.join(make_call(**how)) for how in ({"use_cache": False}, {"emitted": "Beca"}, {})
        ]
        assert len(here.inner.generations) == 3
        for generation in here.inner.generations:
            generation.play()
        await settle()
        assert all(reader.text == ANSWER for reader in readers)
        assert not any(delta.cache_hit for reader in readers for delta in reader.deltas)
        assert (here.lookups("bypass"), here.lookups("miss")) == (2, 1)


async def test_a_cache_that_is_off_shares_nothing() -> None:
    """`gateway.cache.enabled = false`."""
    async with room(enabled=False) as here:
        await here.join()
        await here.join()
        assert len(here.inner.generations) == 2
        for generation in here.inner.generations:
            generation.play()
        await settle()


@pytest.mark.parametrize("end", ["answered", "failed", "left", "taken over"])
async def test_what_has_ended_does_not_wait_for_the_garbage_collector(end: str) -> None:
    """It comes by seldom, and would find the flight of every request, with its prompt and all its pieces."""
    with no_collector():
        async with room() as here:
            readers = [await here.join(make_call(priority=BATCH)) for _ in range(2)]
            if end == "taken over":
                readers.append(await here.join(make_call(priority=PREMIUM)))
            here.inner.generations[-1].give(WHOLE[0])
            await settle()
            assert len(living(Flight, Passenger)) == 1 + len(readers)
            if end == "left":
                for reader in readers:
                    reader.leave()
            elif end == "failed":
                here.inner.generations[0].fail(EngineUnavailable("gone"))
            else:
                here.inner.generations[-1].finish()
            await settle()
            assert [reader.error is None for reader in readers] == [end != "failed" for _ in readers]
            for reader in readers:
                reader.forget()
            assert living(Flight, Passenger) == []


async def test_close_ends_what_is_under_way() -> None:
    """Its readers are told."""
    async with room() as here:
        reader = await here.join()
        await here.answers.close()
        await settle()
        assert isinstance(reader.error, EngineUnavailable)
        assert not here.inner.open


_STEP = st.one_of(
    st.tuples(st.just("join"), st.sampled_from([BATCH, STANDARD, PREMIUM])),
    st.tuples(st.just("leave"), st.integers(0, 9)),
    st.tuples(st.just("give"), st.text("abc", max_size=2)),
    st.tuples(st.just("finish"), st.none()),
    st.tuples(st.just("fail"), st.sampled_from([QueueFull("full", retry_after_s=1), EngineBusy("busy")])),
    st.tuples(st.just("turn"), st.integers(0, 3)),
)


@settings(max_examples=150, deadline=None)
@given(st.lists(_STEP, max_size=30))
def test_whatever_happens_everybody_gets_the_whole_answer_or_an_error(steps: list[tuple[str, Any]]) -> None:
    """Callers join and leave, engines give, finish and fail, with few or many turns of the loop between: an
    engine works exactly while somebody waits for it, and never two on one answer.
    """

    async def play() -> None:
        async with room() as here:
            scene = Scene(here)
            for kind, value in steps:
                await getattr(scene, kind)(value)
            await scene.end()

    asyncio.run(play())


class Scene:
    """Steps in any order, and what must hold after each."""

    def __init__(self, here: Room) -> None:
        self.here = here
        self.readers: list[Reader] = []
        self.stayed: list[Reader] = []
        self.given: dict[int, str] = {}

    async def join(self, priority: PriorityClass) -> None:
        reader = Reader(make_call(priority=priority))
        reader.task = asyncio.create_task(reader.read(self.here.answers))
        self.readers.append(reader)
        self.stayed.append(reader)

    async def leave(self, number: int) -> None:
        if number < len(self.readers):
            self.readers[number].leave()
            self.stayed = [reader for reader in self.stayed if reader is not self.readers[number]]

    async def turn(self, count: int) -> None:
        for _ in range(count):
            await asyncio.sleep(0)

    async def give(self, text: str) -> None:
        await self.check()
        for generation in self.here.inner.open:
            generation.give(text)
            number = self.here.inner.generations.index(generation)
            self.given[number] = self.given.get(number, "") + text

    async def finish(self, _: None) -> None:
        await self.check()
        for generation in self.here.inner.open:
            generation.finish()

    async def fail(self, error: Exception) -> None:
        await self.check()
        for generation in self.here.inner.open:
            generation.fail(error)

    async def check(self) -> None:
        """After everything has settled: one generation if anybody waits, none otherwise."""
        await settle()
        waiting = [reader for reader in self.stayed if not reader.done]
        assert len(self.here.inner.open) == (1 if waiting else 0)
        assert len(self.here.answers._flights) == len(self.here.inner.open)
        if waiting:
            (generation,) = self.here.inner.open
            begun = any(reader.deltas for reader in waiting)
            assert begun or generation.call.priority >= max(reader.call.priority for reader in waiting)

    async def end(self) -> None:
        """Whoever stayed has the whole text of one generation, or an error."""
        await self.check()
        while self.here.inner.open:
            await self.finish(None)
            await self.check()
        texts = {self.given.get(number, "") for number in range(len(self.here.inner.generations))}
        for reader in self.stayed:
            assert reader.done
            if reader.error is None:
                assert reader.text in texts
                assert reader.deltas[-1].finish_reason == "stop"
