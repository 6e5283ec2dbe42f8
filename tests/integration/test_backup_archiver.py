"""How PostgreSQL's archiver does, told by the server: it may run as a user whose notes we cannot read."""

from __future__ import annotations

import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest
from memory_store import MemoryStore
from psycopg.conninfo import make_conninfo
from real_services import RunningPostgres

from dreamseed_cli.backup.archiver import Archiver, read_archiver
from dreamseed_cli.backup.doors import utc_now
from dreamseed_cli.backup.heartbeat import beat
from dreamseed_cli.backup.logical.server import ServerFailed
from dreamseed_cli.services.postgres import EmbeddedPostgres


def test_wal_that_waits_is_seen_by_sql_alone_and_a_standby_is_told_as_one() -> None:
    """A command that fails, for a role that may list and one that may not; one that works; no archiving."""
    with tempfile.TemporaryDirectory(prefix="ds-arc-") as folder:
        running = _server(Path(folder))
        try:
            running.start()
            dsn = running.server.dsn("postgres")
            assert read_archiver(dsn) is None
            _set(dsn, "ALTER SYSTEM SET archive_mode = 'on'", "ALTER SYSTEM SET archive_command = 'false'")
            running.stop()
            running.start()
            _set(dsn, "CREATE ROLE guest LOGIN", "CREATE TABLE t (n int)", "SELECT pg_switch_wal()")
            failing = _until(dsn, lambda found: found.failing != "")
            assert (failing.files or 0) >= 1
            assert failing.stuck(900) is None
            assert f"fails with {failing.failing}" in (failing.stuck(0) or "")
            unlisted = read_archiver(make_conninfo(dsn, user="guest"))
            assert unlisted is not None
            assert (unlisted.files, unlisted.failing) == (None, failing.failing)
            assert "WAL waits" in (unlisted.stuck(0) or "")
            _set(dsn, "ALTER SYSTEM SET archive_command = 'true'", "SELECT pg_reload_conf()")
            working = _until(dsn, lambda found: found.files == 0)
            assert (working.failing, working.stuck(0)) == ("", None)
            running.stop()
            (running.server.data / "standby.signal").touch()
            running.start()
            with pytest.raises(ServerFailed, match="recovery is in progress"):
                beat(dsn, MemoryStore(), utc_now)
        finally:
            running.stop()


def _server(folder: Path) -> RunningPostgres:
    server = EmbeddedPostgres(data=folder / "pg", socket_dir=folder)
    subprocess.run([*server.initdb(), "--no-sync", "--wal-segsize=1"], check=True, capture_output=True)
    return RunningPostgres(server, folder / "log")


def _set(dsn: str, *statements: str) -> None:
    with psycopg.connect(dsn, autocommit=True) as connection:
        for statement in statements:
            connection.execute(statement)


def _until(dsn: str, wanted: Callable[[Archiver], bool]) -> Archiver:
    for _ in range(600):
        found = read_archiver(dsn)
        assert found is not None
        if wanted(found):
            return found
        time.sleep(0.1)
    raise AssertionError(found)
