"""What the tables held at one place in the WAL, so that a restore can be proven by content.

A physical backup copies a server that goes on writing: no snapshot is its content. But where no transaction
is writing, a snapshot and a place in the WAL mean the same: recovery to that place gives exactly what the
snapshot sees. Two transaction numbers of our own that follow each other leave no room for anybody else's; if
the snapshot taken between them knows of none in progress either, nothing was written in between. (The
snapshot alone does not tell: one that began after the newest that ended is not in it.) Nobody has to wait.

Left out, beside what `logical.digests` leaves out: unlogged tables, which recovery empties.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime
from secrets import token_hex
from typing import Final

from dreamseed_cli.backup import ending
from dreamseed_cli.backup.logical.digests import digest_database
from dreamseed_cli.backup.logical.proof import Compared, compare_tables
from dreamseed_cli.backup.logical.server import Connection, connect, server_errors, value
from dreamseed_cli.backup.logical.snapshot import DatabaseBusy, begin_locked
from dreamseed_cli.backup.manifest import Content, Manifest, Table, WalSpan
from dreamseed_cli.backup.physical.recovery import Goal, PrivateServer
from dreamseed_cli.backup.rpo import is_unfinished
from dreamseed_cli.backup.wal_names import (
    DEFAULT_SEGMENT_BYTES,
    SegmentRange,
    TimelineHistory,
    WalSegment,
    parse_lsn,
)

QUIET_S: Final = 10.0
"""How long a moment without a writing transaction is looked for."""
_LOCK_WAIT: Final = "2s"
_PAUSE_S: Final = 0.02
_SNAPSHOT: Final = "SELECT pg_current_snapshot()::text"
_STANDBY: Final = "SELECT pg_is_in_recovery()"
_ARCHIVES: Final = "SELECT current_setting('archive_mode') <> 'off'"


@dataclass(frozen=True, slots=True)
class Moment:
    """A place in the WAL. point: its name; None: the backup's end.

    snapshots: by database, exported; valid while their transactions are open.
    """

    point: str | None
    lsn: str
    at: datetime
    snapshots: dict[str, str]


@server_errors
def quiet_number(connection: Connection) -> int | None:
    """A new transaction number of our own; None if others are in progress, or it is a standby."""
    if value(connection, _STANDBY):
        return None
    mine = _number(connection)
    return mine if value(connection, _SNAPSHOT) == _quiet(mine) else None


@server_errors
def take_content(
    dsn: str, databases: Sequence[str], span: WalSpan, before: int | None, *, quiet_s: float = QUIET_S
) -> tuple[Content, tuple[Table, ...]]:
    """Every table's digest at a place that recovery can stop at: after the copy has ended.

    before: quiet_number() from before the copy began. If nobody wrote since, the place is the backup's own
    end, else one behind it, which only an archive reaches. Raises DigestFailed, ServerFailed,
    ServerUnreachable.
    """
    with connect(dsn) as control, ExitStack() as readers:
        if value(control, _STANDBY):
            return Content(note="a standby cannot mark a place in the WAL"), ()
        connections = {name: readers.enter_context(connect(dsn, name)) for name in databases}
        moment = _moment(control, connections, span, before, quiet_s)
        if isinstance(moment, str):
            return Content(note=moment), ()
        if moment.point is not None:
            value(control, "SELECT pg_switch_wal()")
        tables = [
            table
            for name, snapshot in moment.snapshots.items()
            for table in digest_database(dsn, name, snapshot=snapshot, unlogged=False)
        ]
    return Content(point=moment.point, lsn=moment.lsn, at=moment.at), tuple(tables)


def _moment(
    control: Connection,
    connections: dict[str, Connection],
    span: WalSpan,
    before: int | None,
    quiet_s: float,
) -> Moment | str:
    """Wait for one; or why there is none. Then the transactions are open, and their tables locked."""
    for connection in connections.values():
        connection.execute("SELECT set_config('lock_timeout', %s, false)", (_LOCK_WAIT,))
    archives, last = value(control, _ARCHIVES), before
    end = time.monotonic() + quiet_s
    while time.monotonic() < end:
        ending.check()
        mine = _number(control)
        last = mine if last is not None and mine == last + 1 else None
        if last is None and not archives:
            return "the server was written to while it was copied, and does not archive its WAL"
        moment = _look(control, connections, mine, span.stop_lsn if last is not None else None)
        if moment is not None:
            return moment
        for connection in connections.values():
            connection.execute("ROLLBACK")
        time.sleep(_PAUSE_S)
    return f"for {quiet_s:g} s there was always a transaction that was writing"


def _look(
    control: Connection, connections: dict[str, Connection], mine: int, end_lsn: str | None
) -> Moment | None:
    """A moment, if nobody is writing now. end_lsn: of a backup since which nobody was."""
    if value(control, _SNAPSHOT) != _quiet(mine):
        return None
    try:
        if not all(begin_locked(connection, name) for name, connection in connections.items()):
            return None
    except DatabaseBusy:
        return None
    if any(value(connection, _SNAPSHOT) != _quiet(mine) for connection in connections.values()):
        return None
    point, lsn = None, end_lsn
    if lsn is None:
        point = f"dreamseed-content-{token_hex(8)}"
        lsn = str(value(control, "SELECT pg_create_restore_point(%s)::text", (point,)))
    at = value(control, "SELECT clock_timestamp()")
    if _number(control) != mine + 1:
        return None
    exported = {
        name: str(value(connection, "SELECT pg_export_snapshot()"))
        for name, connection in connections.items()
    }
    return Moment(point, lsn, at, exported)


def _number(connection: Connection) -> int:
    return int(value(connection, "SELECT pg_current_xact_id()::text"))


def _quiet(mine: int) -> str:
    """The snapshot after our transaction, as text, while no older one is in progress."""
    return f"{mine + 1}:{mine + 1}:"


@dataclass(frozen=True, slots=True)
class Archived:
    """How far the archive reaches, without a hole, along the way that recovery takes. hole: what ends it, if
    there is more behind; in segments of segment_bytes. last: the number of the last one that is there.
    """

    lsn: int
    history: TimelineHistory
    hole: SegmentRange | None = None
    segment_bytes: int = DEFAULT_SEGMENT_BYTES
    last: int = -1

    @property
    def unfinished(self) -> bool:
        """See rpo.is_unfinished."""
        return self.hole is not None and is_unfinished([self.hole], self.last)

    @property
    def end(self) -> WalSegment:
        """The first segment that is not there."""
        behind = max(self.last + 1, self.lsn // self.segment_bytes)
        return self.history.segment_at(behind if self.hole is None else self.hole.first, self.segment_bytes)


def stop_to_compare(
    manifest: Manifest, goal: Goal, archived: Archived | None, point_lsn: int | None = None
) -> Goal | str:
    """Where recovery stops on its way to compare; or why it does not, for people. Pure.

    archived: None where recovery has no archive. point_lsn: where a named goal lies, if that is known.
    Recovery that has gone too far cannot go back.
    """
    content, wal = manifest.content, manifest.wal
    if content is None or wal is None or content.lsn is None or content.at is None:
        return (content.note if content else "") or "the backup holds no digests"
    if content.point is None:
        return Goal("immediate", timeline=goal.timeline, action="pause")
    lsn = parse_lsn(content.lsn)
    if archived is None or archived.lsn < lsn or not archived.history.covers(wal.timeline, lsn):
        return f"the digests are of {content.lsn}, which the archive does not reach"
    if _may_lie_before(goal, lsn, content.at, point_lsn):
        return f"the digests are of {content.lsn}, which may lie after what was asked for"
    return Goal("name", content.point, timeline=goal.timeline, action="pause")


def _may_lie_before(goal: Goal, lsn: int, at: datetime, point_lsn: int | None) -> bool:
    """Whether recovery to there and then on to the goal could go past the goal."""
    if goal.kind == "lsn" and isinstance(goal.value, str):
        return parse_lsn(goal.value) < lsn
    if goal.kind == "time" and isinstance(goal.value, datetime):
        return goal.value <= at
    if goal.kind == "name" and point_lsn is not None:
        return point_lsn < lsn
    return goal.kind != "latest"


@server_errors
def compare_content(server: PrivateServer, manifest: Manifest) -> Compared:
    """Compare all tables of a server that is paused where they were digested. DigestsDiffer."""
    compared = [
        compare_tables(
            [table for table in manifest.tables if table.database == name],
            digest_database(server.dsn(), name, unlogged=False, method=manifest.digest_method),
            set(),
        )
        for name in sorted({table.database for table in manifest.tables})
    ]
    return Compared(
        tables=sum(one.tables for one in compared), rows=sum(one.rows for one in compared), refreshed=()
    )
