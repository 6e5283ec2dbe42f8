"""Which replica a request goes to: one with a place for it and the least work. Plain state, no sockets."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from functools import partial

from dreamseed_cli.gateway.admission.affinity import Affinity
from dreamseed_cli.gateway.admission.ticket import Ticket
from dreamseed_cli.gateway.slot import Outcome, Slot
from dreamseed_cli.profile.schema import Admission

_MOST_PREFILL = 4096
"""Prompt tokens that wait for their prefill on one engine before it gets nothing more, PREMIUM neither: they
fill two of vLLM's steps, and what waits here may still go elsewhere or in another order."""
_QUIET_AFTER = 512
"""STANDARD and BATCH requests placed since the last PREMIUM one, after which none is expected next."""
_EVEN = 0.25
"""How far above the least outstanding work a replica may be and still be preferred for its cache."""


class Balancer:
    """The table of replicas, and who has which place. A replica may vanish while it still answers."""

    def __init__(self, rules: Admission | None = None) -> None:
        self._slots: dict[str, Slot] = {}
        self._affinity: Affinity | None = None
        self.take_rules(rules or Admission())
        self._picks = 0
        self._since_premium = _QUIET_AFTER
        self.totals = Slot("", ready=False)
        """The sums over all replicas there ever were."""

    def take_rules(self, rules: Admission) -> None:
        """Place by these rules from now on; what is placed already stays where it is."""
        self._reserved = rules.reserved_for_premium
        self._prefill_ahead = rules.prefill_ahead_tokens
        self._prefill_quiet = max(rules.prefill_ahead_tokens, rules.prefill_ahead_quiet_tokens)
        if not rules.prefix_affinity:
            self._affinity = None
        elif self._affinity is None:
            self._affinity = Affinity()

    @property
    def slots(self) -> Collection[Slot]:
        """All replicas, in the order of the table."""
        return self._slots.values()

    def replace(self, slots: Iterable[Slot]) -> None:
        """Make `slots` the whole table. A replica that stays keeps its Slot: its work goes on."""
        before = {slot.name for slot in self._slots.values()}
        self._slots = {slot.name: slot for slot in slots}
        if self._affinity is not None:
            holding = {slot.name for slot in self._slots.values() if slot.ready}
            self._affinity.forget(frozenset(before - holding))

    def any_ready(self) -> bool:
        """Whether a request could go anywhere."""
        return any(slot.ready for slot in self._slots.values())

    def any_free(self, now: float) -> bool:
        """Whether any request at all could have a place: a quick no while all replicas are full."""
        return any(
            slot.ready and slot.taken < slot.room() and slot.paused_until <= now
            for slot in self._slots.values()
        )

    def ready_for(self, ticket: Ticket) -> bool:
        """Whether a ready replica is left that may answer it, with or without a free place."""
        return any(slot.ready and ticket.accepts(slot) for slot in self._slots.values())

    def ready_names(self) -> frozenset[str]:
        return frozenset(slot.name for slot in self._slots.values() if slot.ready)

    def next_resume(self, now: float) -> float | None:
        """When the next pause of a ready replica ends."""
        ends = [slot.paused_until for slot in self._slots.values() if slot.ready and slot.paused_until > now]
        return min(ends, default=None)

    def choose(
        self, ticket: Ticket, now: float, *, hold_back: bool = True, reserve: bool = True
    ) -> Slot | None:
        """The replica for it, or None while it has to wait.

        Least outstanding tokens, then requests, then picked longest ago; for PREMIUM the one that will be
        done soonest with the PREMIUM prompts before its own. One whose cache holds the prompt's beginning is
        preferred while it has little more to do than that one.
        hold_back: whether the prompt tokens that wait for their prefill are a reason for STANDARD and BATCH
        to wait. reserve: whether the last free places are kept for PREMIUM.
        """
        free = [
            slot for slot in self._slots.values() if self._has_place(slot, ticket, now, hold_back, reserve)
        ]
        if not free:
            return None
        if len(free) == 1:
            return free[0]
        least = min(free, key=partial(_soonest, now) if ticket.premium else _work)
        if self._affinity is not None and ticket.prefixes:
            return self._nearest(free, least, ticket)
        return least

    def seat(self, ticket: Ticket, slot: Slot) -> None:
        """Give it a place there."""
        self._picks += 1
        slot.last_picked = self._picks
        ticket.slot = slot
        ticket.remaining = ticket.cost
        ticket.prefilling = ticket.holds_place = True
        for counted in (slot, self.totals):
            counted.taken += 1
            counted.outstanding += 1
            counted.outstanding_tokens += ticket.remaining
            counted.prefill_tokens += ticket.prompt_tokens
        if ticket.premium:
            slot.premium_seated(ticket.prompt_tokens, ticket.seated_at)
        self._since_premium = 0 if ticket.premium else self._since_premium + 1
        if self._affinity is not None:
            self._affinity.remember(ticket.prefixes, slot.name)

    def progress(self, ticket: Ticket, tokens: int, now: float) -> bool:
        """`tokens` of its answer have come in all; whether these were the first."""
        slot = ticket.slot
        if slot is None:
            return False
        slot.progress += 1
        if ticket.prefilling and ticket.premium:
            slot.premium_began(ticket.prompt_tokens, now - ticket.seated_at)
        first = self._end_prefill(ticket, slot)
        left = max(ticket.answer_tokens - tokens, 1)
        if left < ticket.remaining:
            self._set_remaining(ticket, slot, left)
        if first:
            slot.failures_in_a_row = 0
        return first

    def vacate(self, ticket: Ticket) -> None:
        """The engine is done with it: its place is free, though its answer may not have been read."""
        slot = ticket.slot
        if slot is None or not ticket.holds_place:
            return
        ticket.holds_place = False
        self._end_prefill(ticket, slot)
        self._set_remaining(ticket, slot, 0)
        for counted in (slot, self.totals):
            counted.taken -= 1

    def finish(self, ticket: Ticket, outcome: Outcome, tokens: int, now: float) -> None:
        """It left its replica, exactly once. tokens: generated for it there, as far as known."""
        slot = ticket.slot
        if slot is None:
            raise ValueError("the ticket has no replica")
        self.vacate(ticket)
        ticket.slot = None
        for counted in (slot, self.totals):
            counted.outstanding -= 1
            counted.outcomes[outcome] += 1
            counted.tokens += tokens
        if outcome is Outcome.FINISHED:
            slot.delivered()
        elif outcome is Outcome.BUSY:
            slot.refused_for_fullness(now)
        elif outcome is Outcome.FAILED:
            slot.pause(now)

    def _has_place(self, slot: Slot, ticket: Ticket, now: float, hold_back: bool, reserve: bool) -> bool:
        room = slot.room()
        if not slot.ready or slot.paused_until > now or not ticket.accepts(slot):
            return False
        kept = min(self._reserved, room // 2) if reserve and not ticket.premium else 0
        if slot.taken >= room - kept:
            return False
        held = hold_back and not ticket.premium
        return slot.prefill_tokens < (self._ahead() if held else _MOST_PREFILL)

    def _ahead(self) -> int:
        """Prompt tokens after which STANDARD and BATCH are held back: few while PREMIUM requests come."""
        return self._prefill_ahead if self._since_premium < _QUIET_AFTER else self._prefill_quiet

    def _nearest(self, free: list[Slot], least: Slot, ticket: Ticket) -> Slot:
        """The least busy of those that hold the prompt's beginning, unless that would be too uneven."""
        if self._affinity is None:
            return least
        homes = self._affinity.homes(ticket.prefixes)
        near = [slot for slot in free if slot.name in homes]
        if not near:
            return least
        best = min(near, key=_work)
        allowed = least.outstanding_tokens * (1 + _EVEN) + 2 * ticket.cost
        return best if best.outstanding_tokens <= allowed else least

    def _end_prefill(self, ticket: Ticket, slot: Slot) -> bool:
        if not ticket.prefilling:
            return False
        ticket.prefilling = False
        if ticket.premium:
            slot.premium_prefilled()
        slot.prefill_tokens -= ticket.prompt_tokens
        self.totals.prefill_tokens -= ticket.prompt_tokens
        return True

    def _set_remaining(self, ticket: Ticket, slot: Slot, left: int) -> None:
        slot.outstanding_tokens -= ticket.remaining - left
        self.totals.outstanding_tokens -= ticket.remaining - left
        ticket.remaining = left


def _soonest(now: float, slot: Slot) -> tuple[float, int, int, int, int]:
    return max(slot.premium_until - now, 0.0), slot.prefill_tokens, *_work(slot)


def _work(slot: Slot) -> tuple[int, int, int]:
    return slot.outstanding_tokens, slot.outstanding, slot.last_picked
