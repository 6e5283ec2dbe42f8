"""Backups for Prometheus's textfile collector: one file, replaced whole."""

from __future__ import annotations

from pathlib import Path

from prometheus_client import CollectorRegistry, Gauge, generate_latest

from dreamseed_cli.backup.records import RunRecord
from dreamseed_cli.backup.rpo import LiveRpo
from dreamseed_cli.core.errors import FailedError
from dreamseed_cli.core.files import write_atomically


def metrics(record: RunRecord, rpo: LiveRpo | None) -> bytes:
    """The file's text. A value that is not known is left out: an alert on its absence then fires."""
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
    gauge("alarms", "Alarms that are not over.", len(record.alarms))
    if record.backup_id:
        gauge("duration_seconds", "How long the last good run took.", record.duration_s)
        gauge("plain_bytes", "What it read.", record.plain_bytes)
        gauge("stored_bytes", "What that became in the store.", record.stored_bytes)
        gauge("problems", "What failed after its backup: retention, the second copy.", len(record.problems))
    if rpo is not None:
        gauge("rpo_seconds", "Work that would be lost now.", rpo.rpo_s)
        gauge("rpo_target_seconds", "Work that may be lost at most.", rpo.target_s)
        gauge("wal_gaps", "Missing runs of WAL with archived ones behind them.", len(rpo.gaps))
    return generate_latest(registry)


def write_textfile(path: Path, record: RunRecord, rpo: LiveRpo | None) -> None:
    """FailedError if it cannot be written."""
    try:
        write_atomically(path, metrics(record, rpo), mode=0o644)
    except OSError as error:
        raise FailedError(
            f"cannot be written: {error.strerror}", place=str(path), remedy="Mend backup.textfile."
        ) from error
