"""`dreamseed schedule install|remove|show|run`: backups by themselves."""

from __future__ import annotations

import sys
from datetime import datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dreamseed_cli.commands.backup_choice import StoreOption, chosen_database, chosen_settings
from dreamseed_cli.commands.database_choice import DsnEnvOption
from dreamseed_cli.commands.options import JsonFlag, ProfileOption, StateDirOption, profile_argv
from dreamseed_cli.core.counting import counted
from dreamseed_cli.core.result import Result

if TYPE_CHECKING:
    from rich.console import RenderableType

    from dreamseed_cli.backup.records import RunRecord
    from dreamseed_cli.backup.schedule.due import Daily
    from dreamseed_cli.backup.settings import Settings

schedule_app = typer.Typer(help="Make backups run by themselves, and be told when not.", no_args_is_help=True)
_TICK = ("schedule", "run")
_DRILL = ("drill", "due")
_MISSED = timedelta(minutes=15)


class Part(StrEnum):
    """Of what the timer does."""

    BACKUP = "backup"
    LOOK = "look"


@schedule_app.command("install")
def install(
    profile: ProfileOption = None,
    store: StoreOption = None,
    dsn_env: DsnEnvOption = None,
    state_dir: StateDirOption = None,
    as_json: JsonFlag = False,
) -> Result:
    """Put the schedule in place: a systemd timer where there is systemd, else a line for cron."""
    from dreamseed_cli.backup.doors import utc_now
    from dreamseed_cli.backup.records import change_record, read_record
    from dreamseed_cli.backup.schedule.install import System
    from dreamseed_cli.backup.schedule.install import install as put_in_place

    settings = chosen_settings(profile, store)
    settings.recipients()
    daily = _daily(settings)
    system = System.look()
    argv, drill = (_argv(verb, profile, store, dsn_env, state_dir) for verb in (_TICK, _DRILL))
    environment = {"DREAMSEED_BACKUP_DIR": str(settings.home.absolute())}
    written = put_in_place(system, argv, environment, settings.home / "schedule.log", drill)
    settings.schedule_for(store)
    if read_record(settings.runs).since is None:
        now = utc_now()
        change_record(settings.runs, lambda record: record.model_copy(update={"since": now}))
    next_due = daily.next_due(utc_now())
    asleep = system.sleeps_when_logged_out()
    data = {
        "way": system.way,
        "written": written,
        "command": argv,
        "next_due": next_due.isoformat(),
        "sleeps_when_logged_out": asleep,
    }
    said = [f"Written: {', '.join(written)}", _next_text(daily, next_due)]
    said += ["It runs only while you are logged in, until: loginctl enable-linger"] if asleep else []
    return Result(data, said)


@schedule_app.command("remove")
def remove(as_json: JsonFlag = False) -> Result:
    """Take the schedule away. Backups stay."""
    from dreamseed_cli.backup.schedule.install import System
    from dreamseed_cli.backup.schedule.install import remove as take_away
    from dreamseed_cli.backup.settings import Settings

    removed = take_away(System.look())
    Settings().schedule_for(None)
    said = f"Removed: {', '.join(removed)}" if removed else "There was no schedule."
    return Result({"removed": removed}, [said])


@schedule_app.command("show")
def show(profile: ProfileOption = None, as_json: JsonFlag = False) -> Result:
    """Show when the next backup is due and how the last ended.

    Exit code 1 if it is late, failed or not there, or if nothing runs it (a cron that was not started).
    """
    from dreamseed_cli.backup.doors import utc_now
    from dreamseed_cli.backup.records import read_record
    from dreamseed_cli.backup.schedule.due import due, late
    from dreamseed_cli.backup.schedule.install import System, installed
    from dreamseed_cli.backup.schedule.tick import history_of

    settings, now = chosen_settings(profile, None).scheduled(), utc_now()
    daily, record, there = _daily(settings), read_record(settings.runs), installed(System.look())
    found, is_late = due(daily, history_of(record), now), late(daily, history_of(record), now)
    asleep = there and _asleep(record, now)
    data = {
        "installed": there,
        "asleep": asleep,
        "due": found.value,
        "late": is_late,
        "next_due": daily.next_due(now).isoformat(),
        "last": record.model_dump(mode="json"),
    }
    said = [
        "The schedule is in place." if there else "There is no schedule: dreamseed schedule install.",
        _next_text(daily, daily.next_due(now)),
        f"Newest backup made here: {record.backup_id or 'none'}{' (late)' if is_late else ''}.",
    ]
    if record.last_failed:
        said.append(f"Failed {counted(record.failures_in_a_row, 'time')} since: {record.error}")
    said += [f"Alarms: {', '.join(record.alarms)} (docs/runbooks/schedule.md)."] if record.alarms else []
    if there:
        said.append(_looked_text(record, asleep))
    return Result(data, said, target_met=there and not is_late and not record.last_failed and not asleep)


@schedule_app.command("run")
def run(
    only: Annotated[
        Part | None,
        typer.Option(
            "--only",
            help="backup: make one if it is due. look: no more than look and tell. Default: both.",
            show_default=False,
        ),
    ] = None,
    profile: ProfileOption = None,
    store: StoreOption = None,
    dsn_env: DsnEnvOption = None,
    state_dir: StateDirOption = None,
    as_json: JsonFlag = False,
) -> Result:
    """Do what the timer does: back up if it is due, look at the RPO, tell what is wrong.

    Exit code 1 if something is late, over target, unseen, or waits too long or fills the disk; 5, after a
    look, if another run is at work.
    """
    from dreamseed_cli.backup.doors import Doors, utc_now
    from dreamseed_cli.backup.ending import ends_in_order
    from dreamseed_cli.backup.names import Kind
    from dreamseed_cli.backup.records import read_record
    from dreamseed_cli.backup.schedule.tick import Deeds, tick
    from dreamseed_cli.backup.view import archiving_data, report_data, report_view, rpo_view
    from dreamseed_cli.backup.wal.outage import Alert

    settings = chosen_settings(profile, store)
    doors = Doors(settings, lambda: chosen_database(profile, dsn_env, state_dir))
    since = read_record(settings.runs).since
    deeds = Deeds(
        lambda: doors.backup(Kind(settings.table.kind)),
        doors.look,
        utc_now,
        lambda: _drill_alarm(profile, since, state_dir),
        doors.archiver,
        doors.beat,
    )
    with ends_in_order():
        done = tick(
            settings, _daily(settings), deeds, run=only is not Part.LOOK, look=only is not Part.BACKUP
        )
    seen = done.seen
    data = {
        "due": done.due.value,
        "next_due": done.next_due.isoformat(),
        "late": seen.late,
        "rpo_s": seen.rpo.rpo_s if seen.rpo else None,
        "wal_push": archiving_data(seen.wal),
        "wal_stuck": seen.stuck,
        "drill": seen.drill,
        "ran": report_data(done.ran.report) if done.ran else None,
        "errors": [error.to_data() for error in done.errors],
    }
    said: list[RenderableType] = report_view(done.ran.report) if done.ran else [f"Backup: {done.due.value}."]
    said += [rpo_view(seen.rpo)] if seen.rpo else []
    said += [f"But: {error}" for error in done.errors]
    said += [f"Rehearsals: {seen.drill}."] if seen.drill else []
    said += [f"WAL: {seen.stuck}."] if seen.stuck else []
    over = seen.rpo is not None and seen.rpo.over_target
    filling = seen.wal is not None and seen.wal.alert is Alert.DISK
    missed = over or filling or seen.stuck or seen.late or seen.drill or done.errors
    good = not (missed or (done.ran and done.ran.report.problems))
    return Result(data, said, target_met=good)


def _daily(settings: Settings) -> Daily:
    from dreamseed_cli.backup.schedule.tick import daily_of, zone_of

    schedule = settings.table.schedule
    return daily_of(schedule, zone_of(schedule.timezone))


def _next_text(daily: Daily, next_due: datetime) -> str:
    local = next_due.astimezone(daily.zone)
    return f"Every day at {daily.at:%H:%M} ({daily.zone}); next: {local:%Y-%m-%d %H:%M}."


def _asleep(record: RunRecord, now: datetime) -> bool:
    """Whether three ticks of five minutes were missed: nothing runs what was put in place."""
    if record.blind_since is not None:
        return False  # it looks, and sees nothing
    known = [at for at in (record.look.at if record.look else None, record.since) if at is not None]
    return bool(known) and now - max(known) > _MISSED


def _looked_text(record: RunRecord, asleep: bool) -> str:
    looked = (
        f"Looked last: {record.look.at:%Y-%m-%d %H:%M} UTC." if record.look else "Nothing has looked yet."
    )
    return f"{looked} It should every five minutes: does cron run, or the timer?" if asleep else looked


def _drill_alarm(profile: str | None, since: datetime | None, state_dir: Path | None) -> str | None:
    """What is wrong with the rehearsals, by their records alone."""
    from dreamseed_cli.backup.doors import utc_now
    from dreamseed_cli.commands.backup_choice import chosen_profile
    from dreamseed_cli.core.paths import StateDir
    from dreamseed_cli.drill.doors import alarm, standings
    from dreamseed_cli.drill.history import Folder

    folder = Folder.of(StateDir.locate(state_dir))
    return alarm(standings(folder, chosen_profile(profile).drill, since, utc_now()))


def _argv(
    verb: tuple[str, str], profile: str | None, store: str | None, dsn_env: str | None, state_dir: Path | None
) -> list[str]:
    """The program, by this very Python: a timer's PATH knows neither. Files by their whole paths."""
    from dreamseed_cli.core.paths import StateDir

    argv = [sys.executable, "-m", "dreamseed_cli", *verb]
    argv += profile_argv(profile)
    for option, value in (("--store", store), ("--dsn-env", dsn_env)):
        argv += [option, value] if value is not None else []
    return [*argv, "--state-dir", str(StateDir.locate(state_dir).root)]
