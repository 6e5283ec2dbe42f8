"""Scripted observations, and what is made of them."""

from __future__ import annotations

from dreamseed_cli.chaos.story import Observation, Seen, Step, Verdict, judge, story

_BEFORE = Observation(
    0.0, (Seen("r0", "ready", "answered", since_s=-50.0, pid=1), Seen("gateway", "serving"))
)


def _saw(at_s: float, state: str, reason: str = "", since_s: float | None = None) -> Observation:
    return Observation(at_s, (Seen("r0", state, reason, since_s=since_s), Seen("gateway", "serving")))


def _judge(*observations: Observation, must_leave: bool = True) -> Verdict:
    return judge([_BEFORE, *observations], ["r0"], "ready", must_leave=must_leave)


_CRASH = (
    _saw(0.1, "ready", "answered", -50.0),
    _saw(0.2, "restarting", "killed", 0.12),
    _saw(0.3, "restarting", "killed", 0.12),
    _saw(1.3, "starting", "launched", 1.25),
    _saw(2.4, "ready", "answered", 2.31),
    _saw(2.5, "ready", "answered", 2.31),
)


def test_a_crash_and_its_restart() -> None:
    """Each change once, at the moment that the supervisor gives for it."""
    assert story([_BEFORE, *_CRASH]) == [
        Step(0.12, "r0", "restarting", "killed"),
        Step(1.25, "r0", "starting", "launched"),
        Step(2.31, "r0", "ready", "answered"),
    ]
    assert _judge(*_CRASH) == Verdict(detect_s=0.12, recover_s=2.31)


def test_it_is_not_over_before_it_has_begun() -> None:
    """A replica that is still ready has not recovered: the fault was not noticed yet."""
    assert _judge(_CRASH[0]) == Verdict()
    assert _judge(*_CRASH[:3]) == Verdict(detect_s=0.12)


def test_to_be_healed_it_need_not_have_been_ill() -> None:
    """After `heal` being ready is enough."""
    assert _judge(_CRASH[0], must_leave=False) == Verdict(None, 0.1)
    hung = _saw(0.1, "hung", "no_progress", -9.0)
    assert _judge(hung, must_leave=False) == Verdict()
    assert _judge(hung, _saw(3.0, "ready", "recovered", 2.9), must_leave=False) == Verdict(None, 2.9)


def test_without_a_moment_of_its_own_a_change_counts_when_it_was_seen() -> None:
    """The gateway does not tell since when; a moment before the fault is not about it."""
    seen = [_BEFORE, _saw(0.5, "degraded", "slow", -3.0), _saw(0.9, "ready", "recovered")]
    assert [step.at_s for step in story(seen)] == [0.5, 0.9]


def test_what_went_and_came_back_between_two_looks() -> None:
    """A new moment, or a new process, gives it away."""
    blink = _saw(4.0, "ready", "answered", 3.5)
    assert story([_BEFORE, blink]) == [Step(3.5, "r0", "ready", "answered")]
    assert _judge(blink) == Verdict(3.5, 3.5)
    gateways = [
        Observation(at_s, (Seen("gateway", "serving", pid=pid),)) for at_s, pid in ((0.0, 7), (1.0, 8))
    ]
    assert story(gateways) == [Step(1.0, "gateway", "serving")]
    assert judge(gateways, ["gateway"], "serving") == Verdict(1.0, 1.0)


def test_a_gateway_that_was_away() -> None:
    """Its process is gone for a while, then another serves."""
    seen = [
        Observation(at_s, (Seen("gateway", state, pid=pid),))
        for at_s, state, pid in ((0.0, "serving", 7), (0.2, "restarting", None), (1.4, "serving", 9))
    ]
    assert judge(seen, ["gateway"], "serving") == Verdict(0.2, 1.4)


def test_others_that_change_are_told_in_the_order_of_time() -> None:
    """Also when one look shows several changes."""
    both = (Seen("r0", "restarting", since_s=0.9), Seen("r1", "degraded", since_s=0.3))
    seen = [Observation(0.0, (Seen("r0", "ready"), Seen("r1", "ready"))), Observation(1.0, both)]
    assert [(step.at_s, step.subject) for step in story(seen)] == [(0.3, "r1"), (0.9, "r0")]


def test_several_are_well_when_all_are() -> None:
    """Noticed with the first, over with the last."""

    def saw(at_s: float, *states: str) -> Observation:
        return Observation(at_s, tuple(Seen(f"r{i}", state) for i, state in enumerate(states)))

    seen = [saw(0.0, "ready", "ready"), saw(1.0, "hung", "ready"), saw(2.0, "ready", "hung")]
    assert judge(seen, ["r0", "r1"], "ready") == Verdict(1.0)
    assert judge([*seen, saw(3.0, "ready", "ready")], ["r0", "r1"], "ready") == Verdict(1.0, 3.0)


def test_what_needs_an_operator_is_given_up() -> None:
    """No use in waiting on."""
    for state in ("failed", "quarantined"):
        assert _judge(_saw(0.4, state, since_s=0.35)) == Verdict(0.35, given_up=True)


def test_a_supervisor_that_is_silent_or_ends() -> None:
    """Silence is passed over, its end is the end."""
    silent = Observation(0.2, (Seen("supervisor", "silent"),))
    assert _judge(silent, _CRASH[1], silent, _CRASH[4]) == Verdict(0.12, 2.31)
    ended = Observation(0.5, (Seen("supervisor", "ended"),))
    assert _judge(_CRASH[1], ended) == Verdict(0.12, given_up=True)
    assert story([_BEFORE, ended]) == [Step(0.5, "supervisor", "ended")]


def test_nothing_seen_is_no_story() -> None:
    """And no verdict."""
    assert story([]) == []
    assert judge([], ["r0"], "ready") == Verdict()
