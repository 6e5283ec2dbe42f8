"""How things stand: what would be lost now, what the archive lacks, and what was proven by a restore."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from dreamseed_cli.backup.catalog import Catalog, Entry, read_catalog
from dreamseed_cli.backup.keys import Identity
from dreamseed_cli.backup.manifest import Level, WalSpan
from dreamseed_cli.backup.names import (
    HEARTBEATS,
    Heartbeat,
    Kind,
    NameInvalid,
    parse_heartbeat,
)
from dreamseed_cli.backup.rpo import (
    Archive,
    Base,
    LiveRpo,
    live_rpo,
    share_of_moments_over,
    worst_loss_s,
)
from dreamseed_cli.backup.store.base import Store
from dreamseed_cli.backup.wal.archive import Listing, read_history, read_listing
from dreamseed_cli.backup.wal.outage import Alert, ArchiveState, as_of
from dreamseed_cli.backup.wal_names import DEFAULT_SEGMENT_BYTES, TimelineHistory, parse_lsn
from dreamseed_cli.core.errors import DreamseedError

_DAY_S: Final = 86_400.0


@dataclass(frozen=True, slots=True)
class Alone:
    """What daily backups without archived WAL promise, computed from the newest one's run.

    share_over: of all moments at which more than the target would be lost. worst_s: at the worst one.
    """

    share_over: float
    worst_s: float


@dataclass(frozen=True, slots=True)
class Status:
    """base: what a restore would begin with. restored: the newest backup that a restore has proven.

    wal: what is archived. segment_bytes: of each segment. archiving: how this host's last push went; None: it
    never pushed. alone: None where WAL is archived, or there is no backup.
    """

    rpo: LiveRpo
    base: Entry | None
    catalog: Catalog
    restored: Entry | None
    wal: Listing
    segment_bytes: int
    last_heartbeat: datetime | None
    archiving: ArchiveState | None = None
    alone: Alone | None = None

    @property
    def good(self) -> bool:
        """Whether the RPO is within its target, no WAL that cannot be archived fills the disk, and the newest
        copy of the folders is whole.
        """
        filling = self.archiving is not None and self.archiving.alert is Alert.DISK
        return not (self.rpo.over_target or filling or self.folders_lost)

    @property
    def folders_lost(self) -> tuple[DreamseedError, ...]:
        """What the newest copy of the folders lacks. An older one that lacks something may have its content
        in the newest, under another name.
        """
        newest = next((entry for entry in self.catalog.backups if entry.manifest.folders), None)
        return tuple(newest.lost.values()) if newest else ()


def read_status(
    store: Store,
    identities: Sequence[Identity],
    clock: Callable[[], datetime],
    target_s: float,
    archiving: ArchiveState | None = None,
) -> Status:
    """Look at everything in the store. identities: only an archive with timelines that forked needs a key.

    clock: asked once all was read, which may take long: what was made meanwhile is not of the future.
    Raises the store's errors.
    """
    catalog = read_catalog(store)
    physical = catalog.newest(Kind.PHYSICAL)
    segment_bytes = _segment_bytes(physical)
    wal = read_listing(store, segment_bytes)
    beats = read_heartbeats(store)
    now = clock()
    choices = [(entry, base_of(entry)) for entry in (physical, catalog.newest(Kind.LOGICAL)) if entry]
    found = [
        (
            live_rpo(base, archive_for(store, wal, base, identities, segment_bytes), beats, now, target_s),
            entry,
        )
        for entry, base in choices
    ]
    # The better of the two: WAL with a hole in it can be worth less than last night's dump.
    nothing = (live_rpo(None, Archive((), TimelineHistory(1)), beats, now, target_s), None)
    rpo, entry = min(found, key=lambda one: _worth(one[0]), default=nothing)
    return Status(
        rpo=rpo,
        base=entry,
        catalog=catalog,
        restored=next((one for one in catalog.backups if one.proof.level.rank >= Level.RESTORED.rank), None),
        wal=wal,
        segment_bytes=segment_bytes,
        last_heartbeat=max((beat.at for beat in beats), default=None),
        archiving=None if archiving is None else as_of(archiving, rpo, now),
        alone=None if wal.segments or entry is None else _alone(entry, target_s),
    )


def _alone(newest: Entry, target_s: float) -> Alone:
    run_s = newest.manifest.span.duration_s
    return Alone(share_of_moments_over(_DAY_S, run_s, target_s), worst_loss_s(_DAY_S, run_s))


def read_heartbeats(store: Store) -> list[Heartbeat]:
    """All heartbeats whose names are understood."""
    beats = []
    for stored in store.list(HEARTBEATS):
        try:
            beats.append(parse_heartbeat(stored.name))
        except NameInvalid:
            continue
    return beats


def _worth(rpo: LiveRpo) -> float:
    return float("inf") if rpo.rpo_s is None else rpo.rpo_s


def base_of(entry: Entry) -> Base:
    """A backup as a restore begins with it."""
    span, wal = entry.manifest.span, entry.manifest.wal
    if wal is None:
        return Base(moment=span.started)
    end = parse_lsn(wal.stop_lsn)  # it brings the WAL up to there along
    return Base(moment=span.started, timeline=wal.timeline, end_lsn=end, archive_from_lsn=end)


def _segment_bytes(physical: Entry | None) -> int:
    span: WalSpan | None = physical.manifest.wal if physical else None
    return span.segment_bytes if span else DEFAULT_SEGMENT_BYTES


def archive_for(
    store: Store, wal: Listing, base: Base, identities: Sequence[Identity], segment_bytes: int
) -> Archive:
    """The way recovery would take: along the newest timeline that can be read.

    Without a key a fork cannot be followed. Then only the backup's own timeline counts, which promises less.
    """
    newest = max([*wal.histories, base.timeline])
    history = TimelineHistory(base.timeline)
    if newest > base.timeline and identities:
        with suppress(DreamseedError, UnicodeDecodeError):
            history = read_history(store, newest, identities)
    return Archive(wal.segments, history, segment_bytes)
