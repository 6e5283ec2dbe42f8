"""The schedule: due, late, DST, clock jumps; and the files that make it run."""

from __future__ import annotations

import shlex
from datetime import UTC, datetime, time, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from dreamseed_cli.backup.schedule.due import Daily, Due, History, due, late
from dreamseed_cli.backup.schedule.tick import zone_of
from dreamseed_cli.backup.schedule.units import (
    BEGIN,
    END,
    cron_block,
    service_unit,
    timer_unit,
    with_block,
)
from dreamseed_cli.core.errors import UsageError

SEOUL = Daily(time(3), ZoneInfo("Asia/Seoul"))


def utc(text: str) -> datetime:
    """A moment in UTC."""
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def test_a_backup_is_due_once_a_day_at_its_local_hour() -> None:
    """03:00 in Seoul is 18:00 UTC of the day before."""
    ran = History(succeeded=utc("2025-11-09 18:00:10"))
    assert due(SEOUL, ran, utc("2025-11-10 17:59")) is Due.NOT_YET
    assert due(SEOUL, ran, utc("2025-11-10 18:00")) is Due.NOW
    assert SEOUL.next_due(utc("2025-11-10 17:59")) == utc("2025-11-10 18:00")


def test_missed_runs_are_made_up_for_once() -> None:
    """After three days off: one run, then none until the next hour."""
    assert due(SEOUL, History(succeeded=utc("2025-11-06 18:00")), utc("2025-11-10 07:12")) is Due.NOW
    assert due(SEOUL, History(succeeded=utc("2025-11-10 07:12")), utc("2025-11-10 07:17")) is Due.NOT_YET


@pytest.mark.parametrize("at", [time(2, 30), time(3), time(1, 30)])
def test_a_year_of_ticks_runs_once_a_day_through_both_changes_of_the_clock(at: time) -> None:
    """In a zone whose clock skips 02:30 in spring and passes 01:30 twice in autumn."""
    daily = Daily(at, ZoneInfo("America/New_York"))
    now, history, days = utc("2025-01-01 12:00"), History(succeeded=utc("2025-01-01 12:00")), []
    while now < utc("2025-12-31 12:00"):
        now += timedelta(minutes=20)
        if due(daily, history, now) is Due.NOW:
            history = History(succeeded=now)
            days.append(now.astimezone(daily.zone).date())
    assert len(days) == len(set(days)) == 364


def test_a_failed_run_is_tried_again_after_its_wait() -> None:
    """Not at every tick."""
    history = History(succeeded=utc("2025-11-09 18:00"), failed=utc("2025-11-10 18:05"))
    assert due(SEOUL, history, utc("2025-11-10 18:10")) is Due.WAITING
    assert due(SEOUL, history, utc("2025-11-10 19:06")) is Due.NOW


def test_a_run_from_a_clock_that_was_ahead_proves_nothing() -> None:
    """Forty days ahead, then set right: the backup is due."""
    assert due(SEOUL, History(succeeded=utc("2025-12-20 18:00")), utc("2025-11-10 18:00")) is Due.NOW


def test_late_begins_some_time_after_the_hour() -> None:
    """And ends with a run; a schedule that was only just installed is not late."""
    missed = History(succeeded=utc("2025-11-09 18:00"))
    assert not late(SEOUL, missed, utc("2025-11-10 19:59"))
    assert late(SEOUL, missed, utc("2025-11-10 20:00"))
    assert not late(SEOUL, History(since=utc("2025-11-10 18:30")), utc("2025-11-10 21:00"))
    assert late(SEOUL, History(since=utc("2025-11-10 18:30")), utc("2025-11-11 21:00"))


def test_zones_are_found_or_named(tmp_path: Path) -> None:
    """A machine without a zone runs on UTC."""
    assert zone_of("Asia/Seoul") == ZoneInfo("Asia/Seoul")
    assert zone_of(None, tmp_path / "none") is UTC
    with pytest.raises(UsageError, match="time zone"):
        zone_of("Asia/Nowhere")


def test_the_units_run_the_tick_every_five_minutes() -> None:
    """Words with spaces, `%` and `$` reach the program as they are."""
    text = service_unit(["/opt/a b/python", "100%", "$x"], {"DREAMSEED_BACKUP_DIR": "/var/lib/a b"})
    assert 'ExecStart="/opt/a b/python" "100%%" "$$x"' in text
    assert 'Environment="DREAMSEED_BACKUP_DIR=/var/lib/a b"' in text
    assert "OnCalendar=*:0/5" in timer_unit()


def test_the_crontab_keeps_what_is_not_ours() -> None:
    """Installing twice leaves one line; removing leaves none."""
    own = "MAILTO=me\n0 5 * * * something\n"
    block = cron_block(["/opt/a b/python", "100%"], {"A": "b c"}, "/var/log/x")
    once = with_block(own, block)
    assert with_block(once, block) == once
    assert with_block(once, "") == own
    line = next(line for line in once.splitlines() if line.startswith("*/5"))
    words = shlex.split(line.replace(r"\%", "%"))
    assert words[5:8] == ["A=b c", "/opt/a b/python", "100%"]
    assert once.count(BEGIN) == once.count(END) == 1
