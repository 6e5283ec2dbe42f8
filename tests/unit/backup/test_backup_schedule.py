"""The schedule: due, late, DST, clock jumps; and the files that make it run."""

from __future__ import annotations

import getpass
import shlex
import subprocess
from datetime import UTC, datetime, time, timedelta
from pathlib import Path
from zoneinfo import TZPATH, ZoneInfo

import pytest

from dreamseed_cli.backup.schedule.due import Daily, Due, History, due, late
from dreamseed_cli.backup.schedule.install import System, install, installed, remove
from dreamseed_cli.backup.schedule.tick import zone_of
from dreamseed_cli.backup.schedule.units import (
    BEGIN,
    END,
    cron_block,
    service_unit,
    timer_unit,
    with_block,
)
from dreamseed_cli.core.errors import FailedError, MissingError, UsageError

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
    seoul = tmp_path / "zoneinfo" / "Asia" / "Seoul"
    seoul.parent.mkdir(parents=True)
    found = (Path(folder, "Asia/Seoul") for folder in TZPATH)
    seoul.write_bytes(next(path for path in found if path.exists()).read_bytes())
    (tmp_path / "localtime").symlink_to(seoul)
    assert str(zone_of(None, tmp_path / "localtime")) == "Asia/Seoul"
    with pytest.raises(UsageError, match="time zone"):
        zone_of("Asia/Nowhere")


def test_the_units_run_the_tick_every_five_minutes() -> None:
    """Words with spaces, `%` and `$` reach the program as they are."""
    text = service_unit(["/opt/$a b/python", "100%", "$x"], {"DREAMSEED_BACKUP_DIR": "/var/lib/$a b"})
    assert 'ExecStart="/opt/$a b/python" "100%%" "$$x"' in text
    assert 'Environment="DREAMSEED_BACKUP_DIR=/var/lib/$a b"' in text
    assert "OnCalendar=*:0/5" in timer_unit()


def test_a_users_timer_that_does_not_run_at_night_is_told(tmp_path: Path) -> None:
    """systemd ends a user's units with the last session, unless the user lingers."""
    mine = System(units=tmp_path, cron=False, user=True)
    assert mine.sleeps_when_logged_out(tmp_path)
    (tmp_path / getpass.getuser()).touch()
    assert not mine.sleeps_when_logged_out(tmp_path)
    assert not System(units=tmp_path, cron=False, user=False).sleeps_when_logged_out(tmp_path / "none")
    assert not System(units=None, cron=True, user=True).sleeps_when_logged_out(tmp_path / "none")


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A systemctl and a crontab of the test's own, first on the PATH; what they are told lies there, too."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name, script in {
        "systemctl": 'echo "$@" >>"${0%/*}/told"; [ ! -e "${0%/*}/broken" ] || { echo no bus >&2; exit 1; }',
        "crontab": """cd "${0%/*}"
[ ! -e hangs ] || exec sleep 60
[ ! -e broken ] || { echo not allowed >&2; exit 1; }
if [ "$1" = -l ]; then cat tab 2>/dev/null || { echo no crontab for me >&2; exit 1; }; else cat >tab; fi""",
    }.items():
        (folder / name).write_text(f"#!/bin/sh\n{script}\n")
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(folder), prepend=":")
    return folder


@pytest.mark.parametrize("user", [True, False])
def test_the_timer_is_put_in_place_and_taken_away(programs: Path, tmp_path: Path, user: bool) -> None:
    """The user's own, or the system's; twice is as good as once."""
    system = System(units=tmp_path / "units", cron=True, user=user)
    ours = "--user " if user else ""
    assert not installed(system)
    for _ in range(2):
        written = install(system, ["/bin/x"], {"A": "b"}, tmp_path / "log")
    assert installed(system)
    assert Path(written[0]).read_text() == service_unit(["/bin/x", "--only", "backup"], {"A": "b"})
    look = Path(written[2]).read_text()
    assert 'ExecStart="/bin/x" "--only" "look"' in look
    assert "TimeoutStartSec=30min" in look
    assert sorted(remove(system)) == sorted(written)
    assert remove(system) == []
    told = (programs / "told").read_text().splitlines()
    timers = "dreamseed-backup.timer dreamseed-look.timer"
    put = [f"{ours}daemon-reload", f"{ours}enable --now {timers}"]
    assert told == [*put, *put, f"{ours}disable --now {timers}", f"{ours}daemon-reload"]


def test_the_systems_timer_is_every_users_schedule(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The one that `deploy` puts into /etc."""
    monkeypatch.setattr("dreamseed_cli.backup.schedule.install.SYSTEM_UNITS", tmp_path)
    mine = System(units=tmp_path / "mine", cron=False, user=True)
    assert not installed(mine)
    (tmp_path / "dreamseed-backup.timer").touch()
    assert installed(mine)


def test_the_line_for_cron_is_put_in_place_and_taken_away(programs: Path, tmp_path: Path) -> None:
    """The crontab of somebody who has none, too."""
    system = System(units=None, cron=True, user=True)
    assert not installed(system)
    assert remove(system) == []
    install(system, ["/bin/x"], {}, tmp_path / "logs" / "log")
    assert installed(system)
    assert (tmp_path / "logs").is_dir()
    assert "/bin/x" in (programs / "tab").read_text()
    assert remove(system) == ["crontab"]
    assert (programs / "tab").read_text() == ""


def test_a_schedule_that_cannot_be_put_in_place_is_an_error(
    programs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With what the program said; and where there is none, with the remedy."""
    (programs / "broken").touch()
    with pytest.raises(FailedError, match="no bus"):
        install(System(tmp_path / "units", cron=True, user=False), ["x"], {}, tmp_path / "log")
    cron = System(None, cron=True, user=False)
    with pytest.raises(FailedError, match="not allowed"):
        install(cron, ["x"], {}, tmp_path / "log")
    (programs / "hangs").touch()
    monkeypatch.setattr("dreamseed_cli.backup.schedule.install._WAIT_S", 0.2)
    with pytest.raises(FailedError, match="did not end"):
        installed(cron)
    with pytest.raises(MissingError, match="neither"):
        install(System(None, cron=False, user=False), ["x"], {}, tmp_path / "log")


def test_what_this_machine_has_is_looked_for(programs: Path, tmp_path: Path) -> None:
    """The crontab on the PATH; units only where systemd runs."""
    found = System.look({"XDG_CONFIG_HOME": str(tmp_path)})
    assert found.cron
    assert (found.units is not None) == Path("/run/systemd/system").is_dir()


def test_the_rehearsal_has_a_timer_of_its_own() -> None:
    """It takes long, and no look at the RPO waits for it."""
    assert "OnCalendar=*:30" in timer_unit("*:30", "rehearsal")
    block = cron_block(["python", "schedule"], {}, "/var/log/x", ["python", "drill"])
    each, hourly = block.splitlines()[1:3]
    assert each.startswith("*/5 * * * * python schedule 2>&1 | ")
    assert hourly.startswith("30 * * * * python drill 2>&1 | ")
    assert with_block(block, "") == ""


def test_every_line_of_crons_log_tells_its_moment(tmp_path: Path) -> None:
    """Of what a command says on stdout and stderr alike, word by word, and after what is there already."""
    log = tmp_path / "a log"
    log.write_text("before\n")
    script = r"printf '%s\n' 'Backup:  100% \n done'; echo But: >&2"
    line = cron_block(["sh", "-c", script], {"A": "b"}, str(log)).splitlines()[1]
    assert "%" not in line.replace(r"\%", "")
    command = line.removeprefix("*/5 * * * * ").replace(r"\%", "%")  # as cron gives it to the shell
    subprocess.run(["/bin/sh", "-c", command], check=True, timeout=30)
    first, *told = log.read_text().splitlines()
    assert first == "before"
    assert [text.partition(" ")[2] for text in told] == [r"Backup:  100% \n done", "But:"]
    for text in told:
        assert datetime.fromisoformat(text.partition(" ")[0]).tzinfo == UTC


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


def test_where_nothing_could_run_a_schedule_there_is_none_to_remove() -> None:
    """Unlike `install`, which says what is missing."""
    assert remove(System(None, cron=False, user=False)) == []
