"""§E3's fourth step: back to the first server, once it follows the promoted one and has everything.

The promoted server takes no more writes, the first catches up to its very end and is promoted: nothing that
was acknowledged is lost, and at no moment do both take writes. What fails before the first is told to promote
itself is undone. After that nothing is: it may be promoted later than we hear of it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from dreamseed_cli.core.errors import FailedError, MissingError, UsageError
from dreamseed_cli.database.standby.pair import (
    Fence,
    Pair,
    Promoted,
    SplitBrain,
    let_write,
    one,
    position,
    promote_server,
    session,
    until,
)
from dreamseed_cli.database.standby.seen import Role, Seen, look
from dreamseed_cli.database.standby.service_file import ServiceFile
from dreamseed_cli.database.standby.watch import Mode

_CATCH_UP_S: Final = 60.0
_END_S: Final = 5.0
REBUILD: Final = (
    "pg_basebackup --dbname=CONNECTION_OF_THE_PROMOTED --pgdata=NEW_FOLDER --write-recovery-conf"
    " --wal-method=stream --checkpoint=fast"
)
"""Makes a standby of the promoted server out of nothing; pg_rewind does it over the old folder, faster."""

_READ_ONLY: Final = "it refuses writes (default_transaction_read_only), as nothing else is configured"

# Everybody's session from before the fence, but ours and those that replicate: it could go on writing.
_END_SESSIONS: Final = (
    "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity"
    " WHERE backend_type = 'client backend' AND pid <> pg_backend_pid() AND backend_start < %s"
)
_LEFT: Final = (
    "SELECT count(*) FROM pg_stat_activity"
    " WHERE backend_type = 'client backend' AND pid <> pg_backend_pid() AND backend_start < %s"
)


@dataclass(frozen=True, slots=True)
class Return:
    """caught_up_to: the LSN at which the promoted server stopped. fenced: how it is kept from writes."""

    server: Promoted
    caught_up_to: str
    ended_sessions: int
    fenced: str


def failback(pair: Pair, fence: Fence, file: ServiceFile, now: datetime) -> Return:
    """Stop writes on the replica that was promoted, wait for the first server, promote it, turn clients back.

    Raises UsageError unless the first server follows the promoted one, FailedError if it does not catch up
    within a minute: writes then go on where they were. FailedError, too, for what happens once it was told to
    promote itself: both are left as they are, for the next run, which goes on from there.
    """
    home, cloud = pair.look(pair.primary), pair.look(pair.replica)
    if (done := _returned(pair, home, cloud)) is not None:
        file.point(Mode.PRIMARY, pair.primary, now)
        return done
    _check(pair, home, cloud)
    with _writes_stopped(pair) as ended:
        with session(pair.replica) as connection:
            end = str(one(connection, "SELECT pg_current_wal_flush_lsn()::text"))
        until(lambda: _has(pair.primary, end), _CATCH_UP_S, f"replaying up to {end}")
        fenced = _READ_ONLY
        if fence.command:
            fenced = fence.close("replica", lambda: pair.look(pair.replica))
    server = _promoted(pair.primary)
    file.point(Mode.PRIMARY, pair.primary, now)
    return Return(server, end, ended, fenced)


def _returned(pair: Pair, home: Seen, cloud: Seen) -> Return | None:
    """What an earlier run did that broke off after the promotion: only the clients were not turned. None: no
    such run.

    The first server was promoted later than the replica, which refuses writes, if its timeline is higher: one
    that was started as it was is on a lower one.
    """
    promoted = home.role in {Role.PRIMARY, Role.FENCED}
    if not promoted or cloud.role is not Role.FENCED or home.system != cloud.system:
        return None
    (lsn, timeline), (end, before) = position(pair.primary), position(pair.replica)
    if timeline <= before:
        return None
    _unfence(pair.primary)
    return Return(Promoted(lsn, timeline, None), end, 0, _READ_ONLY)


def _check(pair: Pair, home: Seen, cloud: Seen) -> None:
    if not home.answers:
        # Started as it was, it would take writes beside the promoted one.
        raise MissingError(
            f"the first server does not answer: {home.cause}",
            place="primary",
            remedy=f"Start it as a standby, never as it was: {REBUILD}",
        )
    if not cloud.answers:
        raise MissingError(
            f"the promoted server does not answer: {cloud.cause}",
            place="replica",
            remedy="Start it first. If a failback broke off, it refuses writes, and the next run goes on.",
        )
    if cloud.role is Role.STANDBY:
        raise UsageError("the replica was never promoted", place="replica", remedy="There is no way back.")
    if home.role is not Role.STANDBY:
        raise SplitBrain(
            f"the first server is a {home.role}: it does not follow the promoted one",
            place="primary",
            remedy=f"Stop it, and make it a standby first: {REBUILD}",
        )
    if home.system != cloud.system:
        raise UsageError("they are not of one cluster", place="primary", remedy=f"Make it one: {REBUILD}")
    with session(pair.primary) as connection:
        streaming = one(connection, "SELECT status FROM pg_stat_wal_receiver")
    if streaming != "streaming":
        raise UsageError(
            "the first server is a standby, and receives nothing",
            place="primary",
            remedy="Mend its primary_conninfo: it must lead to the promoted server.",
        )


def _has(dsn: str, lsn: str) -> bool:
    with session(dsn) as connection:
        return bool(one(connection, "SELECT pg_last_wal_replay_lsn() >= %s::pg_lsn", (lsn,)))


def _promoted(dsn: str) -> Promoted:
    """The first server as a primary. FailedError if that cannot be told: then the replica stays fenced."""
    try:
        server = promote_server(dsn)
        _unfence(dsn)
    except (Exception, KeyboardInterrupt) as error:
        cause = str(error).strip() or type(error).__name__
        raise FailedError(
            f"the first server was told to promote itself, then: {cause}",
            place="primary",
            remedy="The replica refuses writes until that is settled: run dreamseed db failback again.",
        ) from error
    return server


def _unfence(dsn: str) -> None:
    """Made of a copy of the fenced replica, it refuses writes as that does. FailedError if it goes on so."""
    if look(dsn).role is Role.FENCED:
        let_write(dsn, allowed=True)


def _end_sessions(dsn: str) -> int:
    """How many there were that might have written. FailedError if one of them goes on."""
    with session(dsn) as connection:
        fenced_at = one(connection, "SELECT clock_timestamp()")
        asked = int(one(connection, _END_SESSIONS, (fenced_at,)) or 0)
        until(lambda: not one(connection, _LEFT, (fenced_at,)), _END_S, f"the last of {asked} sessions")
    return asked


@contextmanager
def _writes_stopped(pair: Pair) -> Iterator[int]:
    """New sessions read only, old ones are ended; undone if what happens inside fails.

    What an earlier run left fenced stays so: the promotion that it asked for may be still to come.
    """
    undo = pair.look(pair.replica).role is Role.PRIMARY
    try:
        let_write(pair.replica, allowed=False)
        yield _end_sessions(pair.replica)
    except BaseException:
        if undo and pair.look(pair.primary).role not in {Role.PRIMARY, Role.FENCED}:
            let_write(pair.replica, allowed=True)
        raise
