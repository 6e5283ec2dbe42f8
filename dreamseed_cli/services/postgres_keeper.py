"""Looks after the embedded PostgreSQL: its cluster is made once, the way cleared, its answers asked for."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import tempfile
from collections.abc import Callable
from pathlib import Path

import psycopg
from psycopg import sql
from psycopg.conninfo import make_conninfo

from dreamseed_cli.core.errors import FailedError
from dreamseed_cli.core.threads import in_daemon_thread
from dreamseed_cli.services.keeping import NoAnswer, RunStep
from dreamseed_cli.services.leftovers import end_leftovers
from dreamseed_cli.services.postgres import DATABASE, EmbeddedPostgres

_PING_S = 2  # the shortest that libpq takes
_CONNECT_S = 5
_RETRY_S = 5.0


class PostgresKeeper:
    """Make it inside a running event loop. migrate: brings the schema of a connection string up to date."""

    def __init__(self, server: EmbeddedPostgres, *, migrate: Callable[[str], object]) -> None:
        self._server = server
        self._migrate = migrate
        self._setting_up: asyncio.Task[None] | None = None
        self._set_up = False
        self._retry_at = 0.0
        self._obstacle = ""

    async def prepare(self, run: RunStep) -> None:
        """Make the cluster if there is none, and remove what a killed server left."""
        server = self._server
        await in_daemon_thread(lambda: end_leftovers(server.data, "postgres", ask=signal.SIGINT))
        # Nobody works in the folder, which we hold the lock of. PostgreSQL itself would go by the pid in
        # these files alone, and after a power cut that may be anybody's.
        (server.data / "postmaster.pid").unlink(missing_ok=True)
        server.socket_lock.unlink(missing_ok=True)
        if not server.data.exists():
            await self._make_cluster(run)

    async def probe(self) -> str | None:
        """Whether it takes connections, and whether its schema is there: that is made in the background."""
        status = await ping(self._server.dsn("postgres"))
        if status is psycopg.pq.Ping.REJECT:
            return "it is starting up or recovering"
        if not self._set_up:
            self._keep_setting_up()
        return None if self._set_up else self._obstacle or "its schema is being brought up to date"

    async def _make_cluster(self, run: RunStep) -> None:
        """Under another name first: a cluster that is there under its own is whole."""
        data = self._server.data
        prefix = f".{data.name}-making-"
        for half_done in data.parent.glob(f"{prefix}*"):
            shutil.rmtree(half_done, ignore_errors=True)
        folder = Path(tempfile.mkdtemp(prefix=prefix, dir=data.parent))
        try:
            await run(self._server.initdb(folder))
            await in_daemon_thread(lambda: _give_its_name(folder, data))
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def _keep_setting_up(self) -> None:
        loop = asyncio.get_running_loop()
        task = self._setting_up
        if task is not None and task.done():
            self._setting_up = None
            error = task.exception()
            self._set_up = error is None
            self._obstacle = str(error) if error else ""
            self._retry_at = loop.time() + _RETRY_S
        elif task is None and loop.time() >= self._retry_at:
            self._setting_up = loop.create_task(in_daemon_thread(self._make_schema))

    def _make_schema(self) -> None:
        _ensure_database(self._server.dsn("postgres"))
        self._migrate(self._server.dsn())


async def ping(dsn: str) -> psycopg.pq.Ping:
    """OK or REJECT (it is there and takes nobody now). Raises NoAnswer, after 2 s at the latest."""
    bounded = make_conninfo(dsn, connect_timeout=_PING_S).encode()
    status = await in_daemon_thread(lambda: psycopg.pq.Ping(psycopg.pq.PGconn.ping(bounded)))
    if status is psycopg.pq.Ping.NO_ATTEMPT:
        raise FailedError("libpq does not take this connection string", place="services.postgres")
    if status is psycopg.pq.Ping.NO_RESPONSE:
        raise NoAnswer(f"no connection within {_PING_S} s")
    return status


def _give_its_name(folder: Path, data: Path) -> None:
    """For good: without the second step a power cut could take the name back, and all that is in it."""
    folder.rename(data)
    descriptor = os.open(data.parent, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _ensure_database(dsn: str) -> None:
    with psycopg.connect(dsn, autocommit=True, connect_timeout=_CONNECT_S) as connection:
        found = connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [DATABASE]).fetchone()
        if found is None:
            connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(DATABASE)))
