"""§E3's third step: a person makes the replica the server that takes writes."""

from __future__ import annotations

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
    promote_server,
    session,
    until,
)
from dreamseed_cli.database.standby.seen import Role
from dreamseed_cli.database.standby.service_file import ServiceFile
from dreamseed_cli.database.standby.watch import Mode

_SILENT_S: Final = 40
"""A receiver asks for an answer after 30 s without a word (half of wal_receiver_timeout)."""
_DROP_S: Final = 5.0
"""For the receiver to see that a server that was just ended is gone."""
_HEARD_S: Final = (
    "SELECT extract(epoch FROM clock_timestamp() - last_msg_receipt_time)::float8"
    " FROM pg_stat_wal_receiver WHERE status = 'streaming'"
)
_UNFENCE: Final = "ALTER SYSTEM RESET default_transaction_read_only; SELECT pg_reload_conf();"


class LeftBehind(UsageError):
    """The replica is older than what clients were told is kept: nothing was changed (exit code 2)."""

    kind = "left_behind"


@dataclass(frozen=True, slots=True)
class Promotion:
    """changed: False if it took writes already. fenced: how the old primary's death was made sure of.

    server: None if it was promoted before: it took writes, or a way back that broke off had fenced it.
    """

    changed: bool
    fenced: str
    server: Promoted | None


def promote(pair: Pair, fence: Fence, file: ServiceFile, now: datetime) -> Promotion:
    """Fence the old primary, promote the replica, send the clients there. Run again, it changes nothing.

    SplitBrain while the old primary might take writes, or the replica still hears from it; LeftBehind if a
    failback took the clients home and the replica follows nobody since; MissingError if it does not answer.
    """
    replica, primary = pair.look(pair.replica), pair.look(pair.primary)
    if replica.role is Role.AWAY:
        raise MissingError(
            f"the replica does not answer: {replica.cause}",
            place="replica",
            remedy="Start it (Cloud SQL: activation policy ALWAYS), or restore a backup: dreamseed restore.",
        )
    if replica.role is Role.FENCED and file.mode() is Mode.PRIMARY:
        raise LeftBehind(
            "clients went home from it by a failback: it has nothing that was written since",
            place="replica",
            remedy="Start the first server again, or restore a backup (dreamseed restore). To go on with what"
            f" the replica has all the same, have it take writes and promote again: {_UNFENCE}",
        )
    if replica.role is Role.FENCED and primary.answers and replica.system == primary.system:
        raise SplitBrain(
            f"the replica is fenced and the first server is a {primary.role}: a failback broke off",
            place="replica",
            remedy="Run dreamseed db failback again: it goes on from there.",
        )
    if replica.role in {Role.PRIMARY, Role.FENCED} and primary.role in {Role.PRIMARY, Role.FENCED}:
        raise SplitBrain(
            f"both servers answer, and follow nobody: the old primary as a {primary.role}",
            place="primary",
            remedy="Stop one of them; what was written to it since they parted is on no other server.",
        )
    known = primary.system or file.read().system
    if known and replica.system != known:
        raise SplitBrain(
            f"they are not of one cluster: it is of {replica.system}, the primary of {known}",
            place="replica",
            remedy=f"Mend the addresses. Was the cluster made anew meanwhile, move {file.path} away.",
        )
    if replica.role is Role.PRIMARY:
        file.point(Mode.PROMOTED, pair.replica, now, replica.system)
        return Promotion(changed=False, fenced=f"it is {primary.role}", server=None)
    fenced = fence.close("primary", lambda: pair.look(pair.primary))
    if replica.role is Role.FENCED:  # a way back that broke off: it was promoted before
        let_write(pair.replica, allowed=True)
        server = None
    else:
        _hears_nothing(pair.replica)
        server = promote_server(pair.replica)
    file.point(Mode.PROMOTED, pair.replica, now, replica.system)
    return Promotion(changed=True, fenced=fenced, server=server)


def _hears_nothing(dsn: str) -> None:
    """SplitBrain if the replica still receives from the old primary: only our way to that is cut."""
    try:
        until(lambda: _silent(dsn), _DROP_S, "its stream")
    except FailedError as error:
        raise SplitBrain(
            f"the replica receives from the old primary, or did less than {_SILENT_S} s ago: it is alive",
            place="primary",
            remedy=f"Stop it so that it stays off. If it is off already, try again in {_SILENT_S} s.",
        ) from error


def _silent(dsn: str) -> bool:
    with session(dsn) as connection:
        heard_s = one(connection, _HEARD_S)
    return heard_s is None or float(heard_s) > _SILENT_S
