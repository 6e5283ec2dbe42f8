"""Where the server's WAL stands, put into the store: without it an idle server has no RPO to tell."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from dreamseed_cli.backup.logical.server import connect, server_errors, value
from dreamseed_cli.backup.names import Heartbeat, heartbeat_name
from dreamseed_cli.backup.store.base import Store
from dreamseed_cli.backup.wal_names import parse_lsn


@server_errors
def beat(dsn: str, store: Store, now: Callable[[], datetime]) -> Heartbeat:
    """Note where the WAL stands, then begin a new segment if anything was written since the last one.

    The moment is taken before the LSN is read, or it would promise too much. A checkpoint's record alone
    triggers no archive_timeout, so an idle server would stay ahead of its archive without the switch, which
    does nothing on a server where nothing happened. Raises ServerUnreachable, ServerFailed (by
    a standby, say) and the store's errors.
    """
    with connect(dsn) as connection:
        at = now()
        lsn = parse_lsn(str(value(connection, "SELECT pg_current_wal_insert_lsn()")))
        timeline = int(value(connection, "SELECT timeline_id FROM pg_control_checkpoint()"))
        if value(connection, "SHOW archive_mode") != "off":
            value(connection, "SELECT pg_switch_wal()")
    found = Heartbeat(at, timeline, lsn)
    store.put(heartbeat_name(found), b"")
    return found
