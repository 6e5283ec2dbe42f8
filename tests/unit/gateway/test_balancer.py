"""Which replica a request goes to, and what its slot then knows."""

from __future__ import annotations

import pytest

from dreamseed_cli.gateway.admission.ticket import Ticket
from dreamseed_cli.gateway.balancer import Balancer
from dreamseed_cli.gateway.call import PriorityClass
from dreamseed_cli.gateway.slot import Outcome, Slot


def _ticket(tokens: int = 100, *prefixes: int) -> Ticket:
    return Ticket(PriorityClass.STANDARD, 1, tokens - 1, 1e9, prefixes=prefixes)


def _balancer(count: int) -> Balancer:
    balancer = Balancer()
    balancer.replace(Slot(f"r{index}", ready=True) for index in range(count))
    return balancer


def _seat(balancer: Balancer, ticket: Ticket) -> str:
    slot = balancer.choose(ticket, 0.0)
    assert slot is not None
    balancer.seat(ticket, slot)
    return slot.name


def test_equal_replicas_take_turns() -> None:
    """On a tie the replica that was picked longest ago is next, so that idle ones share the work."""
    balancer = _balancer(3)
    picked = []
    for _ in range(6):
        ticket = _ticket()
        picked.append(_seat(balancer, ticket))
        balancer.finish(ticket, Outcome.FINISHED, 100, 0.0)
    assert picked == ["r0", "r1", "r2", "r0", "r1", "r2"]
    assert balancer.totals.tokens == 600


def test_work_counts_in_tokens_not_in_requests() -> None:
    """Three short requests weigh less than one long one."""
    balancer = _balancer(2)
    assert [_seat(balancer, _ticket(tokens)) for tokens in (1000, 100, 100, 100)] == ["r0", "r1", "r1", "r1"]


def test_premium_goes_where_the_fewest_prompts_are_before_it() -> None:
    """Its first token comes after their prefill; how much is left to decode matters less."""
    balancer = _balancer(2)
    prompt = Ticket(PriorityClass.STANDARD, 400, 10, 1e9)
    assert [_seat(balancer, prompt), _seat(balancer, _ticket(1000))] == ["r0", "r1"]
    assert _seat(balancer, Ticket(PriorityClass.PREMIUM, 50, 50, 1e9)) == "r1"
    balancer.progress(prompt, 1, 0.0)
    assert _seat(balancer, Ticket(PriorityClass.PREMIUM, 50, 50, 1e9)) == "r0"


def _premium(prompt_tokens: int) -> Ticket:
    return Ticket(PriorityClass.PREMIUM, prompt_tokens, 50, 1e9)


def _seat_at(balancer: Balancer, now: float, ticket: Ticket) -> str:
    slot = balancer.choose(ticket, now)
    assert slot is not None
    ticket.seated_at = now
    balancer.seat(ticket, slot)
    return slot.name


def test_premium_goes_where_the_premium_prompt_before_it_is_done_soonest() -> None:
    """Of two engines with an equal prompt in work, the one that began first; a long one is done later."""
    balancer = _balancer(2)
    assert [_seat_at(balancer, at, _premium(1500)) for at in (0.0, 0.3)] == ["r0", "r1"]
    assert _seat_at(balancer, 0.35, _premium(1500)) == "r0"
    assert _seat_at(balancer, 0.36, _premium(1500)) == "r1"


def test_how_fast_an_engine_prefills_is_learnt_from_lone_prompts() -> None:
    """A prompt of 1500 tokens that took a second makes the engine slower in our eyes; a short one tells
    nothing, and neither does one that shared the engine.
    """
    balancer = _balancer(1)
    (slot,) = balancer.slots
    guess = slot.prefill_per_s
    first, second = _premium(1500), _premium(1500)
    _seat_at(balancer, 0.0, first)
    _seat_at(balancer, 0.0, second)
    balancer.progress(first, 1, 1.0)
    assert slot.prefill_per_s == guess
    balancer.progress(second, 1, 1.0)
    assert 1500 < slot.prefill_per_s < guess
    assert slot.premium_until == 0.0
    learnt = slot.prefill_per_s
    short = _premium(20)
    _seat_at(balancer, 1.0, short)
    balancer.progress(short, 1, 3.0)
    assert slot.prefill_per_s == learnt


def test_work_shrinks_as_tokens_arrive() -> None:
    """A long answer that is almost done weighs little; one longer than asked for is never negative."""
    balancer = _balancer(2)
    long = _ticket(1000)
    _seat(balancer, long)
    _seat(balancer, _ticket(500))
    assert balancer.progress(long, 900, 0.0)
    assert not balancer.progress(long, 950, 0.0)
    assert _seat(balancer, _ticket(100)) == "r0"
    balancer.progress(long, 5000, 0.0)
    assert balancer.totals.outstanding_tokens == 1 + 500 + 100


def test_a_known_beginning_goes_where_it_is_cached() -> None:
    """While the load stays even; then the least busy takes it, and holds it too from then on."""
    balancer = _balancer(3)
    assert [_seat(balancer, _ticket(100, 7)) for _ in range(4)] == ["r0", "r0", "r0", "r1"]
    assert _seat(balancer, _ticket(100, 8)) == "r2"


def test_a_restarted_replica_has_lost_its_cache() -> None:
    """Readiness lost and won again: nothing is sent there for its cache."""
    balancer = _balancer(2)
    ticket = _ticket(100, 7)
    assert _seat(balancer, ticket) == "r0"
    balancer.finish(ticket, Outcome.FAILED, 0, 0.0)
    first = next(iter(balancer.slots))
    first.ready = False
    balancer.replace(list(balancer.slots))
    first.ready, first.paused_until = True, 0.0
    balancer.replace(list(balancer.slots))
    assert _seat(balancer, _ticket(100, 7)) == "r1"


def test_a_replica_that_fails_is_left_alone_longer_each_time() -> None:
    """The pause doubles up to two seconds and ends with the first token it gives."""
    balancer = _balancer(1)
    (slot,) = balancer.slots
    pauses = []
    for _ in range(8):
        ticket = _ticket()
        balancer.seat(ticket, slot)
        balancer.finish(ticket, Outcome.FAILED, 0, 10.0)
        pauses.append(slot.paused_until - 10.0)
    assert pauses == pytest.approx([0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 2.0, 2.0])
    assert balancer.choose(_ticket(), 11.9) is None
    assert balancer.next_resume(11.9) == pytest.approx(12.0)
    ticket = _ticket()
    balancer.seat(ticket, slot)
    balancer.progress(ticket, 1, 0.0)
    balancer.finish(ticket, Outcome.FAILED, 1, 20.0)
    assert slot.paused_until == pytest.approx(20.05)
