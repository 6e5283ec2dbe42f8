"""A run with all that surrounds it on this host: the lock, the record, alarms, the textfile."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from dreamseed_cli.backup.ending import as_interruption
from dreamseed_cli.backup.lock import only_one
from dreamseed_cli.backup.notify import Alarm, Hooks, Message, changes, still_known, tell
from dreamseed_cli.backup.records import RunRecord, Untold, change_record
from dreamseed_cli.backup.run import Report
from dreamseed_cli.backup.settings import Settings
from dreamseed_cli.backup.textfile import write_textfile
from dreamseed_cli.backup.wal.outage import read_state
from dreamseed_cli.core.errors import DreamseedError, InterruptedByUser

_MOST_UNTOLD: Final = 50
"""Messages that wait for a hook which works again: the newest ones."""


@dataclass(frozen=True, slots=True)
class Attended:
    """A run that made a backup. hook_errors: of those who should have been told, or of the textfile."""

    report: Report
    hook_errors: tuple[DreamseedError, ...]


@dataclass(frozen=True, slots=True)
class Settled:
    """What was kept, and what went wrong with hooks or the textfile."""

    record: RunRecord
    errors: tuple[DreamseedError, ...]


Judge = Callable[[RunRecord], tuple[RunRecord, Mapping[Alarm, str | None]]]
"""Given the record as it is: as it should be, and what is wrong, None where it is fine (notify.changes)."""


def attended_run(settings: Settings, make: Callable[[], Report], now: Callable[[], datetime]) -> Attended:
    """Run `make` alone on this host; its end is recorded and told. Raises AlreadyRunning, or make's error."""
    with only_one(settings.home, "backup"):
        try:
            with as_interruption():
                report = make()
        except Exception as error:
            _failed(settings, str(error), now())
            raise
        except KeyboardInterrupt:
            _failed(settings, str(InterruptedByUser("interrupted")), now())
            raise
        trouble = "; ".join(str(problem) for problem in report.problems)
        found = {Alarm.FAILED: f"the backup was made, but: {trouble}" if trouble else None, Alarm.LATE: None}
        settled = settle(settings, lambda before: (_good(before, report), found), now())
        return Attended(report, settled.errors)


def settle(settings: Settings, judge: Judge, now: datetime) -> Settled:
    """Tell what is new, and what a hook failed to take before; keep the record, and write the textfile.

    The record is kept first: a hook that hangs the machine must not make the next tick tell it all again. It
    is judged as it is then: a run and a look beside it settle both.
    """
    hooks = _hooks(settings)
    due: list[Untold] = []

    def judged(before: RunRecord) -> RunRecord:
        record, found = judge(before)
        new = changes(before.alarms, found)
        due.extend(before.untold)
        due.extend(Untold(kind=kind, text=text, at=now, way=way) for kind, text in new for way in hooks.ways)
        return record.model_copy(update={"alarms": still_known(before.alarms, found), "untold": ()})

    record = change_record(settings.runs, judged)
    untold, errors = _told(hooks, due)
    if untold:

        def keep(found: RunRecord) -> RunRecord:
            return found.model_copy(update={"untold": (*untold, *found.untold)[-_MOST_UNTOLD:]})

        record = change_record(settings.runs, keep)
    try:
        write_textfile(settings.textfile, record, read_state(settings.wal_state))
    except DreamseedError as error:
        errors.append(error)
    return Settled(record, tuple(errors))


def _hooks(settings: Settings) -> Hooks:
    table = settings.table.notify
    return Hooks(table.command, table.webhook_env, table.timeout_s)


def _told(hooks: Hooks, due: Sequence[Untold]) -> tuple[list[Untold], list[DreamseedError]]:
    """Those that a hook failed to take, and why. After its first failure a hook is left alone until the next
    tick: each message would take its whole timeout. One that the profile has no more is owed nothing.
    """
    untold, errors, broken = list[Untold](), list[DreamseedError](), set[str]()
    for one in due:
        if one.way not in hooks.ways:
            continue
        failed = [] if one.way in broken else _tell_one(hooks, one)
        if failed:
            errors += failed
            broken.add(one.way)
        if one.way in broken:
            untold.append(one)
    return untold, errors


def _tell_one(hooks: Hooks, one: Untold) -> list[DreamseedError]:
    message = Message.of(one.kind, one.text, socket.gethostname(), one.at)
    return tell(hooks.only(one.way), message, os.environ)


def _good(before: RunRecord, report: Report) -> RunRecord:
    manifest = report.manifest
    return before.model_copy(
        update={
            "began": manifest.span.started,
            "ended": manifest.span.ended,
            "backup_id": report.id,
            "duration_s": manifest.span.duration_s,
            "plain_bytes": manifest.plain_bytes,
            "stored_bytes": manifest.stored_bytes,
            "problems": tuple(str(problem) for problem in report.problems),
            "error": "",
            "failures_in_a_row": 0,
        }
    )


def _failed(settings: Settings, error: str, now: datetime) -> None:
    """Nothing here may hide the failure itself."""

    def judge(before: RunRecord) -> tuple[RunRecord, Mapping[Alarm, str | None]]:
        update = {"failed": now, "error": error, "failures_in_a_row": before.failures_in_a_row + 1}
        return before.model_copy(update=update), {Alarm.FAILED: error}

    with suppress(OSError):
        settle(settings, judge, now)
