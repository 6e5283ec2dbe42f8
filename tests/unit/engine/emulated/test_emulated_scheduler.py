"""The scheduler: nothing lost, nothing twice, never over its limits, in priority order."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dreamseed_cli.engine.emulated.prefix_cache import BLOCK_TOKENS, PrefixCache, chain_blocks
from dreamseed_cli.engine.emulated.scheduler import (
    MAX_BATCHED_TOKENS,
    Scheduler,
    Sequence,
    State,
    Step,
)
from dreamseed_cli.profile.schema import EmulatedCard


def card(kv_cache_tokens: int = 100_000, *, per_seq: float = 0.5, per_kv: float = 0.001) -> EmulatedCard:
    """A card with round figures."""
    return EmulatedCard(
        source="test",
        prefill_tokens_per_s=1000.0,
        decode_step_ms=10.0,
        decode_step_ms_per_seq=per_seq,
        decode_step_ms_per_kv_token=per_kv,
        kv_cache_tokens=kv_cache_tokens,
    )


def run_step(scheduler: Scheduler, now: float = 0.0) -> tuple[Step, list[Sequence]]:
    """One step from its start to its end."""
    step = scheduler.start_step(now)
    assert step is not None
    return step, scheduler.finish_step(step)


@dataclass
class Run:
    """Drives a scheduler through arrivals and cancellations, and checks it after every step."""

    scheduler: Scheduler
    sequences: list[Sequence] = field(default_factory=list)
    tokens: dict[Sequence, int] = field(default_factory=dict)
    finished: list[Sequence] = field(default_factory=list)

    def submit(self, sequence: Sequence) -> None:
        self.scheduler.submit(sequence)
        self.sequences.append(sequence)
        self.tokens[sequence] = 0

    def step(self, cancel: int | None = None) -> bool:
        waiting = {s for s in self.sequences if s.state is State.WAITING}
        step = self.scheduler.start_step(0.0)
        if step is None:
            return False
        self.check_limits()
        self.check_order(waiting)
        if cancel is not None and self.sequences:
            self.scheduler.cancel(self.sequences[cancel % len(self.sequences)])
        for sequence in step.emitting:
            self.tokens[sequence] += sequence.state is State.RUNNING
        self.finished += self.scheduler.finish_step(step)
        self.check_limits()
        return True

    def check_limits(self) -> None:
        running = [s for s in self.sequences if s.state is State.RUNNING]
        assert len(running) == self.scheduler.running <= self.scheduler.max_num_seqs
        assert self.scheduler.waiting == sum(s.state is State.WAITING for s in self.sequences)
        held = sum(s.held for s in running)
        assert held == self.scheduler.kv_used <= self.scheduler.card.kv_cache_tokens

    def check_order(self, waiting: set[Sequence]) -> None:
        """Nobody was admitted past a waiting sequence of better rank."""
        admitted = [s.rank for s in waiting if s.state is State.RUNNING]
        left = [s.rank for s in waiting if s.state is State.WAITING]
        if admitted and left:
            assert max(admitted) < min(left)


requests = st.tuples(st.integers(1, 60), st.integers(1, 40), st.integers(-2, 2))


@settings(max_examples=200, deadline=None)
@given(
    arrivals=st.lists(st.lists(requests, max_size=4), max_size=12),
    cancels=st.lists(st.none() | st.integers(0, 50), max_size=30),
    max_num_seqs=st.integers(1, 6),
    kv_cache_tokens=st.integers(100, 260),
)
def test_every_sequence_gets_exactly_its_tokens(
    arrivals: list[list[tuple[int, int, int]]],
    cancels: list[int | None],
    max_num_seqs: int,
    kv_cache_tokens: int,
) -> None:
    """Whatever arrives and is cancelled when: limits hold in every step, everyone ends, with its tokens."""
    run = Run(Scheduler(card(kv_cache_tokens), max_num_seqs))
    for burst in arrivals:
        for prompt, wanted, priority in burst:
            run.submit(Sequence(prompt, wanted, priority))
        run.step(cancels.pop() if cancels else None)
    for _ in range(100_000):
        if not run.step(cancels.pop() if cancels else None):
            break

    assert run.scheduler.kv_used == run.scheduler.running == run.scheduler.waiting == 0
    assert len(set(run.finished)) == len(run.finished)
    assert set(run.finished) == {s for s in run.sequences if s.state is State.FINISHED}
    for sequence in run.sequences:
        if sequence.state is State.FINISHED:
            assert run.tokens[sequence] == sequence.wanted_tokens == sequence.emitted
        else:
            assert sequence.state is State.CANCELLED


def test_lower_priority_number_goes_first() -> None:
    """The waiting queue is in order of priority, then of arrival."""
    scheduler = Scheduler(card(), max_num_seqs=1)
    late, early, urgent = Sequence(5, 1, 1), Sequence(5, 1, 1), Sequence(5, 1, -1)
    for sequence in (early, late, urgent):
        scheduler.submit(sequence)
    assert [run_step(scheduler)[1] for _ in range(3)] == [[urgent], [early], [late]]


def test_full_kv_cache_preempts_the_last_in_rank() -> None:
    """When decoding outgrows the KV cache, the least urgent sequence is recomputed later, losing nothing."""
    scheduler = Scheduler(card(kv_cache_tokens=100), max_num_seqs=4)
    urgent, patient = Sequence(40, 50, 0), Sequence(45, 50, 1)
    scheduler.submit(patient)
    scheduler.submit(urgent)
    tokens = {urgent: 0, patient: 0}
    while (step := scheduler.start_step(0.0)) is not None:
        for sequence in step.emitting:
            tokens[sequence] += 1
        scheduler.finish_step(step)
        if scheduler.counters.preemptions == 1 and tokens[patient] < 50:
            assert patient.state is State.WAITING or urgent.state is State.FINISHED
    assert scheduler.counters.preemptions == 1
    assert tokens == {urgent: 50, patient: 50}
    assert scheduler.counters.generation_tokens == 100
    assert scheduler.counters.prompt_tokens == 85


def test_prompt_waits_until_it_fits() -> None:
    """A prompt is admitted only when the whole of it fits the KV cache."""
    scheduler = Scheduler(card(kv_cache_tokens=100), max_num_seqs=4)
    scheduler.submit(Sequence(60, 2))
    scheduler.submit(Sequence(50, 1))
    run_step(scheduler)
    assert (scheduler.running, scheduler.waiting) == (1, 1)
    run_step(scheduler)
    _, finished = run_step(scheduler)
    assert [s.prompt_tokens for s in finished] == [50]


def test_step_time_is_the_roofline() -> None:
    """Prefill takes its rate; decoding the step time of its batch and KV; a slow engine a multiple."""
    scheduler = Scheduler(card(), max_num_seqs=4)
    scheduler.submit(Sequence(100, 3))
    scheduler.submit(Sequence(200, 3))
    prefill, _ = run_step(scheduler, 5.0)
    assert prefill.start == 5.0
    assert prefill.due == pytest.approx(5.3)
    decode = scheduler.start_step(prefill.due)
    assert decode is not None
    assert decode.due - decode.start == pytest.approx((10 + 0.5 + 0.001 * 302) / 1000)
    scheduler.finish_step(decode)
    slow = scheduler.start_step(decode.due, slowdown=10)
    assert slow is not None
    assert slow.due - slow.start == pytest.approx((10 + 0.5 + 0.001 * 304) / 100)


def test_short_prompt_still_reads_the_weights() -> None:
    """No step is shorter than one pass over the weights."""
    scheduler = Scheduler(card(), max_num_seqs=1)
    scheduler.submit(Sequence(1, 1))
    step, _ = run_step(scheduler)
    assert step.due == pytest.approx(0.010)


def test_long_prompts_are_prefilled_in_chunks() -> None:
    """A prompt over the step's token budget takes several steps, in which others go on decoding."""
    scheduler = Scheduler(card(), max_num_seqs=4)
    talker = Sequence(10, 10)
    scheduler.submit(talker)
    run_step(scheduler)
    reader = Sequence(MAX_BATCHED_TOKENS + 100, 2)
    scheduler.submit(reader)
    first, _ = run_step(scheduler)
    assert first.emitting == (talker,)
    second, _ = run_step(scheduler)
    assert second.emitting == (talker, reader)
    assert second.due == pytest.approx((10 + 0.001 * scheduler.kv_used) / 1000 + 0.101, rel=1e-2)


def test_impossible_sequences_are_refused() -> None:
    """What could never fit the KV cache, or has nothing to compute, is a ValueError and changes nothing."""
    scheduler = Scheduler(card(kv_cache_tokens=100), max_num_seqs=4)
    for prompt, wanted in ((90, 11), (0, 5), (5, 0)):
        with pytest.raises(ValueError, match=r"KV cache|at least"):
            scheduler.submit(Sequence(prompt, wanted))
    assert scheduler.waiting == 0
    assert scheduler.start_step(0.0) is None


def test_cancel_frees_at_once() -> None:
    """Cancelling frees place and KV even within a step; a second time it says there is nothing."""
    scheduler = Scheduler(card(), max_num_seqs=1)
    running, waiting = Sequence(50, 5), Sequence(50, 5)
    scheduler.submit(running)
    scheduler.submit(waiting)
    step = scheduler.start_step(0.0)
    assert step is not None
    assert scheduler.cancel(running)
    assert scheduler.cancel(waiting)
    assert (scheduler.kv_used, scheduler.running, scheduler.waiting) == (0, 0, 0)
    assert not scheduler.cancel(running)
    assert scheduler.finish_step(step) == []
    assert running.emitted == 0


def test_known_prefix_needs_no_prefill() -> None:
    """A prompt whose blocks are cached computes only what follows them, and counts as hits."""
    scheduler = Scheduler(card(), max_num_seqs=4)
    blocks = chain_blocks(range(6))
    for _ in range(2):
        scheduler.submit(Sequence(100, 1, blocks=blocks))
        step, _ = run_step(scheduler)
    assert step.due - step.start == pytest.approx(0.010)
    assert scheduler.counters.prefix_hits == 6 * BLOCK_TOKENS
    assert scheduler.counters.prefix_queries == scheduler.counters.prompt_tokens == 200


def test_prefix_cache_matches_whole_prefixes_only() -> None:
    """A block counts only if all blocks before it are the same."""
    cache = PrefixCache(1000)
    cache.remember(chain_blocks("abc"))
    assert cache.cached_tokens(chain_blocks("abx")) == 2 * BLOCK_TOKENS
    assert cache.cached_tokens(chain_blocks("xbc")) == 0


def test_prefix_cache_forgets_the_least_recently_used() -> None:
    """The cache holds no more blocks than the KV cache has room for."""
    cache = PrefixCache(2 * BLOCK_TOKENS)
    cache.remember(chain_blocks("a"))
    cache.remember(chain_blocks("b"))
    cache.cached_tokens(chain_blocks("a"))
    cache.remember(chain_blocks("c"))
    hits = [cache.cached_tokens(chain_blocks(letter)) // BLOCK_TOKENS for letter in "abc"]
    assert hits == [1, 0, 1]
