"""The jump card against the emulated engine's own scheduler, driven step by step: the same answers at the
same times.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dreamseed_cli.costsim.queueing.batching import NEVER, Job, JumpCard
from dreamseed_cli.engine.emulated.scheduler import Scheduler, Sequence, State
from dreamseed_cli.profile.schema import EmulatedCard


@dataclass(frozen=True)
class Ask:
    """One request to a card; gives_up_s after its arrival at the latest."""

    at_s: float
    prompt: int
    wanted: int
    priority: int = 0
    gives_up_s: float = math.inf


Seen = dict[int, tuple[float, float]]
"""When each ask got its first and its last token."""


def _card(kv_cache_tokens: int = 100_000, per_kv_token: float = 0.0011) -> EmulatedCard:
    return EmulatedCard(
        source="test",
        prefill_tokens_per_s=3550.0,
        decode_step_ms=5.6,
        decode_step_ms_per_seq=0.28,
        decode_step_ms_per_kv_token=per_kv_token,
        kv_cache_tokens=kv_cache_tokens,
    )


def _stepped(card: EmulatedCard, places: int, asks: list[Ask]) -> tuple[Seen, int]:
    engine = Scheduler(card, places)
    made: dict[Sequence, int] = {}
    first: dict[int, float] = {}
    seen: Seen = {}
    events = sorted(
        [(ask.at_s, index, "ask") for index, ask in enumerate(asks)]
        + [(ask.at_s + ask.gives_up_s, index, "leave") for index, ask in enumerate(asks)]
    )
    step, now = None, 0.0
    while (events and events[0][0] < math.inf) or step is not None:
        if step is not None and (not events or step.due <= events[0][0]):
            now = step.due
            done = engine.finish_step(step)
            for sequence in step.emitting:
                first.setdefault(made[sequence], now)
            for sequence in done:
                seen[made[sequence]] = first[made[sequence]], now
        else:
            now, index, what = events.pop(0)
            if what == "ask":
                sequence = Sequence(asks[index].prompt, asks[index].wanted, priority=asks[index].priority)
                made[sequence] = index
                engine.submit(sequence)
            else:
                engine.cancel(next(one for one, number in made.items() if number == index))
            if step is not None:
                continue
        step = engine.start_step(now)
    assert all(one.state in {State.FINISHED, State.CANCELLED} for one in made)
    return seen, engine.counters.preemptions


def _jumped(card: EmulatedCard, places: int, asks: list[Ask]) -> tuple[Seen, int]:
    jump = JumpCard(card, places)
    jobs = [Job(ask.prompt, ask.wanted, ask.priority) for ask in asks]
    numbers = {job: index for index, job in enumerate(jobs)}
    first: dict[int, float] = {}
    seen: Seen = {}
    ended: set[int] = set()
    events = sorted(
        [(ask.at_s, index, "ask") for index, ask in enumerate(asks)]
        + [(ask.at_s + ask.gives_up_s, index, "leave") for index, ask in enumerate(asks)]
    )
    while True:
        now = events[0][0] if events else NEVER
        if jump.next_at <= now:
            if jump.next_at == NEVER:
                break
            now = jump.next_at
            firsts, finished = jump.event()
            first.update((numbers[job], now) for job in firsts)
            for job in finished:
                seen[numbers[job]] = first[numbers[job]], now
                ended.add(numbers[job])
            continue
        _, index, what = events.pop(0)
        if what == "ask":
            jump.submit(jobs[index], now)
        elif index not in ended:
            jump.cancel(jobs[index], now)
    assert jump.load == 0
    return seen, jump.totals(0.0).preemptions


def _same(card: EmulatedCard, places: int, asks: list[Ask]) -> int:
    expected, preempted = _stepped(card, places, asks)
    found, found_preempted = _jumped(card, places, asks)
    assert found.keys() == expected.keys()
    for index, times in expected.items():
        assert found[index] == pytest.approx(times, rel=1e-9, abs=1e-7), index
    assert found_preempted == preempted
    return preempted


asks_of_any_kind = st.lists(
    st.builds(
        Ask,
        at_s=st.floats(0.0, 2.0).map(lambda at: at + 1e-4 * math.pi),
        prompt=st.integers(1, 3000),
        wanted=st.integers(1, 120),
        priority=st.integers(0, 2),
        gives_up_s=st.one_of(st.just(math.inf), st.floats(0.0013, 1.5)),
    ),
    min_size=1,
    max_size=12,
    unique_by=(
        lambda ask: ask.at_s,
        lambda ask: ask.at_s + ask.gives_up_s if ask.gives_up_s < 9 else ask.at_s,
    ),
)


@given(asks=asks_of_any_kind, places=st.integers(1, 8), kv=st.sampled_from((3200, 6000, 100_000)))
@settings(max_examples=60, deadline=None)
def test_jumps_end_where_steps_do(asks: list[Ask], places: int, kv: int) -> None:
    """Whatever arrives, waits, is cut into chunks, preempted or cancelled: all tokens come when the engine's
    do.
    """
    _same(_card(kv), places, asks)


def test_a_full_cache_preempts_as_the_engine_does() -> None:
    """Four answers that outgrow the KV cache: the last in rank starts over, at the same times."""
    asks = [Ask(0.001 * index, 100, 300 + index) for index in range(4)]
    assert _same(_card(kv_cache_tokens=1000), 8, asks) > 0


def test_a_flat_step_is_jumped_over_too() -> None:
    """Without a part for KV tokens the closed form is a straight line."""
    _same(_card(per_kv_token=0.0), 4, [Ask(0.0131 * index, 50 + index, 40 + index) for index in range(12)])


def test_tokens_are_noted_as_they_come() -> None:
    """In the middle of a jump as many tokens are known as steps have ended, each noted once."""
    card = JumpCard(_card(per_kv_token=0.0), 4)
    card.submit(Job(1, 101), 0.0)
    card.event()
    assert card.note_tokens(0.0056 * 11.5) == 10
    assert card.note_tokens(0.0056 * 11.6) == 0
    card.event()
    assert card.note_tokens(1.0) == 90


def test_busy_time_and_tokens_add_up() -> None:
    """Half of a jump counts half; after its end all of it does."""
    card = JumpCard(_card(per_kv_token=0.0), 4)
    card.submit(Job(1, 101), 0.0)
    card.event()
    halfway = card.totals(0.0056 * 51)
    assert halfway.tokens == pytest.approx(51)
    assert halfway.busy_s == pytest.approx(0.0056 * 51)
    card.event()
    assert card.totals(9.0).tokens == pytest.approx(101)
    assert card.totals(9.0).batch_s == pytest.approx(0.0056 * 101)


def test_what_never_fits_is_refused() -> None:
    """A sequence longer than the KV cache is an error, not an endless wait."""
    with pytest.raises(ValueError, match="longer than the KV cache"):
        JumpCard(_card(kv_cache_tokens=100), 4).submit(Job(60, 50), 0.0)
