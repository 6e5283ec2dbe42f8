"""A run with all that surrounds it on this host: the lock, the record, alarms, the textfile."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from dreamseed_cli.backup.lock import only_one
from dreamseed_cli.backup.notify import Alarm, Hooks, Message, changes, still_known, tell
from dreamseed_cli.backup.records import RunRecord, read_record, write_record
from dreamseed_cli.backup.rpo import LiveRpo
from dreamseed_cli.backup.run import Report
from dreamseed_cli.backup.settings import Settings
from dreamseed_cli.backup.textfile import write_textfile
from dreamseed_cli.core.errors import DreamseedError, InterruptedByUser


@dataclass(frozen=True, slots=True)
class Attended:
    """A run that made a backup. hook_errors: of those who should have been told, or of the textfile."""

    report: Report
    hook_errors: tuple[DreamseedError, ...]


def attended_run(settings: Settings, make: Callable[[], Report], now: Callable[[], datetime]) -> Attended:
    """Run `make` alone on this host; its end is recorded and told. Raises AlreadyRunning, or make's error."""
    with only_one(settings.home, "backup"):
        try:
            report = make()
        except Exception as error:
            _failed(settings, str(error), now())
            raise
        except KeyboardInterrupt:
            _failed(settings, str(InterruptedByUser("interrupted")), now())
            raise
        record = _good(read_record(settings.home), report)
        trouble = "; ".join(str(problem) for problem in report.problems)
        found = {Alarm.FAILED: f"the backup was made, but: {trouble}" if trouble else None, Alarm.LATE: None}
        return Attended(report, tuple(settle(settings, record, found, now())))


def settle(
    settings: Settings,
    record: RunRecord,
    found: Mapping[Alarm, str | None],
    now: datetime,
    rpo: LiveRpo | None = None,
) -> list[DreamseedError]:
    """Tell what is new, keep the record, and write the textfile; what went wrong with hooks or that file.

    The record is kept first: a hook that hangs the machine must not make the next tick tell it all again.
    """
    told = changes(record.alarms, found)
    record = record.model_copy(update={"alarms": still_known(record.alarms, found)})
    write_record(settings.home, record)
    table, errors = settings.table, []
    hooks = Hooks(table.notify.command, table.notify.webhook_env, table.notify.timeout_s)
    for kind, text in told:
        errors += tell(hooks, Message.of(kind, text, socket.gethostname(), now), os.environ)
    if table.textfile is not None:
        try:
            write_textfile(Path(table.textfile).expanduser(), record, rpo)
        except DreamseedError as error:
            errors.append(error)
    return errors


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
    before = read_record(settings.home)
    record = before.model_copy(
        update={"failed": now, "error": error, "failures_in_a_row": before.failures_in_a_row + 1}
    )
    with suppress(OSError):
        settle(settings, record, {Alarm.FAILED: error}, now)
