"""Backups for Prometheus's textfile collector: one file, replaced whole."""

from __future__ import annotations

import math
from pathlib import Path

from prometheus_client import CollectorRegistry, Gauge, generate_latest

from dreamseed_cli.backup.notify import Alarm
from dreamseed_cli.backup.records import RunRecord
from dreamseed_cli.backup.wal.outage import Alert, ArchiveState
from dreamseed_cli.core.errors import FailedError
from dreamseed_cli.core.files import write_atomically


def metrics(record: RunRecord, wal: ArchiveState | None = None) -> bytes:
    """The file's text. What nobody knows is left out; a loss of everything is known: infinite."""
    registry = CollectorRegistry()

    def gauge(name: str, text: str, value: float | None) -> None:
        if value is not None:
            Gauge(f"dreamseed_backup_{name}", text, registry=registry).set(value)

    gauge(
        "last_success_timestamp_seconds",
        "When the last good run ended.",
        record.ended.timestamp() if record.ended else None,
    )
    gauge(
        "last_failure_timestamp_seconds",
        "When a run last failed.",
        record.failed.timestamp() if record.failed else None,
    )
    gauge("failures_in_a_row", "Failed runs since the last good one.", record.failures_in_a_row)
    alarms = Gauge("dreamseed_backup_alarm", "1 until it is over.", ["alarm"], registry=registry)
    for one in Alarm:
        alarms.labels(one.value).set(one in record.alarms)
    if record.backup_id:
        gauge("duration_seconds", "How long the last good run took.", record.duration_s)
        gauge("plain_bytes", "What it read.", record.plain_bytes)
        gauge("stored_bytes", "What that became in the store.", record.stored_bytes)
        gauge("problems", "What failed after its backup: retention, the second copy.", len(record.problems))
    look = record.look
    if look is not None:
        gauge("looked_timestamp_seconds", "When the store was last looked at.", look.at.timestamp())
        gauge("rpo_seconds", "Work that would have been lost then.", _seconds(look.rpo_s))
        gauge("rpo_target_seconds", "Work that may be lost at most.", look.target_s)
        gauge("wal_gaps", "Missing runs of WAL with archived ones behind them.", look.wal_gaps)
    if wal is not None:
        gauge("wal_push_failures", "Pushes of WAL that failed since the last good one.", wal.failures)
        gauge("wal_disk_alert", "Whether WAL that has to wait fills the disk.", wal.alert is Alert.DISK)
        gauge("wal_waiting_bytes", "WAL that waited to be archived at the last push.", wal.backlog.bytes)
        gauge("wal_disk_full_seconds", "Until it fills the disk at this rate.", wal.backlog.full_in_s)
    return generate_latest(registry)


def _seconds(rpo_s: float | None) -> float:
    return math.inf if rpo_s is None else rpo_s


def write_textfile(path: Path, record: RunRecord, wal: ArchiveState | None = None) -> None:
    """FailedError if it cannot be written."""
    try:
        write_atomically(path, metrics(record, wal), mode=0o644)
    except OSError as error:
        raise FailedError(
            f"cannot be written: {error.strerror}", place=str(path), remedy="Mend backup.textfile."
        ) from error
