"""The judge of an engine's progress, with time passed in."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest

from dreamseed_cli.profile.resilience import Supervision
from dreamseed_cli.supervisor.replica import (
    Answered,
    CanaryFailed,
    Event,
    Failing,
    Recovered,
    Replica,
    Slowed,
    Stalled,
    advance,
)
from dreamseed_cli.supervisor.watchdog import Look, Watchdog

RULES = Supervision(hang_after_s=10.0, canary_every_s=15.0, slow_factor=4.0)


class _Engine:
    """One replica that is looked at once a second."""

    def __init__(self) -> None:
        self.watchdog = Watchdog(RULES)
        self.now = 0.0
        self.replica = advance(Replica.launched("r0", 0.0), Answered(), 0.0, RULES)
        self.watchdog.begin(0.0)

    def take(self, event: Event | None) -> Event | None:
        if event is not None:
            self.replica = advance(self.replica, event, self.now, RULES)
        return event

    def watch(self, seconds: int, look: Callable[[int], Look]) -> Event | None:
        """The first event within so many looks; look: made of the look's number."""
        for second in range(seconds):
            self.now += 1.0
            if event := self.take(self.watchdog.look(look(second), self.replica, self.now)):
                return event
        return None


def _always(look: Look, _: int) -> Look:
    return look


def _busy(pace: int = 100, running: int = 4) -> Callable[[int], Look]:
    """Work with `pace` tokens a second and request."""
    return lambda second: Look(
        outstanding=running,
        progress=second,
        running=running,
        computed=second * pace * running,
        generated=second * pace * running,
    )


def test_work_without_a_token_is_a_hang() -> None:
    """Seen by the gateway alone, by the engine's own counters alone, or by both."""
    for stuck in (
        Look(outstanding=3, progress=7),
        Look(running=3, computed=700),
        Look(outstanding=3, progress=7, running=3, computed=700),
    ):
        engine = _Engine()
        event = engine.watch(15, partial(_always, stuck))
        assert isinstance(event, Stalled)
        assert engine.now == 11.0
        assert event.detail == "it has 3 requests and has generated nothing for 10 s"


def test_the_clock_of_a_hang_begins_with_the_work() -> None:
    """Hours without requests are no hang, and neither is a token every nine seconds."""
    engine = _Engine()
    assert engine.watch(3600, lambda _: Look(outstanding=0, progress=7)) is None
    assert engine.watch(9, lambda _: Look(outstanding=1, progress=7)) is None
    assert engine.watch(90, lambda second: Look(outstanding=1, progress=8 + second // 9)) is None


def test_a_prompt_that_is_read_is_progress() -> None:
    """A long prefill gives no token, but the engine's own counter moves."""
    engine = _Engine()
    assert engine.watch(60, lambda second: Look(outstanding=1, progress=7, computed=second)) is None


def test_unknown_figures_are_no_hang() -> None:
    """A gateway that is being restarted tells nothing, an engine without metrics neither."""
    assert _Engine().watch(60, lambda _: Look()) is None


def test_an_idle_engine_gets_a_canary_now_and_then() -> None:
    """Not one with work, and not one that has just had one."""
    engine = _Engine()
    due = []
    for _ in range(40):
        engine.now += 1.0
        engine.watchdog.look(Look(outstanding=0), engine.replica, engine.now)
        if engine.watchdog.canary_due(engine.replica, engine.now):
            engine.watchdog.canary_sent(engine.now)
            due.append(engine.now)
    assert due == [15.0, 30.0]
    engine.watch(1, _busy())
    engine.now += 14.0
    assert not engine.watchdog.canary_due(engine.replica, engine.now)


def test_a_canary_that_times_out_ejects_at_once_and_a_wrong_one_twice() -> None:
    """The first was given all its time; the second may have met a hiccup, and is sent again in a second."""
    assert isinstance(_Engine().watchdog.canary_missed("nothing came", timed_out=True), CanaryFailed)
    engine = _Engine()
    assert engine.watchdog.canary_missed("HTTP 503", timed_out=False) is None
    assert engine.watchdog.canary_due(engine.replica, 2.0)
    assert isinstance(engine.watchdog.canary_missed("HTTP 503", timed_out=False), CanaryFailed)


def test_a_good_canary_forgives_a_wrong_one() -> None:
    """Only wrong ones in a row count."""
    engine = _Engine()
    for _ in range(5):
        assert engine.watchdog.canary_missed("HTTP 503", timed_out=False) is None
        assert engine.watchdog.canary_answered(0.05, engine.replica) is None


def test_undelivered_requests_put_an_engine_in_doubt() -> None:
    """Three in a row without one that went well; then canaries decide."""
    engine = _Engine()
    engine.watch(1, lambda _: Look(outstanding=1))
    event = engine.watch(3, lambda second: Look(outstanding=1, progress=second, undelivered=second + 1))
    assert isinstance(event, Failing)
    assert engine.watchdog.canary_due(engine.replica, engine.now)
    for _ in range(3):
        event = engine.take(engine.watchdog.canary_answered(0.05, engine.replica))
    assert isinstance(event, Recovered)


def test_single_failures_between_answers_are_no_doubt() -> None:
    """A caller's odd request may fail on any engine."""
    engine = _Engine()
    assert engine.watch(50, lambda n: Look(outstanding=1, progress=n, delivered=n, undelivered=n)) is None


def test_an_engine_that_slows_down_is_degraded_and_comes_back() -> None:
    """Against its own usual pace with such a batch; back when the pace is."""
    engine = _Engine()
    assert engine.watch(30, _busy(pace=100)) is None
    assert engine.watch(1, _busy(pace=20)) is None
    event = engine.watch(10, _busy(pace=20))
    assert isinstance(event, Slowed)
    assert event.detail == "20.0 tokens a second and request, 100.0 is usual"
    assert isinstance(engine.watch(10, _busy(pace=90)), Recovered)


def test_a_larger_batch_is_not_slowness() -> None:
    """Each request gets less of a full card: that is compared with full cards only."""
    engine = _Engine()
    assert engine.watch(30, _busy(pace=100, running=1)) is None
    assert engine.watch(30, _busy(pace=15, running=128)) is None


def test_answers_after_long_prompts_are_not_slowness() -> None:
    """A prompt of 4000 tokens is read within a second, and its answer comes at 25 tokens a second: seen with
    the real vLLM, after a restart that began nine answers at once.
    """

    def chat(second: int) -> Look:
        prompts = 4000 * (1 + second // 10)
        return Look(1, second, running=1, computed=prompts + 25 * second, generated=25 * second)

    engine = _Engine()
    assert engine.watch(100, chat) is None


def test_a_slow_engine_without_work_is_judged_by_its_canaries() -> None:
    """It gets no requests while others are ready; three canaries in the usual time bring it back, and the
    next time it takes twice as many.
    """
    engine = _Engine()
    for _ in range(20):
        engine.watchdog.canary_answered(0.05, engine.replica)
    for needed in (3, 6):
        engine.take(Slowed("x"))
        assert engine.take(engine.watchdog.canary_answered(0.5, engine.replica)) is None
        events = [engine.take(engine.watchdog.canary_answered(0.05, engine.replica)) for _ in range(needed)]
        assert events[:-1] == [None] * (needed - 1)
        assert isinstance(events[-1], Recovered)


@pytest.mark.parametrize("delay", [0, 5, 9])
def test_a_new_process_starts_with_a_clean_slate(delay: int) -> None:
    """What the one before did wrong does not count against it."""
    engine = _Engine()
    engine.watch(9, lambda _: Look(outstanding=3, progress=7))
    engine.watchdog.begin(engine.now)
    assert engine.watch(delay, lambda _: Look(outstanding=3, progress=0)) is None
