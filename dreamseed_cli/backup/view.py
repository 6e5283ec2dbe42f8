"""Backups for people, and the same as data for machines."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from dreamseed_cli.backup.catalog import Catalog, Damaged, Entry, Incomplete
from dreamseed_cli.backup.folders import REREAD_RUNS
from dreamseed_cli.backup.names import manifest_name
from dreamseed_cli.backup.progress import size_text, time_text
from dreamseed_cli.backup.prune import Pruned, Pruning
from dreamseed_cli.backup.rpo import LiveRpo
from dreamseed_cli.backup.run import Report
from dreamseed_cli.backup.status import Status
from dreamseed_cli.backup.wal.outage import Alert, ArchiveState
from dreamseed_cli.backup.wal_names import format_lsn
from dreamseed_cli.core.counting import counted

_MOST_SHOWN: Final = 5
"""Errors of one backup; all of them are in --json."""


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
        "deleted": list(report.pruned.deleted) if report.pruned else [],
        "locked": sorted(report.pruned.locked) if report.pruned else [],
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
            f"{counted(len(manifest.parts), 'part')}"
        ),
        Text("  ".join(f"{name} {seconds:.1f} s" for name, seconds in report.seconds.items()), style="dim"),
    ]
    if report.pruned and report.pruned.pruning.decision.held:
        said.append(Text(f"Nothing was deleted: {report.pruned.pruning.decision.held}", style="yellow"))
    elif report.pruned and report.pruned.deleted:
        said.append(Text(f"Deleted: {', '.join(report.pruned.deleted)}"))
    said += _locked_lines(report.pruned)
    if manifest.content is not None and manifest.content.note and not report.problems:
        said.append(
            Text(f"Its tables were not digested, so no restore can compare them: {manifest.content.note}.")
        )
    if manifest.folders:
        said.append(
            Text(
                "Contents of folders that an earlier backup stored were compared by name and size; each is "
                f"read again once in {REREAD_RUNS} runs, all of them by dreamseed backup verify.",
                style="dim",
            )
        )
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
        "folders_lost": [error.to_data() for error in entry.lost.values()],
    }


def catalog_data(catalog: Catalog, store: str, hidden: frozenset[str] = frozenset()) -> dict[str, Any]:
    """All that a store holds, for machines. hidden: see catalog.hidden."""
    return {
        "store": store,
        "backups": [entry_data(entry) for entry in catalog.backups],
        "damaged": damaged_data(catalog.damaged),
        "incomplete": [
            {
                "id": one.id,
                "bytes": one.size,
                "newest_upload": one.newest_upload.isoformat(),
                "hidden": one.id in hidden,
            }
            for one in catalog.incomplete
        ],
        "foreign": list(catalog.foreign),
    }


def damaged_data(damaged: Sequence[Damaged]) -> list[dict[str, Any]]:
    """What is wrong with each, for machines."""
    return [{"id": one.id, "errors": [error.to_data() for error in one.errors]} for one in damaged]


def skipped_lines(skipped: Sequence[Damaged]) -> list[str]:
    """Newer backups that a restore cannot begin with, for people."""
    return [f"Newer, but damaged: {one.id}: {one.errors[0]}" for one in skipped]


def catalog_view(catalog: Catalog, store: str, hidden: frozenset[str] = frozenset()) -> list[RenderableType]:
    """The list for people, newest first; what is no backup below it. hidden: see catalog.hidden."""
    table = Table(caption=store, box=None, pad_edge=False, header_style="dim", caption_justify="left")
    table.add_column("backup\nmade (UTC), proven", no_wrap=True)
    for heading in ("server", "read", "stored", "pin"):
        table.add_column(heading, overflow="fold")
    for entry in catalog.backups:
        manifest = entry.manifest
        made = f"{manifest.span.started:%Y-%m-%d %H:%M}, {entry.proof.level.value}"
        table.add_row(
            Text.assemble(entry.id, "\n", (made, "dim")),
            manifest.versions.server,
            size_text(manifest.plain_bytes),
            size_text(manifest.stored_bytes),
            "pinned" if entry.pinned else "",
        )
    said: list[RenderableType] = [table] if catalog.backups else [Text(f"There is no backup in {store}.")]
    for damaged in catalog.damaged:
        said.append(Text(f"Damaged: {damaged.id}", style="red"))
        said += [Text(f"  {error}", style="red") for error in damaged.errors[:_MOST_SHOWN]]
    for entry in catalog.backups:
        if entry.lost:
            said.append(Text(f"Its database is whole, its folders are not: {entry.id}", style="red"))
            said += [Text(f"  {error}", style="red") for error in list(entry.lost.values())[:_MOST_SHOWN]]
    said += [_hidden_line(run) if run.id in hidden else _unfinished_line(run) for run in catalog.incomplete]
    return said


def _unfinished_line(run: Incomplete) -> Text:
    return Text(
        f"No backup: {run.id} never finished ({size_text(run.size)}); a later run deletes it after a day."
    )


def _hidden_line(run: Incomplete) -> Text:
    """It did finish, and nothing of ours hides anything."""
    return Text(
        f"Hidden: {run.id} was a backup ({size_text(run.size)}) until another program hid its manifest, "
        f"{manifest_name(run.id)}; delete the mark that hides it, and it is one again. Nothing prunes it.",
        style="red",
    )


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
        "read": f"{size_text(manifest.plain_bytes)} in {counted(len(manifest.parts), 'part')}",
        "stored": size_text(manifest.stored_bytes),
        "databases": ", ".join(f"{one.name} ({size_text(one.size)})" for one in manifest.databases),
        "extensions": ", ".join(f"{one.name} {one.version} in {one.database}" for one in manifest.extensions),
        "roles": ", ".join(manifest.roles),
        "folders": ", ".join(f"{one.name} ({counted(one.files, 'file')})" for one in manifest.folders),
        "WAL": _wal_text(entry),
        "content": _content_text(entry),
        "keys": "\n".join(manifest.recipients),
        "manifest": manifest.digest(),
    }
    for name, text in rows.items():
        if text:
            table.add_row(f"[bold]{name}[/]", Text(text))
    tables = Table("table", "rows", "content (SHA-256)", box=None, header_style="dim")
    for one in manifest.tables:
        tables.add_row(
            Text(f"{one.database}: {one.schema_name}.{one.name}"),
            str(one.rows),
            (one.digest or "not taken")[:16],
        )
    return [table, tables] if manifest.tables else [table]


def pruning_data(pruning: Pruning, pruned: Pruned | None = None) -> dict[str, Any]:
    """What stays and goes, for machines. pruned: what became of it; None: nothing was done."""
    return {
        "locked": sorted(pruned.locked) if pruned else [],
        "held": pruning.decision.held,
        "keep": {id_: list(reasons) for id_, reasons in pruning.decision.keep.items()},
        "delete": pruning.decision.delete,
        "wal_objects": len(pruning.wal),
        "blobs": len(pruning.blobs),
        "leftover_runs": list(pruning.leftover_runs),
        "by_age_alone": sorted(pruning.by_age_alone),
    }


def pruning_view(pruning: Pruning, pruned: Pruned | None = None) -> list[RenderableType]:
    """What stays and goes, and why. pruned: what became of it; None: nothing was done."""
    decision = pruning.decision
    if decision.held:
        return [Text(f"Nothing is deleted: {decision.held}", style="yellow"), *_document_lines(pruning)]
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column("backup", no_wrap=True)
    table.add_column("what")
    table.add_column("why")
    for id_, reasons in decision.keep.items():
        table.add_row(id_, "[green]stays[/]", Text("; ".join(reasons)))
    gone = "[red]deleted[/]" if pruned else "[red]would go[/]"
    for id_, reason in decision.delete.items():
        locked = pruned is not None and id_ not in pruned.deleted
        table.add_row(id_, "[yellow]locked[/]" if locked else gone, Text(reason))
    for id_ in pruning.leftover_runs:
        table.add_row(id_, gone, "a run that never finished")
    also = f"Besides: {len(pruning.wal)} WAL files, {len(pruning.blobs)} folder contents nobody names."
    return [table, Text(also), *_locked_lines(pruned), *_document_lines(pruning)]


def _locked_lines(pruned: Pruned | None) -> list[Text]:
    """What Object Lock keeps: no trouble, but not deleted either."""
    if pruned is None or not pruned.locked:
        return []
    first = next(iter(pruned.locked.values()))
    said = f"Kept by the bucket's lock: {counted(len(pruned.locked), 'object')}, the first by {first.until}"
    return [Text(f"{said}. A later pruning deletes them.", style="yellow")]


def _document_lines(pruning: Pruning) -> list[Text]:
    """Where §E2's rule would delete what ours keeps."""
    kept = sorted(pruning.by_age_alone - pruning.decision.delete.keys())
    if not kept:
        return []
    all_ = " That is every backup there is." if len(pruning.by_age_alone) == pruning.backups else ""
    return [Text(f"By age alone (§E2) these would go too (computed): {', '.join(kept)}.{all_}", style="dim")]


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
        "wal_push": archiving_data(status.archiving),
        "daily_alone": None
        if status.alone is None
        else {
            "share_of_moments_over": status.alone.share_over,
            "worst_loss_s": status.alone.worst_s,
            "how": "computed",
        },
        "behind_bytes": rpo.behind_bytes,
        "last_heartbeat": status.last_heartbeat.isoformat() if status.last_heartbeat else None,
        "base": status.base.id if status.base else None,
        "newest": entry_data(newest) if newest else None,
        "newest_restored": entry_data(status.restored) if status.restored else None,
        "damaged": [one.id for one in status.catalog.damaged],
        "damaged_folders": [one.id for one in status.catalog.backups if one.lost],
        "folders_lost": [error.to_data() for error in status.folders_lost],
        "at": now.isoformat(),
    }


def archiving_data(state: ArchiveState | None) -> dict[str, Any] | None:
    """How this host's last push of WAL went, for machines; None: it never pushed."""
    if state is None:
        return None
    backlog = state.backlog
    return {
        "alert": state.alert.value,
        "at": state.at.isoformat(),
        "failing_since": state.failing_since.isoformat() if state.failing_since else None,
        "failures": state.failures,
        "error": state.error,
        "backlog_files": backlog.files,
        "backlog_bytes": backlog.bytes,
        "free_bytes": backlog.free_bytes,
        "full_in_s": backlog.full_in_s,
    }


def rpo_view(rpo: LiveRpo) -> Text:
    """What a disaster would cost now, in one line."""
    lost = "everything" if rpo.rpo_s is None else f"the last {time_text(rpo.rpo_s)} of work"
    colour = "red" if rpo.over_target else "green"
    return Text(
        f"Lost if the server died now: {lost}; the target is {time_text(rpo.target_s)}.", style=colour
    )


def status_view(status: Status, store: str) -> list[RenderableType]:
    """How things stand, for people."""
    rpo = status.rpo
    said = [rpo_view(rpo)]
    if rpo.note:
        said.append(Text(f"{rpo.note[0].upper()}{rpo.note[1:]}.", style="red"))
    if status.base is not None:
        said.append(
            Text(f"A restore would begin with {status.base.id}, proven {status.base.proof.level.value}.")
        )
    if rpo.restorable_until is not None:
        said.append(Text(f"Everything until {rpo.restorable_until:%Y-%m-%d %H:%M:%S} UTC could be restored."))
    said += _archive_lines(status)
    if status.archiving is not None and status.archiving.text:
        colour = "red" if status.archiving.alert is Alert.DISK else "yellow"
        said.append(Text(status.archiving.text, style=colour))
    said.append(
        Text("No backup was ever proven by a restore: dreamseed restore does it.", style="yellow")
        if status.restored is None
        else Text(f"Newest proven by a restore: {status.restored.id} ({status.restored.proof.level.value}).")
    )
    said += [Text(f"Damaged: {one.id}", style="red") for one in status.catalog.damaged]
    said += [Text(f"Damaged folders: {one.id}", style="red") for one in status.catalog.backups if one.lost]
    if status.folders_lost:
        text = f"The newest copy of the folders lacks {counted(len(status.folders_lost), 'content')}"
        said.append(
            Text(f"{text}, which the next backup stores anew if the files are still there:", style="red")
        )
        said += [Text(f"  {error}", style="red") for error in status.folders_lost[:_MOST_SHOWN]]
    said.append(Text(store, style="dim"))
    return list(said)


def _archive_lines(status: Status) -> Sequence[Text]:
    if not status.wal.segments:
        lines = [Text("No WAL is archived: only the moments of backups can be restored.", style="yellow")]
        if status.alone is not None:
            over, worst_s = status.alone.share_over, status.alone.worst_s
            text = f"With one a day (§E2), {over:.2%} of all moments lose more than the target"
            lines.append(Text(f"{text}, the worst {time_text(worst_s)} (computed).", style="yellow"))
        return lines
    lines = [Text(f"{len(status.wal.segments)} WAL segments are archived.")]
    lines += [
        Text(f"Missing WAL: segments {gap.first} to {gap.last} ({len(gap)}).", style="red")
        for gap in status.rpo.gaps
    ]
    lines += [Text(f"Archived twice with other bytes: {name}", style="red") for name in status.wal.conflicts]
    return lines


def _content_text(entry: Entry) -> str:
    """Where a physical backup's tables were digested, or why not."""
    content = entry.manifest.content
    if content is None:
        return ""
    if content.lsn is None:
        return f"not digested: {content.note}"
    where = (
        "the backup's end" if content.point is None else "behind the backup: it takes the archive to compare"
    )
    return f"digested at {content.lsn}, {where}"


def _wal_text(entry: Entry) -> str:
    wal = entry.manifest.wal
    return "" if wal is None else f"timeline {wal.timeline}, {wal.start_lsn} to {wal.stop_lsn}"
