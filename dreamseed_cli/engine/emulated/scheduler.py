"""Continuous batching as vLLM does it: a state machine over plain data, with time passed in.

A step computes tokens: one for every decoding sequence, and pieces of prompts (chunked prefill) up to
a budget. A sequence whose computed tokens reach its length gets one new token when the step ends.
"""

from __future__ import annotations

from bisect import insort
from dataclasses import dataclass, field
from enum import Enum
from operator import attrgetter

from dreamseed_cli.engine.emulated.prefix_cache import PrefixCache
from dreamseed_cli.profile.schema import EmulatedCard

MAX_BATCHED_TOKENS = 2048
"""vLLM's default token budget of one step."""


class State(Enum):
    """Where a sequence stands."""

    NEW = "new"
    WAITING = "waiting"
    RUNNING = "running"
    FINISHED = "finished"
    CANCELLED = "cancelled"


@dataclass(slots=True, eq=False)
class Sequence:
    """One answer in the making. Lengths in tokens."""

    prompt_tokens: int
    wanted_tokens: int
    """Tokens to emit, known beforehand: the text is made by a seed, not by a model."""
    priority: int = 0
    """vLLM's: a lower number goes first."""
    blocks: tuple[int, ...] = ()
    """Chained hashes of the prompt's whole blocks, for the prefix cache."""
    emitted: int = 0
    computed: int = 0
    held: int = 0
    """KV-cache tokens it occupies."""
    state: State = State.NEW
    rank: tuple[int, int] = (0, 0)
    """(priority, arrival number): the order of admission, and backwards of preemption."""

    @property
    def length(self) -> int:
        """Tokens whose KV must be computed before the next token comes."""
        return self.prompt_tokens + self.emitted


@dataclass(frozen=True, slots=True)
class Step:
    """One forward pass: when it starts and ends (seconds of the caller's clock), who gets a token."""

    start: float
    due: float
    emitting: tuple[Sequence, ...]
    prefilled: tuple[Sequence, ...]
    """Those of `emitting` whose prompt is complete with this step."""


@dataclass(slots=True)
class Counters:
    """Running totals since the start."""

    preemptions: int = 0
    prefix_queries: int = 0
    prefix_hits: int = 0
    prompt_tokens: int = 0
    generation_tokens: int = 0
    steps: int = 0


@dataclass(slots=True)
class Scheduler:
    """The waiting queue, the running batch and the KV cache of one engine.

    Call `start_step`, wait until the step's `due`, call `finish_step`; `submit` and `cancel` at any time.
    """

    card: EmulatedCard
    max_num_seqs: int
    kv_used: int = 0
    counters: Counters = field(default_factory=Counters)
    _arrivals: int = 0
    _waiting: list[Sequence] = field(default_factory=list)
    # Dicts as ordered sets: a thousand sequences that end in one step must not cost a million look-ups.
    _prefilling: dict[Sequence, None] = field(default_factory=dict)
    _decoding: dict[Sequence, None] = field(default_factory=dict)
    _prefix_cache: PrefixCache = field(init=False)

    def __post_init__(self) -> None:
        self._prefix_cache = PrefixCache(self.card.kv_cache_tokens)

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    @property
    def running(self) -> int:
        return len(self._prefilling) + len(self._decoding)

    def submit(self, sequence: Sequence) -> None:
        """Queue a new sequence; ValueError if it could never fit the KV cache, even alone."""
        if sequence.prompt_tokens < 1 or sequence.wanted_tokens < 1:
            raise ValueError("a sequence has at least one prompt token and one token to emit")
        if sequence.prompt_tokens + sequence.wanted_tokens > self.card.kv_cache_tokens:
            raise ValueError("the sequence is longer than the KV cache")
        sequence.rank = (sequence.priority, self._arrivals)
        self._arrivals += 1
        self._enqueue(sequence)

    def cancel(self, sequence: Sequence) -> bool:
        """Free a sequence's place and KV at once; False if it was not there (any more)."""
        if sequence.state is State.WAITING:
            self._waiting.remove(sequence)
        elif sequence.state is State.RUNNING:
            self._leave_batch(sequence)
        else:
            return False
        sequence.state = State.CANCELLED
        return True

    def start_step(self, now: float, *, slowdown: float = 1.0) -> Step | None:
        """Decide what the step starting at `now` computes; None if there is nothing to do."""
        preempted = self._make_room()
        for sequence in self._decoding:
            sequence.held += 1
            sequence.computed += 1
        decoding = len(self._decoding)
        self.kv_used += decoding
        budget = max(MAX_BATCHED_TOKENS, self.max_num_seqs) - decoding
        prefilled = self._prefill(budget, admit=not preempted)
        if not self.running:
            return None
        self.counters.steps += 1
        ready = tuple(s for s in self._prefilling if s.computed == s.length)
        duration = self._duration_s(decoding, prefilled) * slowdown
        return Step(now, now + duration, (*self._decoding, *ready), ready)

    def finish_step(self, step: Step) -> list[Sequence]:
        """Give the step's tokens to those still there; returns the sequences that are complete now."""
        finished: list[Sequence] = []
        self._start_decoding(step.prefilled)
        for sequence in step.emitting:
            if sequence.state is not State.RUNNING:
                continue
            sequence.emitted += 1
            self.counters.generation_tokens += 1
            if sequence.emitted == sequence.wanted_tokens:
                finished.append(sequence)
        for sequence in finished:
            self._leave_batch(sequence)
            sequence.state = State.FINISHED
        return finished

    def _start_decoding(self, prefilled: tuple[Sequence, ...]) -> None:
        for sequence in prefilled:
            if sequence.state is not State.RUNNING:
                continue
            del self._prefilling[sequence]
            self._decoding[sequence] = None
            if sequence.emitted == 0:
                self.counters.prompt_tokens += sequence.prompt_tokens
                self._prefix_cache.remember(sequence.blocks)

    def _make_room(self) -> bool:
        """Preempt the last in rank until every decoding sequence can grow by one token."""
        preempted = False
        while self.kv_used + len(self._decoding) > self.card.kv_cache_tokens:
            victim = max((*self._decoding, *self._prefilling), key=attrgetter("rank"))
            self._leave_batch(victim)
            victim.computed = 0
            self._enqueue(victim)
            self.counters.preemptions += 1
            preempted = True
        return preempted

    def _prefill(self, budget: int, *, admit: bool) -> int:
        """Spend up to `budget` tokens on prompts, running ones first; returns how many were spent."""
        left = budget
        for sequence in self._prefilling:
            left -= self._advance(sequence, left)
        while admit and left > 0 and self._next_fits():
            left -= self._advance(self._admit(), left)
        return budget - left

    def _advance(self, sequence: Sequence, budget: int) -> int:
        tokens = min(sequence.length - sequence.computed, budget)
        sequence.computed += tokens
        return tokens

    def _next_fits(self) -> bool:
        if not self._waiting or self.running >= self.max_num_seqs:
            return False
        return self.kv_used + self._waiting[0].length <= self.card.kv_cache_tokens

    def _admit(self) -> Sequence:
        sequence = self._waiting.pop(0)
        sequence.state = State.RUNNING
        sequence.held = sequence.length
        self.kv_used += sequence.held
        # The last token is always computed: its output is what the first new token is sampled from.
        cached = min(self._prefix_cache.cached_tokens(sequence.blocks), sequence.prompt_tokens - 1)
        sequence.computed = cached
        if sequence.emitted == 0:
            self.counters.prefix_queries += sequence.prompt_tokens
            self.counters.prefix_hits += cached
        self._prefilling[sequence] = None
        return sequence

    def _enqueue(self, sequence: Sequence) -> None:
        sequence.state = State.WAITING
        insort(self._waiting, sequence, key=attrgetter("rank"))

    def _leave_batch(self, sequence: Sequence) -> None:
        home = self._decoding if sequence in self._decoding else self._prefilling
        del home[sequence]
        self.kv_used -= sequence.held
        sequence.held = 0

    def _duration_s(self, decoding: int, prefilled: int) -> float:
        """The roofline of a step; a step without decoding still reads the weights once."""
        card = self.card
        prefill_s = prefilled / card.prefill_tokens_per_s
        if decoding == 0:
            return max(prefill_s, card.decode_step_ms / 1000)
        decode_ms = (
            card.decode_step_ms
            + card.decode_step_ms_per_seq * (decoding - 1)
            + card.decode_step_ms_per_kv_token * self.kv_used
        )
        return prefill_s + decode_ms / 1000
