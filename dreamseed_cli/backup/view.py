"""Backups for people, and the same as data for machines."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from dreamseed_cli.backup.catalog import Catalog, Entry
from dreamseed_cli.backup.progress import size_text, time_text
from dreamseed_cli.backup.prune import Pruning
from dreamseed_cli.backup.run import Report
from dreamseed_cli.backup.status import Status
from dreamseed_cli.backup.wal_names import format_lsn


def report_data(report: Report) -> dict[str, Any]:
    """All measured, but for what was deleted."""
    manifest = report.manifest
    return {
        "id": report.id,
        "kind": manifest.identity.kind.value,
        "plain_bytes": manifest.plain_bytes,
        "stored_bytes": manifest.stored_bytes,
        "seconds": report.seconds,
        "bytes_per_s": report.bytes_per_s,
        "level": manifest.proof.level.value,
        "manifest_sha256": manifest.digest(),
        "deleted": list(report.pruned.pruning.decision.delete) if report.pruned else [],
        "problems": [problem.to_data() for problem in report.problems],
    }


def report_view(report: Report) -> list[RenderableType]:
    """A run's end for people."""
    manifest = report.manifest
    said: list[RenderableType] = [
        Text(f"Made {report.id}: every part was read back from the store and is equal.", style="green"),
        Text(
            f"{size_text(manifest.plain_bytes)} in {time_text(manifest.span.duration_s)}, "
            f"{size_text(report.bytes_per_s)}/s (measured); {size_text(manifest.stored_bytes)} stored in "
            f"{len(manifest.parts)} parts"
        ),
        Text("  ".join(f"{name} {seconds:.1f} s" for name, seconds in report.seconds.items()), style="dim"),
    ]
    if report.pruned and report.pruned.pruning.decision.held:
        said.append(Text(f"Nothing was deleted: {report.pruned.pruning.decision.held}", style="yellow"))
    elif report.pruned and report.pruned.pruning.decision.delete:
        said.append(Text(f"Deleted: {', '.join(report.pruned.pruning.decision.delete)}"))
    said += [Text(f"But: {problem}", style="red") for problem in report.problems]
    return said


def entry_data(entry: Entry) -> dict[str, Any]:
    """A backup in a list, for machines."""
    manifest = entry.manifest
    return {
        "id": entry.id,
        "kind": manifest.identity.kind.value,
        "sequence": manifest.identity.sequence,
        "started": manifest.span.started.isoformat(),
        "duration_s": manifest.span.duration_s,
        "server": manifest.versions.server,
        "plain_bytes": manifest.plain_bytes,
        "stored_bytes": manifest.stored_bytes,
        "proof": entry.proof.level.value,
        "proven_at": entry.proof.at.isoformat() if entry.proof.at else None,
        "pinned": entry.pinned,
    }


def catalog_data(catalog: Catalog, store: str) -> dict[str, Any]:
    """All that a store holds, for machines."""
    return {
        "store": store,
        "backups": [entry_data(entry) for entry in catalog.backups],
        "damaged": [
            {"id": one.id, "errors": [error.to_data() for error in one.errors]} for one in catalog.damaged
        ],
        "incomplete": [
            {"id": one.id, "bytes": one.size, "newest_upload": one.newest_upload.isoformat()}
            for one in catalog.incomplete
        ],
        "foreign": list(catalog.foreign),
    }


def catalog_view(catalog: Catalog, store: str) -> list[RenderableType]:
    """The list for people, newest first; what is no backup below it."""
    table = Table(caption=store)
    for heading in ("backup", "made (UTC)", "server", "read", "stored", "proven", "pin"):
        table.add_column(heading, no_wrap=heading == "backup")
    for entry in catalog.backups:
        manifest = entry.manifest
        table.add_row(
            entry.id,
            f"{manifest.span.started:%Y-%m-%d %H:%M}",
            manifest.versions.server,
            size_text(manifest.plain_bytes),
            size_text(manifest.stored_bytes),
            entry.proof.level.value,
            "pinned" if entry.pinned else "",
        )
    said: list[RenderableType] = [table] if catalog.backups else [Text(f"There is no backup in {store}.")]
    for damaged in catalog.damaged:
        said.append(Text(f"Damaged: {damaged.id}", style="red"))
        said += [Text(f"  {error}", style="red") for error in damaged.errors[:5]]
    said += [
        Text(
            f"No backup: {run.id} never finished ({size_text(run.size)}); a later run deletes it after a day."
        )
        for run in catalog.incomplete
    ]
    return said


def manifest_view(entry: Entry) -> list[RenderableType]:
    """One backup, in full."""
    manifest = entry.manifest
    table = Table(show_header=False, box=None)
    rows = {
        "backup": entry.id,
        "kind": manifest.identity.kind.value,
        "of": f"{manifest.identity.cluster} (system {manifest.identity.system_identifier})",
        "made": f"{manifest.span.started:%Y-%m-%d %H:%M:%S} UTC, in {time_text(manifest.span.duration_s)}",
        "on": f"{manifest.identity.host}, PostgreSQL {manifest.versions.server}",
        "proven": entry.proof.level.value,
        "read": f"{size_text(manifest.plain_bytes)} in {len(manifest.parts)} parts",
        "stored": size_text(manifest.stored_bytes),
        "databases": ", ".join(f"{one.name} ({size_text(one.size)})" for one in manifest.databases),
        "extensions": ", ".join(f"{one.name} {one.version} in {one.database}" for one in manifest.extensions),
        "roles": ", ".join(manifest.roles),
        "folders": ", ".join(f"{one.name} ({one.files} files)" for one in manifest.folders),
        "WAL": _wal_text(entry),
        "keys": "\n".join(manifest.recipients),
        "manifest": manifest.digest(),
    }
    for name, text in rows.items():
        if text:
            table.add_row(f"[bold]{name}[/]", Text(text))
    tables = Table("table", "rows", "content (SHA-256)")
    for one in manifest.tables:
        tables.add_row(
            Text(f"{one.database}: {one.schema_name}.{one.name}"),
            str(one.rows),
            (one.digest or "not taken")[:16],
        )
    return [table, tables] if manifest.tables else [table]


def pruning_data(pruning: Pruning) -> dict[str, Any]:
    """What stays and goes, for machines."""
    return {
        "held": pruning.decision.held,
        "keep": {id_: list(reasons) for id_, reasons in pruning.decision.keep.items()},
        "delete": pruning.decision.delete,
        "wal_objects": len(pruning.wal),
        "blobs": len(pruning.blobs),
        "leftover_runs": list(pruning.leftover_runs),
    }


def pruning_view(pruning: Pruning, *, done: bool) -> list[RenderableType]:
    """What stays and goes, and why. done: whether it was deleted."""
    decision = pruning.decision
    if decision.held:
        return [Text(f"Nothing is deleted: {decision.held}", style="yellow")]
    table = Table("backup", "what", "why")
    for id_, reasons in decision.keep.items():
        table.add_row(id_, "[green]stays[/]", Text("; ".join(reasons)))
    gone = "[red]deleted[/]" if done else "[red]would go[/]"
    for id_, reason in decision.delete.items():
        table.add_row(id_, gone, Text(reason))
    for id_ in pruning.leftover_runs:
        table.add_row(id_, gone, "a run that never finished")
    also = f"Besides: {len(pruning.wal)} WAL files, {len(pruning.blobs)} folder contents nobody names."
    return [table, Text(also)]


def status_data(status: Status, store: str, now: datetime) -> dict[str, Any]:
    """How things stand, for machines; times in seconds."""
    rpo, newest = status.rpo, status.catalog.newest()
    return {
        "store": store,
        "rpo_s": rpo.rpo_s,
        "rpo_target_s": rpo.target_s,
        "over_target": rpo.over_target,
        "note": rpo.note,
        "restorable_until": rpo.restorable_until.isoformat() if rpo.restorable_until else None,
        "restorable_lsn": format_lsn(rpo.restorable_lsn) if rpo.restorable_lsn is not None else None,
        "wal_gaps": [[gap.first, gap.last] for gap in rpo.gaps],
        "wal_segments": len(status.wal.segments),
        "wal_conflicts": list(status.wal.conflicts),
        "behind_bytes": rpo.behind_bytes,
        "last_heartbeat": status.last_heartbeat.isoformat() if status.last_heartbeat else None,
        "base": status.base.id if status.base else None,
        "newest": entry_data(newest) if newest else None,
        "newest_restored": entry_data(status.restored) if status.restored else None,
        "damaged": [one.id for one in status.catalog.damaged],
        "at": now.isoformat(),
    }


def status_view(status: Status, store: str) -> list[RenderableType]:
    """How things stand, for people."""
    rpo = status.rpo
    lost = "everything" if rpo.rpo_s is None else f"the last {time_text(rpo.rpo_s)} of work"
    colour = "red" if rpo.over_target else "green"
    said = [
        Text(f"Lost if the server died now: {lost}; the target is {time_text(rpo.target_s)}.", style=colour)
    ]
    if rpo.note:
        said.append(Text(f"{rpo.note[0].upper()}{rpo.note[1:]}.", style="red"))
    if status.base is not None:
        said.append(
            Text(f"A restore would begin with {status.base.id}, proven {status.base.proof.level.value}.")
        )
    if rpo.restorable_until is not None:
        said.append(Text(f"Everything until {rpo.restorable_until:%Y-%m-%d %H:%M:%S} UTC could be restored."))
    said += _archive_lines(status)
    said.append(
        Text("No backup was ever proven by a restore: dreamseed restore does it.", style="yellow")
        if status.restored is None
        else Text(f"Newest proven by a restore: {status.restored.id} ({status.restored.proof.level.value}).")
    )
    said += [Text(f"Damaged: {one.id}", style="red") for one in status.catalog.damaged]
    said.append(Text(store, style="dim"))
    return list(said)


def _archive_lines(status: Status) -> Sequence[Text]:
    if not status.wal.segments:
        return [Text("No WAL is archived: only the moments of backups can be restored.", style="yellow")]
    lines = [Text(f"{len(status.wal.segments)} WAL segments are archived.")]
    lines += [
        Text(f"Missing WAL: segments {gap.first} to {gap.last} ({len(gap)}).", style="red")
        for gap in status.rpo.gaps
    ]
    lines += [Text(f"Archived twice with other bytes: {name}", style="red") for name in status.wal.conflicts]
    return lines


def _wal_text(entry: Entry) -> str:
    wal = entry.manifest.wal
    return "" if wal is None else f"timeline {wal.timeline}, {wal.start_lsn} to {wal.stop_lsn}"
