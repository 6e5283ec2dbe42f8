"""PostgreSQL before and after its shutdown: the last WAL in the archive, and proof of the checkpoint."""

from __future__ import annotations

import os
import subprocess
import time

import psycopg
from psycopg.conninfo import make_conninfo

from dreamseed_cli.core.errors import DreamseedError
from dreamseed_cli.core.paths import StateDir
from dreamseed_cli.database.address import resolve_dsn
from dreamseed_cli.profile.schema import Postgres
from dreamseed_cli.services.postgres import program
from dreamseed_cli.supervisor.service_plan import embedded_postgres
from dreamseed_cli.ups.journal import StepState
from dreamseed_cli.ups.sequence import Outcome

_CONNECT_S = 3
_POLL_S = 0.2


def push_wal(state: StateDir, postgres: Postgres, within_s: float) -> Outcome:
    """Have PostgreSQL finish its WAL file, and wait until the archive has it. Blocks.

    PostgreSQL archives what is left at its shutdown, too; this way it is known, and waited for in time.
    """
    if postgres.mode == "off":
        return Outcome(StepState.SKIPPED, "no PostgreSQL")
    if postgres.mode == "embedded" and not embedded_postgres(state).socket_lock.exists():
        return Outcome(StepState.SKIPPED, "no PostgreSQL runs here")
    deadline = time.monotonic() + within_s
    try:
        with _connected(state, postgres, within_s) as connection:
            if _ask(connection, "SHOW archive_mode") == "off":
                return Outcome(StepState.SKIPPED, "WAL is not archived (archive_mode is off)")
            name = _ask(connection, "SELECT pg_walfile_name(pg_switch_wal())")
            while str(_ask(connection, "SELECT last_archived_wal FROM pg_stat_archiver") or "") < name:
                if time.monotonic() > deadline:
                    return Outcome(StepState.FORCED, f"{name} is not in the archive yet; it stays on disk")
                time.sleep(_POLL_S)
    except psycopg.Error as error:
        return Outcome(StepState.FAILED, " ".join(str(error).split()))
    return Outcome(detail=f"{name} is archived")


def checkpoint(state: StateDir, postgres: Postgres, within_s: float) -> str:
    """Have PostgreSQL write what is only in memory, so that its shutdown has little left to; what came of it,
    which nothing waits for: it goes on by itself when the time is up. Blocks.
    """
    if postgres.mode == "off":
        return "no PostgreSQL"
    try:
        with _connected(state, postgres, within_s) as connection:
            connection.execute("CHECKPOINT")
    except (psycopg.Error, DreamseedError) as error:
        return f"no checkpoint: {' '.join(str(error).split())}"
    return "checkpoint"


def shut_down_cleanly(state: StateDir) -> Outcome:
    """Whether the embedded cluster's checkpoint is there, so that its next start recovers nothing. Blocks."""
    server = embedded_postgres(state)
    if not server.data.exists():
        return Outcome(StepState.SKIPPED, "there is no cluster")
    argv = [str(program("pg_controldata")), "-D", str(server.data)]
    found = subprocess.run(
        argv, capture_output=True, text=True, timeout=10, check=False, env={**os.environ, "LC_ALL": "C"}
    )
    line = next((line for line in found.stdout.splitlines() if "cluster state" in line), "")
    said = line.partition(":")[2].strip() or found.stderr.strip()
    clean = said == "shut down"
    return Outcome(StepState.DONE if clean else StepState.FAILED, f"pg_controldata: {said}")


def _connected(state: StateDir, postgres: Postgres, within_s: float) -> psycopg.Connection:
    """A connection of which no statement takes longer."""
    embedded = embedded_postgres(state).dsn() if postgres.mode == "embedded" else None
    dsn = resolve_dsn(embedded, postgres.dsn_env if postgres.mode == "external" else None)
    bounded = make_conninfo(dsn or "", connect_timeout=_CONNECT_S)
    options = f"-c statement_timeout={max(1, int(within_s * 1000))}"
    return psycopg.connect(bounded, autocommit=True, options=options)


def _ask(connection: psycopg.Connection, query: str) -> str:
    row = connection.execute(query.encode()).fetchone()
    return "" if row is None or row[0] is None else str(row[0])
