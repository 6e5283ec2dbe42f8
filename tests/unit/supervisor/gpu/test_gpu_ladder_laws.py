"""Whatever happens to a card in whatever order: the laws of the ladder hold."""

from __future__ import annotations

from dataclasses import dataclass, field

from hypothesis import given
from hypothesis import strategies as st

from dreamseed_cli.supervisor.gpu.ladder import (
    IN_HAND,
    OUT_OF_USE,
    Action,
    Card,
    CardState,
    Ended,
    EngineFailed,
    EngineReady,
    Event,
    FaultKind,
    FaultSeen,
    MemoryFree,
    MemoryHeld,
    Read,
    Released,
    ResetDone,
    ResetFailed,
    ResetTimedOut,
    Rules,
    advance,
)

_ANSWERS: dict[Action, tuple[Event, ...]] = {
    Action.END_PROCESSES: (Ended(),),
    Action.CHECK_MEMORY: (MemoryFree(), MemoryHeld()),
    Action.RESTART: (EngineReady(), EngineFailed()),
    Action.RESET: (ResetDone(), ResetFailed(), ResetTimedOut()),
}
_FAULTS = st.builds(
    FaultSeen,
    detail=st.just("x"),
    kind=st.sampled_from(FaultKind),
    xid=st.sampled_from([None, 13, 31, 45, 48, 63, 79, 95, 119]),
)
_READS = st.builds(Read, recovery_action=st.sampled_from([None, "none", "gpu_reset", "node_reboot"]))
_STRAY = st.sampled_from([answer for answers in _ANSWERS.values() for answer in answers])
_EVENTS = st.one_of(_FAULTS, _READS, st.just(Released()), _STRAY)
_MOMENTS = st.lists(st.tuples(st.floats(0, 400), _EVENTS, st.booleans(), st.integers(0, 2)), max_size=40)


@dataclass
class Course:
    """A card that lives through events, with the action that is under way."""

    rules: Rules
    now: float = 0.0
    card: Card = field(default_factory=lambda: Card(0, 0.0))
    under_way: Action = Action.NOTHING
    begun: list[tuple[float, Action]] = field(default_factory=list)

    def happen(self, event: Event) -> None:
        step = advance(self.card, event, self.now, self.rules)
        answers = event in _ANSWERS.get(self.under_way, ())
        if step.action is not Action.NOTHING:
            assert self.under_way is Action.NOTHING or answers, "a second action beside the first"
            self.begun.append((self.now, step.action))
        if answers or step.action is not Action.NOTHING:
            self.under_way = step.action if step.action in _ANSWERS else Action.NOTHING
        self.card = step.card
        assert (self.card.state in IN_HAND) == (self.under_way is not Action.NOTHING)

    def answer(self, choice: int) -> None:
        answers = _ANSWERS.get(self.under_way, ())
        if answers:
            self.happen(answers[choice % len(answers)])


@given(_MOMENTS, st.booleans(), st.integers(0, 2))
def test_the_laws_of_the_ladder(
    moments: list[tuple[float, Event, bool, int]], allow_reset: bool, last: int
) -> None:
    """One action at a time; no reset that was not allowed; it ends in ok, quarantined or lost."""
    course = Course(Rules(allow_reset=allow_reset))
    for pause_s, event, answered, choice in moments:
        course.now += pause_s
        course.happen(event)
        if answered:
            course.answer(choice)
    resets = [action for _, action in course.begun if action is Action.RESET]
    assert allow_reset or not resets
    # A climb ends within all its rungs: end, check, restart, end, check, reset, restart.
    for _ in range(8):
        course.answer(last)
    course.happen(Read(recovery_action="none"))
    course.now += course.rules.suspect_s + 1
    course.happen(Read(recovery_action="none"))
    assert course.card.state in {CardState.OK, *OUT_OF_USE}
    assert course.under_way is Action.NOTHING


@given(st.lists(st.tuples(st.floats(0, 30), _FAULTS, st.integers(0, 2)), max_size=30))
def test_at_most_one_climb_in_a_stable_period(moments: list[tuple[float, FaultSeen, int]]) -> None:
    """Whatever faults come, within ten minutes a card is restarted twice and reset once at most."""
    course = Course(Rules(allow_reset=True))
    for pause_s, fault, choice in moments:
        course.now += pause_s
        if course.now >= course.rules.stable_s:
            break
        course.happen(fault)
        for _ in range(8):
            course.answer(choice)
    actions = [action for _, action in course.begun]
    assert actions.count(Action.RESTART) <= 2
    assert actions.count(Action.RESET) <= 1
    assert actions.count(Action.QUARANTINE) <= 1
