"""Around a run: one at a time, its end recorded, somebody told once of each failure and of its end."""

from __future__ import annotations

import json
import math
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from backup_runs import START, Clock, PlayedSource, settings, wish
from prometheus_client.parser import text_string_to_metric_families

from dreamseed_cli.backup import notify as notify_module
from dreamseed_cli.backup.archiver import Archiver
from dreamseed_cli.backup.attend import attended_run, settle
from dreamseed_cli.backup.doors import Doors
from dreamseed_cli.backup.lock import AlreadyRunning, only_one, refuse_second
from dreamseed_cli.backup.notify import Alarm, Hooks, Message, changes, still_known, tell
from dreamseed_cli.backup.records import RunRecord, change_record, read_record
from dreamseed_cli.backup.rpo import LiveRpo
from dreamseed_cli.backup.run import Report, run_backup
from dreamseed_cli.backup.schedule.tick import Deeds, daily_of, tick, zone_of
from dreamseed_cli.backup.settings import Settings
from dreamseed_cli.backup.status import Status
from dreamseed_cli.backup.store.errors import StoreRefused, StoreUnreachable
from dreamseed_cli.backup.view import status_data, status_view
from dreamseed_cli.backup.wal.outage import Backlog, note_failure, note_success
from dreamseed_cli.core.errors import ErrorGroup, FailedError
from dreamseed_cli.profile.backup import Backup, Notify, Schedule

APPEND = "import os,sys; open(sys.argv[1],'a').write(os.environ['DREAMSEED_ALARM']+'\\n')"


@pytest.fixture
def told(tmp_path: Path) -> Callable[[], list[str]]:
    """The kinds of the messages that the hook got."""
    return lambda: (tmp_path / "told").read_text().split() if (tmp_path / "told").exists() else []


@pytest.fixture
def host(tmp_path: Path) -> Settings:
    """A host whose hook writes down what it is told."""
    hook = Notify(command=(sys.executable, "-c", APPEND, str(tmp_path / "told")))
    table = Backup(notify=hook, textfile=str(tmp_path / "backup.prom"), schedule=Schedule(timezone="UTC"))
    return settings(tmp_path / "home", table)


def making(host: Settings, clock: Clock) -> Callable[[], Report]:
    """A run into the host's store."""
    return lambda: run_backup(host.open(), PlayedSource(), wish(clock))


def failing() -> Report:
    """A run that fails."""
    raise FailedError("no server")


def late(record: RunRecord) -> tuple[RunRecord, Mapping[Alarm, str | None]]:
    """Finds that a backup is late."""
    return record, {Alarm.LATE: "late"}


def test_a_second_run_ends_at_once_with_its_own_code(tmp_path: Path) -> None:
    """And says who is at work; the lock goes with its holder, however it ends."""
    hold = (
        "import sys,time; from pathlib import Path; from dreamseed_cli.backup.lock import only_one\n"
        "with only_one(Path(sys.argv[1]), 'backup'): print('held', flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", hold, str(tmp_path)], stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        with pytest.raises(AlreadyRunning, match=str(holder.pid)) as refused, only_one(tmp_path, "backup"):
            pass
        with pytest.raises(AlreadyRunning, match=str(holder.pid)):
            refuse_second(tmp_path)
        holder.kill()
        holder.wait()
    assert refused.value.exit_code == 5
    refuse_second(tmp_path)
    with only_one(tmp_path, "backup"):
        pass


def test_a_look_at_the_lock_takes_nothing(tmp_path: Path) -> None:
    """Neither the lock, nor a place in a folder that no run has made yet."""
    refuse_second(tmp_path / "none")
    assert not (tmp_path / "none").exists()


def test_failures_are_told_once_and_so_is_recovery(host: Settings, told: Callable[[], list[str]]) -> None:
    """The record counts them, and a good run ends them."""
    clock = Clock()
    for _ in range(2):
        with pytest.raises(FailedError):
            attended_run(host, failing, clock.moment)
    assert told() == ["failed"]
    assert read_record(host.runs).failures_in_a_row == 2
    attended_run(host, making(host, clock), clock.moment)
    assert told() == ["failed", "failed-over"]
    assert not read_record(host.runs).last_failed


def test_a_backup_into_another_store_is_none_of_the_schedules(host: Settings, tmp_path: Path) -> None:
    """One by hand onto a disk, at five past three: the night's own is made all the same."""
    clock = Clock(START + timedelta(minutes=5))
    disk = replace(host, table=host.table.model_copy(update={"store": f"local:{tmp_path / 'disk'}"}))
    disk.open(create=True).close()
    attended_run(disk, making(disk, clock), clock.moment)
    assert read_record(disk.runs).backup_id
    assert read_record(host.runs) == RunRecord()
    daily = daily_of(host.table.schedule, zone_of("UTC"))
    done = tick(host, daily, Deeds(making(host, clock), lambda: None, clock.moment))
    assert done.ran is not None


def test_an_interrupted_run_is_recorded_as_failed(host: Settings) -> None:
    """So that retention holds still, and the schedule tries again."""

    def interrupted() -> Report:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        attended_run(host, interrupted, Clock().moment)
    assert read_record(host.runs).last_failed


def test_a_tick_runs_what_is_due_and_tells_of_lateness_and_of_the_rpo(
    host: Settings, told: Callable[[], list[str]]
) -> None:
    """Once each, and once when it is over."""
    clock = Clock(START + timedelta(minutes=5))
    daily = daily_of(host.table.schedule, zone_of("UTC"))
    rpo_s = [10.0]

    def look() -> LiveRpo:
        return LiveRpo(rpo_s[0], clock.now, None, None, (), 900)

    deeds = Deeds(making(host, clock), look, clock.moment)
    first = tick(host, daily, deeds)
    assert first.ran is not None
    assert tick(host, daily, deeds).ran is None
    rpo_s[0] = 2000.0
    clock.pass_days(1.1)
    broken = Deeds(failing, look, clock.moment)
    for _ in range(2):
        with pytest.raises(FailedError):
            tick(host, daily, broken)
        tick(host, daily, broken)  # waits after the failure, and looks
        clock.pass_days(0.05)
    assert told() == ["failed", "late", "rpo"]
    rpo_s[0] = 10.0
    tick(host, daily, deeds)
    assert sorted(told()[3:]) == ["failed-over", "late-over", "rpo-over"]


def test_lateness_and_the_rpo_are_told_while_another_run_is_at_work(
    host: Settings, told: Callable[[], list[str]]
) -> None:
    """A run that hangs would keep it quiet for ever. The exit code stays that of a second run."""
    clock, looks = Clock(START + timedelta(minutes=5)), 0
    daily = daily_of(host.table.schedule, zone_of("UTC"))

    def look() -> LiveRpo:
        nonlocal looks
        looks += 1
        return LiveRpo(2000.0, clock.now, None, None, (), 900)

    deeds = Deeds(making(host, clock), look, clock.moment)
    tick(host, daily, deeds, look=False)
    clock.pass_days(1.1)
    assert (looks, told()) == (0, [])
    with only_one(host.home, "backup"), pytest.raises(AlreadyRunning) as busy:
        tick(host, daily, deeds)
    assert (busy.value.exit_code, looks, told()) == (5, 1, ["late", "rpo"])
    with only_one(host.home, "backup"):
        assert tick(host, daily, deeds, run=False).seen.late
    assert tick(host, daily, deeds, look=False).ran is not None
    assert (looks, told()) == (2, ["late", "rpo", "late-over"])


def test_what_went_wrong_with_a_look_beside_a_run_is_told_with_it(host: Settings) -> None:
    """Both, and the exit code of the first."""

    def blind() -> LiveRpo:
        raise FailedError("no server")

    clock = Clock()
    deeds = Deeds(making(host, clock), blind, clock.moment)
    with only_one(host.home, "backup"), pytest.raises(ErrorGroup) as both:
        tick(host, daily_of(host.table.schedule, zone_of("UTC")), deeds)
    assert [error.kind for error in both.value.causes()] == ["already_running", "failed"]
    assert both.value.exit_code == 5


def test_a_look_undoes_nothing_that_a_run_keeps_meanwhile(host: Settings) -> None:
    """Both read the record, change it and write it: what the one writes, the other has read."""
    runs: list[threading.Thread] = []

    def judge(record: RunRecord) -> tuple[RunRecord, Mapping[Alarm, str | None]]:
        made = {"backup_id": "made meanwhile"}
        run = threading.Thread(target=change_record, args=(host.runs, lambda it: it.model_copy(update=made)))
        run.start()
        run.join(0.3)  # long enough to have written, were it let
        runs.append(run)
        return late(record)

    settle(host, judge, START)
    runs[0].join()
    kept = read_record(host.runs)
    assert (kept.backup_id, kept.alarms) == ("made meanwhile", ("late",))


def test_a_look_that_fails_is_told_and_no_alarm_of_what_was_not_seen(
    host: Settings, told: Callable[[], list[str]]
) -> None:
    """The backup that was due is made all the same."""
    clock = Clock()

    def blind() -> LiveRpo:
        raise FailedError("no server")

    deeds = Deeds(making(host, clock), blind, clock.moment)
    done = tick(host, daily_of(host.table.schedule, zone_of("UTC")), deeds)
    assert done.ran is not None
    assert [error.cause for error in done.errors] == ["no server"]
    assert told() == []


def test_looks_that_fail_for_longer_than_the_target_are_an_alarm(
    host: Settings, told: Callable[[], list[str]], tmp_path: Path
) -> None:
    """A key that was revoked hides the RPO: told once, with its cause, in the textfile too, and when over."""
    clock, daily = Clock(), daily_of(host.table.schedule, zone_of("UTC"))
    refused = [True]

    def look() -> LiveRpo:
        if refused[0]:
            raise StoreRefused("the key is not accepted")
        return LiveRpo(10.0, clock.now, None, None, (), 900)

    deeds = Deeds(making(host, clock), look, clock.moment)
    for _ in range(4):  # five minutes apart: the target of 15 minutes is reached, and not passed
        tick(host, daily, deeds)
        assert told() == []
        clock.now += timedelta(minutes=5)
    for _ in range(2):
        tick(host, daily, deeds)
        assert told() == ["blind"]
    assert 'dreamseed_backup_alarm{alarm="blind"} 1.0' in (tmp_path / "backup.prom").read_text()
    refused[0] = False
    tick(host, daily, deeds)
    assert (told(), read_record(host.runs).blind_since) == (["blind", "blind-over"], None)


def test_what_fails_with_one_look_hides_no_other(host: Settings, told: Callable[[], list[str]]) -> None:
    """A rehearsal's records, a server that is down: the RPO, lateness and WAL are told all the same."""
    clock, daily = Clock(START + timedelta(minutes=5)), daily_of(host.table.schedule, zone_of("UTC"))

    def broken() -> str:
        raise FailedError("no server")

    def no_beat() -> None:
        broken()

    def over() -> LiveRpo:
        return LiveRpo(5000.0, clock.now, None, None, (), 900)

    tick(host, daily, Deeds(making(host, clock), lambda: None, clock.moment))
    clock.pass_days(1.5)
    waiting = Archiver(3, 1000.0, "000000010000000000000005")
    deeds = Deeds(failing, over, clock.moment, broken, lambda: waiting, no_beat)
    seen = tick(host, daily, deeds, run=False).seen
    assert sorted(told()) == ["late", "rpo", "wal"]
    assert [error.cause for error in seen.errors] == ["no server"]
    assert "3 WAL files wait" in (seen.stuck or "")
    overdue = replace(deeds, drill=lambda: "overdue")
    tick(host, daily, overdue, run=False)
    assert told()[3:] == ["drill"]

    def down() -> Archiver:
        raise FailedError("no server")

    tick(host, daily, replace(deeds, archiver=down), run=False)  # nobody saw that any of it is over
    assert told()[4:] == []
    tick(host, daily, replace(overdue, archiver=lambda: Archiver(0, 0.0)), run=False)
    assert told()[4:] == ["wal-over"]


def test_a_tick_tells_of_the_rehearsals(host: Settings, told: Callable[[], list[str]]) -> None:
    """Once, and when they are in order again."""
    clock = Clock(START + timedelta(minutes=5))
    daily = daily_of(host.table.schedule, zone_of("UTC"))
    wrong = [*["overdue"] * 2, None]
    deeds = Deeds(making(host, clock), lambda: None, clock.moment, lambda: wrong.pop(0))
    assert tick(host, daily, deeds).seen.drill == "overdue"
    tick(host, daily, deeds)
    assert told() == ["drill"]
    assert tick(host, daily, deeds).seen.drill is None
    assert told() == ["drill", "drill-over"]


def test_the_textfile_is_there_after_every_run(host: Settings, tmp_path: Path) -> None:
    """A failure too is a figure."""
    with pytest.raises(FailedError):
        attended_run(host, failing, Clock().moment)
    text = (tmp_path / "backup.prom").read_text()
    assert "dreamseed_backup_failures_in_a_row 1.0" in text
    assert "last_success" not in text
    assert 'dreamseed_backup_alarm{alarm="failed"} 1.0' in text
    assert 'dreamseed_backup_alarm{alarm="late"} 0.0' in text


def test_what_a_look_found_stays_until_the_next_with_its_moment(host: Settings, tmp_path: Path) -> None:
    """That everything would be lost is no absence; neither a run nor a look that fails hides it."""
    clock, daily = Clock(START - timedelta(hours=1)), daily_of(host.table.schedule, zone_of("UTC"))
    found: list[LiveRpo | None] = [LiveRpo(None, None, None, None, (), 900)]

    def look() -> LiveRpo:
        rpo = found[0]
        if rpo is None:
            raise FailedError("no server")
        return rpo

    def told(name: str) -> float:
        text = (tmp_path / "backup.prom").read_text()
        families = {one.name: one for one in text_string_to_metric_families(text)}
        return families[f"dreamseed_backup_{name}"].samples[0].value

    deeds = Deeds(making(host, clock), look, clock.moment)
    tick(host, daily, deeds, run=False)
    looked = clock.now.timestamp()
    assert (told("rpo_seconds"), told("looked_timestamp_seconds")) == (math.inf, looked)
    found[0] = None
    clock.pass_days(1)
    tick(host, daily, deeds)
    assert told("last_success_timestamp_seconds") > looked
    assert (told("rpo_seconds"), told("looked_timestamp_seconds")) == (math.inf, looked)
    found[0] = LiveRpo(12.5, clock.now, None, None, (), 900)
    tick(host, daily, deeds, run=False)
    assert (told("rpo_seconds"), told("rpo_target_seconds"), told("wal_gaps")) == (12.5, 900, 0)
    assert told("looked_timestamp_seconds") == clock.now.timestamp()


def test_wal_that_fills_the_disk_is_told_shown_and_counted(
    host: Settings, told: Callable[[], list[str]], tmp_path: Path
) -> None:
    """By the schedule, in the textfile and by `backup status`, until pushes succeed again."""
    clock = Clock()
    daily = daily_of(host.table.schedule, zone_of("UTC"))
    deeds = Deeds(making(host, clock), lambda: None, clock.moment)
    tick(host, daily, deeds)
    filling = Backlog(300, 300 << 24, free_bytes=1 << 30, disk_bytes=1 << 40, growth_bytes_s=1 << 20)
    note_failure(host.wal_state, StoreUnreachable("no answer"), filling, clock.now)
    for _ in range(2):
        assert tick(host, daily, deeds).seen.wal is not None
    assert told() == ["wal"]
    assert "dreamseed_backup_wal_disk_full_seconds 1024.0" in (tmp_path / "backup.prom").read_text()
    status = Doors(host, lambda: "").status()
    assert not status.good
    assert "the disk is full in 17 min. no answer" in rendered(status)
    assert (status_data(status, "", clock.now)["wal_push"] or {})["full_in_s"] == 1024
    roomy = Backlog(1, 1 << 24, free_bytes=1 << 39, disk_bytes=1 << 40, growth_bytes_s=None)
    note_failure(host.wal_state, StoreUnreachable("no answer"), roomy, clock.now)
    assert "WAL cannot be archived since 2025-11-10 03:00 UTC (2 tries)" in rendered(
        Doors(host, lambda: "").status()
    )
    note_success(host.wal_state, roomy, clock.now)
    tick(host, daily, deeds)
    assert told() == ["wal", "wal-over"]
    assert "cannot be archived" not in rendered(Doors(host, lambda: "").status())


def test_what_daily_backups_alone_promise_is_computed(host: Settings) -> None:
    """§E2 against §E3 (contradiction 7), with the run's own duration."""
    clock = Clock()
    status = Doors(host, lambda: "").status()
    assert status.alone is None
    attended_run(host, making(host, clock), clock.moment)
    status = Doors(host, lambda: "").status()
    assert status.alone is not None
    (run_s,) = (entry.manifest.span.duration_s for entry in status.catalog.backups)
    assert status.alone.worst_s == 86_400 + run_s
    assert status.alone.share_over == pytest.approx(1 - (900 - run_s) / 86_400)
    assert "98.96% of all moments lose more than the target" in rendered(status)


def rendered(status: Status) -> str:
    """What `backup status` shows."""
    return "\n".join(str(line) for line in status_view(status, ""))


def test_alarms_are_told_when_they_change() -> None:
    """What was not looked at stays as it was."""
    assert changes((), {Alarm.LATE: "late"}) == [("late", "late")]
    assert changes(("late",), {Alarm.LATE: "late"}) == []
    assert changes(("late", "rpo"), {Alarm.RPO: None})[0][0] == "rpo-over"
    assert still_known(("late", "rpo"), {Alarm.RPO: None, Alarm.FAILED: "x"}) == ("failed", "late")


def test_a_hook_that_fails_hangs_or_is_missing_is_an_error_and_no_more() -> None:
    """The run goes on; the error names the hook."""
    message = Message.of("failed", "no server", "box", START)
    for command, cause in (
        ((sys.executable, "-c", "raise SystemExit('no mail')"), "no mail"),
        ((sys.executable, "-c", "import time; time.sleep(60)"), "did not end"),
        (("/no/such/program",), "cannot be run"),
    ):
        (error,) = tell(Hooks(command, timeout_s=0.5 if "sleep" in command[-1] else 60), message)
        assert cause in error.cause
    (unset,) = tell(Hooks(webhook_env="NOWHERE"), message, {})
    assert "NOWHERE" in unset.place


def test_what_a_hook_failed_to_take_is_told_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the next tick, in order, by that hook alone, and no more after it was taken."""
    told, works = tmp_path / "told", tmp_path / "works"
    hook = f"import os,sys; assert os.path.exists(sys.argv[2]); {APPEND.partition(';')[2]}"
    notify = Notify(command=(sys.executable, "-c", hook, str(told), str(works)), webhook_env="HOOK")
    host = settings(tmp_path / "home", Backup(notify=notify, textfile=str(tmp_path / "x.prom")))
    posted: list[Message] = []
    monkeypatch.setattr(notify_module, "_post", lambda _variable, message, *_: posted.append(message))
    assert [error.place for error in settle(host, late, START).errors] == ["backup.notify.command"]
    fine: Mapping[Alarm, str | None] = {Alarm.LATE: None}
    settle(host, lambda record: (record, fine), START + timedelta(hours=1))
    assert [one.kind for one in read_record(host.runs).untold] == ["late", "late-over"]
    works.touch()
    for hour in (2, 3):
        assert settle(host, lambda record: (record, {}), START + timedelta(hours=hour)).errors == ()
    assert told.read_text().split() == ["late", "late-over"]
    assert [message.kind for message in posted] == ["late", "late-over"]
    assert read_record(host.runs).untold == ()


def test_the_webhook_gets_json_and_its_address_is_never_shown() -> None:
    """A refusal names the variable only."""
    bodies: list[dict[str, str]] = []
    codes = iter([200, 500])

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            bodies.append(json.loads(self.rfile.read(int(self.headers["content-length"]))))
            self.send_response(next(codes))
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            return

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        environment = {"HOOK": f"http://127.0.0.1:{server.server_port}/secret"}
        message = Message.of("late", "late", "box", START)
        assert tell(Hooks(webhook_env="HOOK"), message, environment) == []
        (error,) = tell(Hooks(webhook_env="HOOK"), message, environment)
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
    assert bodies[0]["kind"] == "late"
    assert "500" in error.cause
    assert "secret" not in str(error)


def test_a_textfile_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    """The record is kept all the same."""
    host = settings(tmp_path / "home", Backup(textfile=str(tmp_path / "none" / "x.prom")))
    (error,) = settle(host, late, START).errors
    assert "cannot be written" in error.cause
    assert read_record(host.runs).alarms == ("late",)
