"""Around a run: one at a time, its end recorded, somebody told once of each failure and of its end."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Callable
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from backup_runs import START, Clock, PlayedSource, settings, wish

from dreamseed_cli.backup.attend import attended_run, settle
from dreamseed_cli.backup.lock import AlreadyRunning, only_one
from dreamseed_cli.backup.notify import Alarm, Hooks, Message, changes, still_known, tell
from dreamseed_cli.backup.records import read_record
from dreamseed_cli.backup.rpo import LiveRpo
from dreamseed_cli.backup.run import Report, run_backup
from dreamseed_cli.backup.schedule.tick import Deeds, daily_of, tick, zone_of
from dreamseed_cli.backup.settings import Settings
from dreamseed_cli.backup.textfile import metrics
from dreamseed_cli.core.errors import FailedError
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
        holder.kill()
        holder.wait()
    assert refused.value.exit_code == 5
    with only_one(tmp_path, "backup"):
        pass


def test_failures_are_told_once_and_so_is_recovery(host: Settings, told: Callable[[], list[str]]) -> None:
    """The record counts them, and a good run ends them."""
    clock = Clock()
    for _ in range(2):
        with pytest.raises(FailedError):
            attended_run(host, failing, clock.moment)
    assert told() == ["failed"]
    assert read_record(host.home).failures_in_a_row == 2
    attended_run(host, making(host, clock), clock.moment)
    assert told() == ["failed", "failed-over"]
    assert not read_record(host.home).last_failed


def test_an_interrupted_run_is_recorded_as_failed(host: Settings) -> None:
    """So that retention holds still, and the schedule tries again."""

    def interrupted() -> Report:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        attended_run(host, interrupted, Clock().moment)
    assert read_record(host.home).last_failed


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


def test_the_textfile_is_there_after_every_run(host: Settings, tmp_path: Path) -> None:
    """A failure too is a figure."""
    with pytest.raises(FailedError):
        attended_run(host, failing, Clock().moment)
    text = (tmp_path / "backup.prom").read_text()
    assert "dreamseed_backup_failures_in_a_row 1.0" in text
    assert "last_success" not in text
    rpo = LiveRpo(12.5, START, None, None, (), 900)
    assert b"dreamseed_backup_rpo_seconds 12.5" in metrics(read_record(host.home), rpo)


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
        (error,) = tell(Hooks(command, timeout_s=0.5 if "sleep" in command[-1] else 10), message)
        assert cause in error.cause
    (unset,) = tell(Hooks(webhook_env="NOWHERE"), message, {})
    assert "NOWHERE" in unset.place


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
    (error,) = settle(host, read_record(host.home), {Alarm.LATE: "late"}, START)
    assert "cannot be written" in error.cause
    assert read_record(host.home).alarms == ("late",)
