"""What a restore would do, before it does it: from which backup, how long, and what would be lost."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime

from dreamseed_cli.backup.catalog import Catalog, Damaged, Entry
from dreamseed_cli.backup.logical.dump import database_stream
from dreamseed_cli.backup.names import Kind, parse_backup_id
from dreamseed_cli.backup.physical.recovery import Goal
from dreamseed_cli.backup.rpo import LiveRpo
from dreamseed_cli.backup.verify import choose
from dreamseed_cli.backup.wal.points import Point
from dreamseed_cli.backup.wal_names import format_lsn, parse_lsn
from dreamseed_cli.core.errors import UsageError


@dataclass(frozen=True, slots=True)
class Preview:
    """bytes: plain ones to fetch. seconds: computed from the last restore's rate, or from that at which the
    backup was made; None where neither is known. measured: whether it is a restore's. lost: in a sentence.
    skipped: see skipped_for.
    """

    entry: Entry
    bytes: int
    seconds: float | None
    measured: bool
    lost: str
    skipped: tuple[Damaged, ...] = ()


def base_for(catalog: Catalog, wanted: str | None, goal: Goal, kind: Kind | None = None) -> Entry:
    """The backup to begin with: the one asked for, else the newest that ends before the goal.

    kind: of the newest, if there is one of it. UsageError if there is none: it says which kind is missing.
    """
    if wanted is not None and wanted != "latest":
        return choose(catalog, wanted)
    if goal.kind in {"latest", "immediate"}:
        return choose(catalog, wanted, kind)
    for entry in catalog.backups:
        if entry.manifest.identity.kind is Kind.PHYSICAL and _reaches(entry, goal):
            return entry
    raise UsageError(
        "no physical backup lies before that",
        place=str(goal.value),
        remedy="dreamseed backup list shows them; a logical one restores to its own moment only.",
    )


def skipped_for(
    catalog: Catalog, chosen: Entry, wanted: str | None, goal: Goal, kind: Kind | None = None
) -> tuple[Damaged, ...]:
    """Damaged backups that base_for passed over for an older one, newest first: more is lost for them.

    None of them where somebody named the backup. What they were is told by their ids alone.
    """
    if wanted not in {None, "latest"}:
        return ()
    return tuple(one for one in catalog.damaged if one.id > chosen.id and _could_reach(one.id, goal, kind))


def preview(
    entry: Entry,
    lost: str,
    last_rate: float | None,
    skipped: tuple[Damaged, ...] = (),
    databases: Collection[str] | None = None,
) -> Preview:
    """lost: see loss(). last_rate: of a restore of this kind. databases: of a logical one, only these; None:
    all. UsageError if it lacks one.
    """
    rate = last_rate or _own_rate(entry)
    size = entry.manifest.plain_bytes if databases is None else _size_of(databases, entry)
    return Preview(
        entry=entry,
        bytes=size,
        seconds=size / rate if rate else None,
        measured=last_rate is not None,
        lost=lost,
        skipped=skipped,
    )


def preview_folders(entry: Entry, skipped: tuple[Damaged, ...] = ()) -> Preview:
    """Of the folders alone. No rate is known of those."""
    return Preview(
        entry=entry,
        bytes=sum(folder.size for folder in entry.manifest.folders),
        seconds=None,
        measured=False,
        lost=f"Everything written to the folders after {entry.manifest.span.started:%Y-%m-%d %H:%M:%S} UTC.",
        skipped=skipped,
    )


def _size_of(databases: Collection[str], entry: Entry) -> int:
    sizes = {stream.name: stream.size for stream in entry.manifest.streams}
    for name in databases:
        if database_stream(name) not in sizes:
            raise UsageError(
                "the backup holds no such database", place=name, remedy="dreamseed backup show lists them."
            )
    return sum(sizes[database_stream(name)] for name in databases)


def _reaches(entry: Entry, goal: Goal) -> bool:
    """A name could lie anywhere: pointed.find_base looks for it."""
    wal = entry.manifest.wal
    if goal.kind == "time" and isinstance(goal.value, datetime):
        return entry.manifest.span.ended <= goal.value
    if goal.kind == "lsn" and wal is not None and isinstance(goal.value, str):
        return parse_lsn(wal.stop_lsn) <= parse_lsn(goal.value)
    return True


def _could_reach(backup_id: str, goal: Goal, kind: Kind | None) -> bool:
    """Whether it would have been looked at, were it whole: only a physical one goes to a moment."""
    named = parse_backup_id(backup_id)
    if goal.kind in {"latest", "immediate"}:
        return kind in {None, named.kind}
    after = goal.kind == "time" and isinstance(goal.value, datetime) and named.stamp > goal.value
    return named.kind is Kind.PHYSICAL and not after


def _own_rate(entry: Entry) -> float | None:
    seconds = entry.manifest.span.duration_s
    return entry.manifest.plain_bytes / seconds if seconds > 0 else None


def loss(entry: Entry, goal: Goal, rpo: LiveRpo | None = None, point: Point | None = None) -> str:
    """What a restore loses, in a sentence. rpo: of this backup with the archive as it is now; None where none
    carries it further. point: where a named goal lies.
    """
    if entry.manifest.identity.kind is Kind.LOGICAL:
        return f"Everything written after {entry.manifest.span.started:%Y-%m-%d %H:%M:%S} UTC."
    if point is not None:
        where = f"{point.at:%Y-%m-%d %H:%M:%S} UTC, {format_lsn(point.lsn)}"
        return f"Everything after {goal.value} ({where}), as is asked for."
    if goal.kind in {"time", "lsn", "name"}:
        return f"Everything after {goal.value}, as is asked for."
    if goal.kind == "immediate":
        return f"Everything written after {entry.manifest.span.ended:%Y-%m-%d %H:%M:%S} UTC, at the latest."
    if rpo is None or rpo.restorable_until is None:
        return "Everything that is not archived."
    return f"Everything written after {rpo.restorable_until:%Y-%m-%d %H:%M:%S} UTC, about."
