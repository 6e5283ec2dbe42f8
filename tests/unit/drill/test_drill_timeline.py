"""RPO, RTO and the verdict, from a timeline with its times given."""

from __future__ import annotations

from datetime import timedelta

import pytest
from drill_records import START, TARGETS, event, events

from dreamseed_cli.core.errors import UsageError
from dreamseed_cli.drill.extrapolate import Sizes, extrapolate
from dreamseed_cli.drill.timeline import Check, Heartbeat, Outcome, Step, Targets, judge
from dreamseed_cli.drill.words import duration

_RECOVERED = Heartbeat(START + timedelta(seconds=4), "a row")


def test_rpo_ends_and_rto_begins_at_the_loss() -> None:
    """RPO from the newest heartbeat recovered, RTO to the first verified answer."""
    verdict = judge(events(loss_s=10.0, answered_s=52.5), _RECOVERED, [], TARGETS)
    assert (verdict.outcome, verdict.rpo_s, verdict.rto_s) == (Outcome.PASSED, 6.0, 42.5)
    assert verdict.misses == ()


def test_a_time_equal_to_its_target_is_met_and_one_over_it_is_told() -> None:
    """Both targets at once."""
    exact = Targets(rpo_s=6.0, rto_s=42.5)
    assert judge(events(), _RECOVERED, [], exact).outcome is Outcome.PASSED
    missed = judge(events(), _RECOVERED, [], Targets(rpo_s=5.0, rto_s=42.0))
    assert missed.outcome is Outcome.MISSED
    assert missed.misses == ("RPO: 6.0 s, the target is 5 s", "RTO: 42.5 s, the target is 42 s")


def test_nothing_recovered_with_a_moment_misses_the_rpo() -> None:
    """All may be lost, whatever the target."""
    verdict = judge(events(), None, [], TARGETS)
    assert verdict.outcome is Outcome.MISSED
    assert verdict.rpo_s is None
    assert "all may be lost" in verdict.misses[0]


def test_a_heartbeat_of_after_the_declared_loss_is_an_rpo_of_zero() -> None:
    """The server's last commit may come a moment after the declaration."""
    late = Heartbeat(START + timedelta(seconds=10.2), "a row")
    assert judge(events(), late, [], TARGETS).rpo_s == 0.0


def test_a_failed_check_fails_the_drill_however_fast_it_was() -> None:
    """What could not be checked does not."""
    checks = [Check("amcheck", None, "not built in"), Check("row counts", False, "other counts in a.b.c")]
    verdict = judge(events(), _RECOVERED, checks, TARGETS)
    assert verdict.outcome is Outcome.FAILED
    assert verdict.misses == ("row counts: other counts in a.b.c",)
    assert judge(events(), _RECOVERED, checks[:1], TARGETS).outcome is Outcome.PASSED


def test_an_end_before_any_answer_fails_with_its_cause() -> None:
    """And without a cause, too."""
    begun = (event(0.0, Step.BEGUN), event(5.0, Step.LOSS))
    failed = judge(begun, None, [], TARGETS, failure="no key")
    assert (failed.outcome, failed.rto_s, failed.misses) == (Outcome.FAILED, None, ("no key",))
    assert judge(begun, _RECOVERED, [], TARGETS).misses == ("no answer was verified",)


def test_the_link_and_the_size_are_computed_from_what_was_measured() -> None:
    """Twice the size takes twice the fetching and unpacking; starting stays."""
    found = extrapolate(Sizes(50_000_000, 100_000_000, restore_s=10.0, rest_s=2.0), 200_000_000, 100.0)
    assert (found.fetch_s, found.unpack_s, found.rto_s) == (8.0, 20.0, 30.0)
    wal = Sizes(50_000_000, 100_000_000, restore_s=10.0, rest_s=2.0, wal_bytes=25_000_000)
    assert extrapolate(wal, 200_000_000, 100.0).fetch_s == 10.0
    with pytest.raises(UsageError):
        extrapolate(Sizes(1, 1, 1.0, 1.0), 1, 0.0)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(None, "never"), (4.26, "4.3 s"), (60, "1 min"), (125, "2 min 5 s"), (3600, "1 h"), (3840, "1 h 4 min")],
)
def test_times_are_told_as_people_say_them(seconds: float | None, text: str) -> None:
    """None: it was never reached."""
    assert duration(seconds) == text
