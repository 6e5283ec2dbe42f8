"""What is noted of the live database before a loss: heartbeats in it, its content, a moment nobody chose."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from typing import Final

from psycopg.errors import InsufficientPrivilege

from dreamseed_cli.backup import ending
from dreamseed_cli.backup.logical.server import connect, value
from dreamseed_cli.backup.manifest import Manifest
from dreamseed_cli.backup.settings import Settings
from dreamseed_cli.backup.wal.archive import read_listing
from dreamseed_cli.drill.bringing import Brought
from dreamseed_cli.drill.content import Content, read_content
from dreamseed_cli.drill.heartbeats import beating, newest_stored, remove
from dreamseed_cli.drill.proving import Known
from dreamseed_cli.drill.stage import Stage
from dreamseed_cli.drill.timeline import BACKUP_BEGAN, Heartbeat, Step

_SIZE: Final = "SELECT sum(pg_database_size(oid)) FROM pg_database"
_SEGMENT: Final = "SELECT setting FROM pg_settings WHERE name = 'wal_segment_size'"
_SWITCH: Final = "SELECT pg_switch_wal()"
_ARCHIVES: Final = (
    "SELECT current_setting('archive_mode') <> 'off' AND (current_setting('archive_command') <> ''"
    " OR coalesce(current_setting('archive_library', true), '') <> '')"
)


@contextmanager
def noted(stage: Stage) -> Iterator[Known]:
    """Heartbeats and content of the live database, and the wait for a moment that nobody chose. The rows go
    at the end of the block: before it, their removal might be recovered as well.
    """
    wish = stage.wish
    if wish.dsn is None:
        stage.notes.append("No database was named: nothing to compare with, heartbeats from the store only.")
        yield Known(None, "", _nothing)
        return
    dsn = wish.dsn
    try:
        yield _with_heartbeats(stage, dsn)
    finally:
        remove(dsn, stage.id)


def _with_heartbeats(stage: Stage, dsn: str) -> Known:
    wish = stage.wish
    with beating(dsn, stage.id, wish.pace.beat_s, stage.clock.now):
        stage.mark(Step.HEARTBEAT, f"one every {wish.pace.beat_s:g} s, in the live database")
        content = read_content(dsn)
        stage.database_bytes = _number(dsn, _SIZE)
        stage.mark(Step.PREPARED, f"{content.size} noted")
        if not _archives(dsn):
            stage.notes.append("The database archives no WAL: only what the newest backup has can come back.")
        elif not _archived(stage, dsn, content.lsn):
            stage.notes.append("What was noted was not archived in time: the loss came nevertheless.")
        stage.surprise()
    with connect(dsn) as connection:
        database = str(value(connection, "SELECT current_database()"))
    return Known(content, database, lambda: read_content(dsn))


def _archives(dsn: str) -> bool:
    """Whether the server hands its WAL to anybody: where it does not, there is nothing to wait for."""
    with connect(dsn) as connection:
        return bool(value(connection, _ARCHIVES))


def _archived(stage: Stage, dsn: str, lsn: int) -> bool:
    """Wait until the store has the WAL up to there; whether it came in time. Nobody helps, so that the loss
    is one of any moment, unless it is to come at once.
    """
    if stage.wish.settings.table.kind != "physical":
        return True  # a dump does not reach it with any WAL
    segment_bytes = _number(dsn, _SEGMENT)
    if not stage.wish.pace.surprise_s:
        _end_segment(stage, dsn)
    store = stage.wish.settings.open()
    stage.say(f"waiting until the archive has it, {stage.wish.pace.archive_s:.0f} s at most")
    deadline = stage.clock.seconds() + stage.wish.pace.archive_s
    try:
        while all(one.start_lsn + one.size < lsn for one in read_listing(store, segment_bytes).segments):
            if stage.clock.seconds() > deadline:
                return False
            ending.pause(stage.wish.pace.look_s)
    finally:
        store.close()
    return True


def _end_segment(stage: Stage, dsn: str) -> None:
    """Or it would be archived after archive_timeout only. A role that may not waits for that."""
    with suppress(InsufficientPrivilege), connect(dsn) as connection:
        value(connection, _SWITCH)
        stage.notes.append("The loss came right behind a segment that the drill ended itself: no usual RPO.")


def stored_beat(settings: Settings, brought: Brought, loss: datetime) -> Heartbeat | None:
    """The newest heartbeat in the store that recovery passed."""
    store = settings.open()
    try:
        return newest_stored(store, brought.lsn, brought.timeline, loss)
    finally:
        store.close()


def own_moment(manifest: Manifest) -> Heartbeat:
    """What a restore brings back whatever the archive holds."""
    return Heartbeat(manifest.span.started, BACKUP_BEGAN)


def _number(dsn: str, query: str) -> int:
    with connect(dsn) as connection:
        return int(value(connection, query))


def _nothing() -> Content:
    return Content(0, {}, {})
