"""Where a restore stops on its way to compare what tables hold: never too far to come back."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest
from manifests import document

from dreamseed_cli.backup.manifest import Manifest
from dreamseed_cli.backup.physical.content import Archived, stop_to_compare
from dreamseed_cli.backup.physical.recovery import Goal
from dreamseed_cli.backup.wal_names import TimelineHistory, parse_lsn

AT = datetime(2025, 11, 10, 3, 1, 6, tzinfo=UTC)
FAR = Archived(parse_lsn("0/5000000"), TimelineHistory(1))


def digested(**content: object) -> Manifest:
    """A backup that ended at 0/2000100, with digests of 0/3000000."""
    data = document()
    data["content"] |= content
    return Manifest.model_validate_json(json.dumps(data, default=str))


@pytest.mark.parametrize(
    "goal",
    [
        Goal(),
        Goal("lsn", "0/3000000"),
        Goal("lsn", "0/4000000"),
        Goal("time", AT + timedelta(milliseconds=1)),
    ],
)
def test_recovery_stops_where_the_digests_were_taken_if_the_goal_lies_behind(goal: Goal) -> None:
    """And waits there."""
    assert stop_to_compare(digested(), goal, FAR) == Goal("name", "here", action="pause")


@pytest.mark.parametrize(
    "goal",
    [Goal("immediate"), Goal("name", "x"), Goal("lsn", "0/2FFFFFF"), Goal("time", AT)],
)
def test_a_goal_that_may_lie_before_is_not_passed(goal: Goal) -> None:
    """Recovery cannot go back: then nothing is compared, and it is said."""
    assert "may lie after what was asked for" in str(stop_to_compare(digested(), goal, FAR))


def test_a_named_goal_is_judged_by_where_it_lies() -> None:
    """If that is known."""
    goal = Goal("name", "x")
    for place, found in (("0/2FFFFFF", str), ("0/3000000", Goal)):
        assert isinstance(stop_to_compare(digested(), goal, FAR, parse_lsn(place)), found)


@pytest.mark.parametrize(
    "archived",
    [
        None,
        Archived(parse_lsn("0/2FFFFFF"), TimelineHistory(1)),
        Archived(parse_lsn("0/5000000"), TimelineHistory.parse("00000002.history", "1\t0/2800000\twhy\n")),
    ],
)
def test_what_the_archive_does_not_reach_is_not_waited_for(archived: Archived | None) -> None:
    """A hole, or a fork before the place: the restore itself still works."""
    assert "does not reach" in str(stop_to_compare(digested(), Goal(), archived))


@pytest.mark.parametrize("goal", [Goal(), Goal("immediate"), Goal("name", "x"), Goal("time", AT)])
def test_digests_of_the_backups_end_need_no_archive(goal: Goal) -> None:
    """Every goal lies behind it."""
    found = stop_to_compare(digested(point=None, lsn="0/2000100"), goal, None)
    assert found == Goal("immediate", action="pause")


def test_no_digests_is_said_with_the_reason() -> None:
    """As the backup gives it."""
    data = document() | {"tables": []}
    data["content"] = {"note": "always writing"}
    assert stop_to_compare(Manifest.model_validate_json(json.dumps(data)), Goal(), FAR) == "always writing"
    del data["content"]
    assert "no digests" in str(stop_to_compare(Manifest.model_validate_json(json.dumps(data)), Goal(), FAR))
