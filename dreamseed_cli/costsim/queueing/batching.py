"""A card with continuous batching that jumps from event to event: the emulated engine's rules, not its steps.

Between an arrival, the end of a prefill and the end of an answer the batch stays the same, so the time of m
decoding steps has a closed form. With n sequences and K tokens in the KV cache it is
m (a + b (n - 1)) + c (K m + n m (m + 1) / 2), where a, b and c are the card's `decode_step_ms`, `.._per_seq`
and `.._per_kv_token`.
Prefill, admission, priorities and preemption follow `engine/emulated/scheduler.py`; the prefix cache is left
out, and a sequence that is cancelled leaves its batch when the step under way ends.
"""

from __future__ import annotations

import math
from bisect import insort
from collections.abc import Sequence
from dataclasses import dataclass, replace
from heapq import heappop, heappush
from operator import attrgetter

from dreamseed_cli.engine.emulated.scheduler import MAX_BATCHED_TOKENS
from dreamseed_cli.profile.schema import EmulatedCard

NEVER = math.inf
_RANK = attrgetter("rank")


class Job:
    """One answer in the making. Lengths in tokens; `emitted` is right up to the card's last event."""

    __slots__ = (
        "base",
        "computed",
        "decoding",
        "emitted",
        "gone",
        "prompt_tokens",
        "rank",
        "running",
        "wanted",
    )

    def __init__(self, prompt_tokens: int, wanted: int, priority: int = 0) -> None:
        self.prompt_tokens = prompt_tokens
        self.wanted = wanted
        self.rank = (priority, 0)
        self.emitted = 0
        self.computed = 0
        self.base = 0
        """The card's step count minus `emitted`, while it decodes."""
        self.running = False
        self.decoding = False
        self.gone = False

    @property
    def length(self) -> int:
        """Tokens whose KV must be computed before the next token comes."""
        return self.prompt_tokens + self.emitted


@dataclass(slots=True)
class CardTotals:
    """What a card has done; seconds, and sequence-seconds."""

    busy_s: float = 0.0
    batch_s: float = 0.0
    tokens: float = 0.0
    prompt_tokens: float = 0.0
    preemptions: int = 0


class JumpCard:
    """One replica. `next_at` says when `event` is due; call nothing with a time after that before it."""

    def __init__(
        self, card: EmulatedCard, max_num_seqs: int, steps_ms: Sequence[float] | None = None
    ) -> None:
        """steps_ms: of 1, 2, ... sequences, instead of the card's two parts for them."""
        self._places = max_num_seqs
        self._capacity = card.kv_cache_tokens
        self._budget = max(MAX_BATCHED_TOKENS, max_num_seqs)
        self._prefill_s = 1 / card.prefill_tokens_per_s
        if steps_ms is None:
            steps_ms = [
                card.decode_step_ms + card.decode_step_ms_per_seq * more for more in range(max_num_seqs)
            ]
        # By the number of sequences; 0 of them take none.
        self._step_s = [0.0, *(step / 1000 for step in steps_ms)]
        self._token_s = card.decode_step_ms_per_kv_token / 1000
        self._arrivals = 0
        self._waiting: list[Job] = []
        self._prefilling: dict[Job, None] = {}
        self._decoding = 0
        self._ends: list[tuple[int, int, Job]] = []
        self._gone: list[Job] = []
        self._step = 0
        self._kv = 0
        # The jump under way: its start, steps, sequences, and seconds per step at its start and per KV token.
        self._start = 0.0
        self._steps = 0
        self._ready: list[Job] = []
        self._prompt = 0
        self._base_s = 0.0
        self._noted = 0
        self._owed = 0
        self._done = CardTotals()
        self.next_at = NEVER

    @property
    def load(self) -> int:
        """Sequences it has, waiting ones among them."""
        return len(self._waiting) + len(self._prefilling) + self._decoding

    def submit(self, job: Job, now: float) -> None:
        """Take a job in; ValueError if it could never fit the KV cache, even alone."""
        if job.prompt_tokens + job.wanted > self._capacity:
            raise ValueError("the sequence is longer than the KV cache")
        self._arrivals += 1
        job.rank = (job.rank[0], self._arrivals)
        insort(self._waiting, job, key=_RANK)
        if self.next_at == NEVER:
            self._begin(now)
        elif self._steps > 1 and len(self._prefilling) + self._decoding < self._places:
            self._stop_after(now)

    def cancel(self, job: Job, now: float) -> int:
        """Its caller left; returns how many tokens it has by now."""
        if not job.running:
            self._waiting.remove(job)
            if self._steps > 1 and self._waiting:
                self._stop_after(now)  # the next one may be short enough
            return job.emitted
        emitted = self._passed(now) + self._step - job.base if job.decoding else job.emitted
        self._owed = self.note_tokens(now)
        job.gone = True
        self._gone.append(job)
        if self._steps > 1:
            self._stop_after(now)
        return emitted

    def event(self) -> tuple[list[Job], list[Job]]:
        """At `next_at`: who got the first token, and who is complete. What comes next has begun."""
        now = self.next_at
        self._account(self._done, 1.0)
        self._owed += (self._steps - self._noted) * self._live()
        self._step += self._steps
        self._kv += self._decoding * self._steps
        firsts, finished = self._emit()
        for job in self._gone:
            if job.running:
                self._drop_gone(job)
        self._gone.clear()
        self._noted = 0
        self._begin(now)
        return firsts, finished

    def note_tokens(self, now: float) -> int:
        """Tokens that decoding answers got since the last call; first tokens and those gone left out."""
        fresh, self._owed = self._owed, 0
        if self._steps > 1 and (passed := self._passed(now)) > self._noted:
            fresh += (passed - self._noted) * self._live()
            self._noted = passed
        return fresh

    def totals(self, now: float) -> CardTotals:
        """What it has done by `now`; the jump under way counts by the part of its time that has passed."""
        found = replace(self._done)
        if self.next_at != NEVER:
            self._account(found, (now - self._start) / (self.next_at - self._start))
        return found

    # ------------------------------------------------------------------ the end of a jump

    def _emit(self) -> tuple[list[Job], list[Job]]:
        firsts: list[Job] = []
        finished: list[Job] = []
        ends = self._ends
        while ends and ends[0][0] <= self._step:
            end, _, job = heappop(ends)
            if job.decoding and not job.gone and job.base + job.wanted == end:
                job.emitted = job.wanted
                self._leave(job)
                finished.append(job)
        for job in self._ready:
            if job.gone:
                continue
            del self._prefilling[job]
            job.emitted += 1
            if job.emitted == 1:
                firsts.append(job)
            if job.emitted == job.wanted:
                self._kv -= job.length - 1
                job.running = False
                finished.append(job)
            else:
                self._decode(job)
        return firsts, finished

    def _decode(self, job: Job) -> None:
        job.decoding = True
        job.base = self._step - job.emitted
        self._decoding += 1
        heappush(self._ends, (job.base + job.wanted, job.rank[1], job))

    def _leave(self, job: Job) -> None:
        """It leaves the decoding ones; its last token's KV was never computed."""
        self._decoding -= 1
        self._kv -= job.length - 1
        job.decoding = job.running = False

    def _drop_gone(self, job: Job) -> None:
        if job.decoding:
            job.emitted = self._step - job.base
            self._leave(job)
        else:
            del self._prefilling[job]
            self._kv -= job.length
            job.running = False

    # ------------------------------------------------------------------ the next jump

    def _begin(self, now: float) -> None:
        preempted = self._decoding > 0 and self._make_room()
        if not self._decoding and not self._prefilling and not self._waiting:
            self.next_at = NEVER
            self._steps = 0
            return
        self._start = now
        self._ready = []
        self._prompt = 0
        if self._prefilling or (self._waiting and not preempted and self._next_fits()):
            self._begin_prefill(now, admit=not preempted)
            return
        self._steps = self._most_steps() if not preempted or not self._waiting else 1
        self._base_s = self._step_s[self._decoding] + self._token_s * self._kv
        self.next_at = now + self._seconds(self._steps)

    def _begin_prefill(self, now: float, *, admit: bool) -> None:
        """One step with a token for every decoding sequence and pieces of prompts."""
        kv = self._kv + self._decoding
        left = budget = self._budget - self._decoding
        for job in self._prefilling:
            left -= self._advance(job, left)
        while admit and left > 0 and self._waiting and self._next_fits():
            job = self._waiting.pop(0)
            job.running = True
            job.computed = 0
            self._prefilling[job] = None
            self._kv += job.length
            kv += job.length
            left -= self._advance(job, left)
        self._prompt = budget - left
        self._ready = [job for job in self._prefilling if job.computed == job.length]
        prefill_s = self._prompt * self._prefill_s
        self._steps = 1
        if self._decoding:
            prefill_s += self._step_s[self._decoding] + self._token_s * kv
            self.next_at = now + prefill_s
        else:
            self.next_at = now + max(prefill_s, self._step_s[1])

    def _advance(self, job: Job, left: int) -> int:
        tokens = min(job.length - job.computed, left)
        job.computed += tokens
        return tokens

    def _next_fits(self) -> bool:
        if len(self._prefilling) + self._decoding >= self._places:
            return False
        return self._kv + self._decoding + self._waiting[0].length <= self._capacity

    def _most_steps(self) -> int:
        """Until the next answer ends or the KV cache is full."""
        ends = self._ends
        while not ends[0][2].decoding or ends[0][2].base + ends[0][2].wanted != ends[0][0]:
            heappop(ends)
        return min(ends[0][0] - self._step, (self._capacity - self._kv) // self._decoding)

    def _make_room(self) -> bool:
        """Preempt the last in rank until every decoding sequence can grow by one token."""
        preempted = False
        while self._kv + self._decoding > self._capacity:
            decoding = {job for _, _, job in self._ends if job.decoding}
            victim = max((*decoding, *self._prefilling), key=_RANK)
            if victim.decoding:
                victim.emitted = self._step - victim.base
                self._leave(victim)
            else:
                del self._prefilling[victim]
                self._kv -= victim.length
                victim.running = False
            insort(self._waiting, victim, key=_RANK)
            self._done.preemptions += 1
            preempted = True
        return preempted

    # ------------------------------------------------------------------ time within a jump

    def _live(self) -> int:
        """Those of the decoding ones whose callers still wait."""
        return self._decoding - sum(job.decoding for job in self._gone)

    def _seconds(self, steps: int) -> float:
        growth = self._token_s * self._decoding
        return steps * self._base_s + growth * steps * (steps + 1) / 2

    def _passed(self, now: float) -> int:
        """Whole steps of the jump that have ended by now."""
        if self._steps <= 1:
            return 0
        elapsed = now - self._start
        growth = self._token_s * self._decoding
        first = self._base_s + growth / 2
        if growth > 1e-9 * first:
            steps = int((math.sqrt(first * first + 2 * growth * elapsed) - first) / growth)
        else:
            steps = int(elapsed / first)
        return min(steps, self._steps - 1)

    def _stop_after(self, now: float) -> None:
        """End the jump with the step that is under way."""
        self._steps = self._passed(now) + 1
        self.next_at = self._start + self._seconds(self._steps)

    def _account(self, totals: CardTotals, part: float) -> None:
        took_s = (self.next_at - self._start) * part
        decoded = self._decoding * self._steps * part
        totals.busy_s += took_s
        totals.batch_s += took_s * (self._decoding + len(self._prefilling))
        totals.tokens += decoded + (len(self._ready) if part >= 1 else 0)
        totals.prompt_tokens += self._prompt * part
