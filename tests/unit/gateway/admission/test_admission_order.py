"""Who goes next: users in turn, those that come back first, measured waits, deadlines."""

from __future__ import annotations

import pytest

from dreamseed_cli.gateway.admission.scheduler import Scheduler
from dreamseed_cli.gateway.admission.ticket import Ticket, TicketState
from dreamseed_cli.gateway.balancer import Balancer
from dreamseed_cli.gateway.call import PriorityClass
from dreamseed_cli.gateway.refusals import DeadlineUnmeetable, QueueFull
from dreamseed_cli.gateway.slot import Outcome, Slot
from dreamseed_cli.profile.schema import Admission

_PREMIUM, _STANDARD, _BATCH = PriorityClass.PREMIUM, PriorityClass.STANDARD, PriorityClass.BATCH


class _Desk:
    """A scheduler before replicas with so many places each, one second a step."""

    def __init__(self, *places: int, **rules: float) -> None:
        chosen = Admission(**({"reserved_for_premium": 0, "prefix_affinity": False} | rules))  # type: ignore[arg-type]
        self.slots = [Slot(f"r{index}", ready=True, places=count) for index, count in enumerate(places)]
        self.balancer = Balancer(chosen)
        self.balancer.replace(self.slots)
        self.scheduler = Scheduler(chosen, self.balancer)
        self.now = 0.0

    def ask(
        self, cls: PriorityClass = _STANDARD, user: str = "u", *, prompt: int = 1, patience: float = 1e6
    ) -> Ticket:
        ticket = Ticket(cls, prompt, 10, self.now + patience, user)
        self.scheduler.submit(ticket, self.now)
        return ticket

    def end(self, ticket: Ticket, outcome: Outcome = Outcome.FINISHED) -> list[Ticket]:
        self.now += 1.0
        return self.scheduler.release(ticket, outcome, 1, self.now)


def test_one_users_flood_delays_only_that_user() -> None:
    """Users of a class take turns, each in the order of its own requests."""
    desk = _Desk(1)
    running = desk.ask(user="first")
    flood = [desk.ask(user="loud") for _ in range(5)]
    quiet = [desk.ask(user="quiet") for _ in range(2)]
    order = []
    for _ in range(7):
        (running,) = desk.end(running)
        order.append(running)
    assert order == [flood[0], quiet[0], flood[1], quiet[1], *flood[2:]]


def test_who_comes_back_goes_before_all_that_wait() -> None:
    """A request whose replica failed goes before its class's others, and to another replica."""
    desk = _Desk(1, 1)
    failed, other = desk.ask(user="a"), desk.ask(user="b")
    waiting = desk.ask(user="c")
    assert failed.slot is not None
    failed.excluded |= {failed.slot.name}
    assert desk.end(failed, Outcome.FAILED) == []  # the replica that failed pauses
    desk.scheduler.put_back(failed, desk.now)
    assert desk.scheduler.tick(desk.now + 1.0) == ([], [waiting])
    assert desk.end(other) == [failed]


def test_who_has_left_is_forgotten_once_nobody_waits() -> None:
    """Not only at its deadline, which may be far."""
    desk = _Desk(1)
    running, _ = desk.ask(), desk.ask()
    desk.end(running)
    assert len(desk.scheduler._deadlines) == 0
    desk.scheduler.cancel(desk.ask())
    assert len(desk.scheduler._deadlines) == 0


def test_one_that_waits_for_a_certain_replica_holds_up_nobody() -> None:
    """A request that only one replica may answer lets others of its class take the free ones."""
    desk = _Desk(1, 1)
    first, second = desk.ask(), desk.ask()
    picky = Ticket(_STANDARD, 1, 10, 1e6, excluded=frozenset({"r0"}))
    desk.scheduler.put_back(picky, desk.now)
    other = desk.ask()
    assert desk.end(first) == [other]
    assert desk.end(second) == [picky]


def test_a_table_without_any_other_replica_gives_another_try() -> None:
    """When all that are ready have failed a request, a change of the table lets it try them again."""
    desk = _Desk(1)
    ticket = Ticket(_STANDARD, 1, 10, 1e6, excluded=frozenset({"r0"}))
    assert desk.scheduler.put_back(ticket, 0.0) == []
    assert desk.scheduler.table_changed(0.0) == [ticket]


def test_the_last_replica_may_go_away_for_a_moment() -> None:
    """What waits goes on waiting while no replica is ready, and is served when one is."""
    desk = _Desk(1)
    running, waiting = desk.ask(), desk.ask()
    desk.slots[0].ready = False
    assert desk.scheduler.table_changed(desk.now) == []
    assert desk.end(running, Outcome.FAILED) == []
    desk.slots[0].ready = True
    desk.now += 10
    assert desk.scheduler.table_changed(desk.now) == [waiting]


def test_places_are_kept_free_for_the_next_premium() -> None:
    """STANDARD and BATCH leave them empty; PREMIUM takes them, and then the next ones are kept for it."""
    desk = _Desk(6, reserved_for_premium=2)
    below = [desk.ask(_BATCH) for _ in range(5)]
    assert [ticket.state for ticket in below] == [TicketState.SEATED] * 4 + [TicketState.WAITING]
    premium = [desk.ask(_PREMIUM) for _ in range(3)]
    assert [ticket.state for ticket in premium] == [TicketState.SEATED] * 2 + [TicketState.WAITING]
    assert desk.end(below[0]) == [premium[2]]
    assert desk.end(below[1]) == desk.end(below[2]) == []
    assert desk.end(below[3]) == [below[4]]


def test_a_small_engine_reserves_half_its_places_at_most() -> None:
    """With more reserved than there are places, the lower classes still get some."""
    desk = _Desk(1, reserved_for_premium=4)
    assert desk.ask(_BATCH).state is TicketState.SEATED


def test_prompts_that_wait_for_their_prefill_hold_the_lower_classes_back() -> None:
    """Once enough prompt tokens await their first token only PREMIUM is sent; a first token lets go."""
    desk = _Desk(8, prefill_ahead_tokens=100, prefill_ahead_quiet_tokens=100)
    first = desk.ask(prompt=60)
    second = desk.ask(prompt=60)
    held = desk.ask(prompt=60)
    assert (second.state, held.state) == (TicketState.SEATED, TicketState.WAITING)
    assert desk.ask(_PREMIUM, prompt=60).state is TicketState.SEATED
    assert desk.scheduler.progress(first, 1, desk.now) == []
    assert desk.scheduler.progress(second, 1, desk.now) == [held]


def test_whoever_is_far_overdue_is_not_held_back() -> None:
    """Endless prompts of PREMIUM do not keep a class from its share by filling the prefill."""
    desk = _Desk(4, prefill_ahead_tokens=1, share_batch=0.25)
    running = [desk.ask(_PREMIUM, prompt=10) for _ in range(4)]
    batch = desk.ask(_BATCH, prompt=10)
    order = []
    for _ in range(12):
        desk.ask(_PREMIUM, prompt=10)
        (granted,) = desk.end(running.pop(0))
        running.append(granted)
        order.append(granted)
    assert order.index(batch) == 8  # twice its cost of credit, at a quarter of a cost for each that passed


def test_more_prompts_than_two_steps_can_prefill_are_sent_to_no_engine() -> None:
    """PREMIUM waits here too then: in the engine nobody could put it elsewhere or in another order."""
    desk = _Desk(8, 8, prefill_ahead_tokens=1)
    first = [desk.ask(_PREMIUM, prompt=4096) for _ in range(2)]
    waiting = desk.ask(_PREMIUM, prompt=1)
    assert waiting.state is TicketState.WAITING
    assert desk.scheduler.progress(first[1], 1, desk.now) == [waiting]
    assert waiting.slot is desk.slots[1]


def test_whoever_gets_its_share_gets_it_in_the_engine_too() -> None:
    """An engine orders by class and knows no aging: a place won by age comes with PREMIUM's number."""
    desk = _Desk(1, share_batch=0.5)
    running = desk.ask(_PREMIUM)
    batch = desk.ask(_BATCH)
    waiting = [desk.ask(_PREMIUM) for _ in range(3)]
    assert batch.engine_priority == 2
    for _ in range(3):
        (running,) = desk.end(running)
        if running is batch:
            break
    assert running is batch
    assert batch.engine_priority == waiting[0].engine_priority == 0


def test_answers_that_nobody_waits_for_count_as_slow() -> None:
    """Engines so full that every answer is cut are noticed by the time that each would have taken."""
    desk = _Desk(1)
    running = desk.ask(patience=20.0)
    running.answer_tokens = 100
    desk.now = 19.0
    desk.scheduler.release(running, Outcome.CANCELLED, 50, 20.0)
    desk.now = 20.0
    running, waiting = desk.ask(), desk.ask(patience=30.0)
    waiting.answer_tokens = 100
    assert desk.end(running, Outcome.CANCELLED) == [waiting]
    assert waiting.state is TicketState.OUT  # 40 s for an answer, 29 s are left


def test_an_engine_that_says_it_is_full_gets_less_for_a_while() -> None:
    """Its refusal shows how many it takes; each round of answers tries one more."""
    desk = _Desk(8)
    seated = [desk.ask() for _ in range(8)]
    desk.end(seated.pop(), Outcome.BUSY)
    desk.end(seated.pop(), Outcome.BUSY)
    assert desk.slots[0].room() == 6
    for _ in range(12):
        desk.ask()
    assert desk.slots[0].taken == 6
    for _ in range(7):
        seated += desk.end(seated.pop(0))
    assert (desk.slots[0].room(), desk.slots[0].taken) == (7, 7)


def test_a_place_is_free_when_the_answer_has_arrived() -> None:
    """An answer that nobody reads to its end holds no place, but it is still under way."""
    desk = _Desk(1)
    slow, waiting = desk.ask(), desk.ask()
    assert desk.scheduler.vacate(slow, desk.now) == [waiting]
    assert (desk.slots[0].taken, desk.slots[0].outstanding) == (1, 2)
    assert desk.end(slow) == []
    assert (desk.slots[0].taken, desk.slots[0].outstanding) == (1, 1)


def test_a_full_queue_tells_how_long_it_takes_to_drain() -> None:
    """RetryInfo is the measured time between two dispatches, times those that wait."""
    desk = _Desk(1, max_queued_standard=5)
    running = desk.ask()
    waiting = [desk.ask() for _ in range(4)]
    for _ in range(3):
        (running,) = desk.end(running)
        waiting.append(desk.ask())
    desk.ask()
    with pytest.raises(QueueFull) as caught:
        desk.ask()
    assert caught.value.retry_after_s == pytest.approx(6.0)


def test_a_deadline_that_cannot_be_met_is_refused_at_once() -> None:
    """Once the pace is known, a request is only queued if its answer would be there in time."""
    desk = _Desk(1)
    running = desk.ask(user="a")
    for _ in range(5):
        desk.ask(user="a", patience=2.0)  # nothing measured yet: let in
    (running,) = desk.end(running)
    with pytest.raises(DeadlineUnmeetable) as caught:
        desk.ask(user="a", patience=2.0)
    assert caught.value.retry_after_s == pytest.approx(5.0 + 1.0 - 2.0)
    assert desk.ask(user="a", patience=6.0).state is TicketState.WAITING
    assert desk.ask(user="b", patience=4.0).state is TicketState.WAITING  # its turn comes sooner


def test_a_deadline_that_has_passed_is_refused_though_a_place_is_free() -> None:
    """Nobody waits for the answer any more."""
    desk = _Desk(1)
    with pytest.raises(DeadlineUnmeetable):
        desk.ask(patience=0.0)


def test_who_would_be_the_first_to_wait_is_refused_by_how_long_answers_take() -> None:
    """No queue was ever seen to drain, but its answer alone takes longer than it has."""
    desk = _Desk(1)
    first = desk.ask()
    desk.now = 9.0
    desk.end(first)  # an answer takes 10 s
    desk.ask()
    with pytest.raises(DeadlineUnmeetable):
        desk.ask(patience=9.0)
    assert desk.ask(patience=11.0).state is TicketState.WAITING


def test_the_quiet_since_the_last_backlog_is_no_standstill() -> None:
    """A quiet hour lies between: the first one to wait again is not told that an hour lies ahead."""
    desk = _Desk(1)
    running, _ = desk.ask(), desk.ask()
    desk.now += 1.0
    (running,) = desk.end(running)
    desk.end(running)
    desk.now += 3600.0
    desk.ask()
    assert desk.ask(patience=10.0).state is TicketState.WAITING


def test_who_has_waited_too_long_for_an_answer_gets_no_place() -> None:
    """What would be cut at its deadline is given up when its turn comes, and the next one goes."""
    desk = _Desk(1)
    first = desk.ask()
    desk.now = 9.0
    assert desk.end(first) == []  # an answer takes 10 s
    running, late, patient = desk.ask(), desk.ask(patience=30.0), desk.ask()
    desk.now += 25.0
    assert desk.end(running) == [late, patient]
    assert (late.state, patient.state) == (TicketState.OUT, TicketState.SEATED)


def test_a_half_delivered_answer_gets_its_place_however_late() -> None:
    """What is left of it is less than an answer, and its caller has a part of it."""
    desk = _Desk(1)
    first = desk.ask()
    desk.now = 9.0
    desk.end(first)
    running = desk.ask()
    half = Ticket(_STANDARD, 1, 10, desk.now + 5.0, weights=("", False))
    desk.scheduler.put_back(half, desk.now)
    assert desk.end(running) == [half]
    assert half.state is TicketState.SEATED


def test_a_queue_that_stands_still_lengthens_the_wait() -> None:
    """The time since the last dispatch counts, so that a hung engine is noticed."""
    desk = _Desk(1)
    running = desk.ask()
    desk.ask(), desk.ask()
    desk.end(running)
    desk.now += 100
    with pytest.raises(DeadlineUnmeetable):
        desk.ask(patience=10.0)


def test_a_raised_ticket_waits_in_the_higher_class() -> None:
    """It goes to that class's end, keeps its time of arrival, and stays where it is if that is full."""
    desk = _Desk(1, max_queued_premium=2)
    running = desk.ask()
    batch, other = desk.ask(_BATCH), desk.ask(_BATCH)
    premium = desk.ask(_PREMIUM)
    desk.scheduler.raise_class(batch, _PREMIUM, desk.now)
    desk.scheduler.raise_class(other, _PREMIUM, desk.now)
    assert (batch.priority, other.priority) == (_PREMIUM, _BATCH)
    (running,) = desk.end(running)
    assert running is premium
    assert desk.end(running) == [batch]
    assert batch.waited_s == 2.0


def test_a_raised_ticket_that_failed_somewhere_holds_up_nobody() -> None:
    """What only some replicas may answer stays apart from the others in the higher class too."""
    desk = _Desk(1, 1)
    first, _ = desk.ask(), desk.ask()
    picky = Ticket(_BATCH, 1, 10, 1e6, excluded=frozenset({"r0"}))
    desk.scheduler.put_back(picky, desk.now)
    desk.scheduler.raise_class(picky, _STANDARD, desk.now)
    other = desk.ask()
    assert desk.end(first) == [other]


def test_a_share_is_for_the_request_that_it_covers() -> None:
    """Credit for a small request that cannot be placed is none for a larger one behind it."""
    desk = _Desk(1, 1, share_batch=0.1)
    running, _ = desk.ask(_PREMIUM), desk.ask(_PREMIUM)
    small = Ticket(_BATCH, 1, 1, 1e6, excluded=frozenset({"r0"}))
    desk.scheduler.put_back(small, desk.now)
    large = desk.ask(_BATCH, prompt=500)
    for _ in range(10):
        desk.ask(_PREMIUM)
        (running,) = desk.end(running)
        assert running is not large


def test_an_extended_deadline_is_kept() -> None:
    """The old one passes without effect; a shorter one changes nothing."""
    desk = _Desk(1)
    desk.ask()
    ticket = desk.ask(patience=5.0)
    desk.scheduler.extend(ticket, 20.0)
    desk.scheduler.extend(ticket, 10.0)
    assert desk.scheduler.tick(15.0) == ([], [])
    assert desk.scheduler.tick(20.0) == ([ticket], [])


def test_new_rules_hold_from_the_next_request_on() -> None:
    """A queue over its new bound keeps what it has and refuses more; places no longer reserved are filled."""
    desk = _Desk(2, reserved_for_premium=1)
    running = desk.ask()
    waiting = [desk.ask() for _ in range(3)]
    assert desk.scheduler.take_rules(Admission(reserved_for_premium=1, max_queued_standard=1), desk.now) == []
    assert desk.scheduler.length(_STANDARD) == 3
    with pytest.raises(QueueFull):
        desk.ask()
    (moved,) = desk.scheduler.take_rules(Admission(reserved_for_premium=0, max_queued_standard=3), desk.now)
    assert moved is waiting[0]
    assert moved.state is TicketState.SEATED
    desk.ask()
    assert [ticket.state for ticket in (running, *waiting[1:])] == [
        TicketState.SEATED,
        TicketState.WAITING,
        TicketState.WAITING,
    ]
