"""Runs pgbench, and the PostgreSQL of one's own where no stack has one. Nothing started here outlives it."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg

from dreamseed_cli.bench.pgbench.command import Access, PgCell, load_argv, run_argv
from dreamseed_cli.bench.pgbench.database import scratch_database
from dreamseed_cli.bench.pgbench.output import (
    Second,
    Summary,
    last_words,
    latencies_ms,
    parse_progress,
    parse_summary,
    window,
)
from dreamseed_cli.core.errors import FailedError
from dreamseed_cli.core.processes import ProcessIdentity, end_all
from dreamseed_cli.core.threads import in_daemon_thread
from dreamseed_cli.services.keeping import NoAnswer
from dreamseed_cli.services.postgres import EmbeddedPostgres, program
from dreamseed_cli.services.postgres_keeper import ping
from dreamseed_cli.services.root import dying_with_us

_LOAD_S = 600.0
_LATE_S = 60.0
_START_S = 60.0
_STOP_S = 20.0
_POLL_S = 0.05
_LONGEST_SOCKET_FOLDER = 107 - len("/.s.PGSQL.5432.lock")
_CONNECTIONS = 520
"""§E1's 500, the reserved ones, and some to look on."""


@dataclass(frozen=True, slots=True)
class PgRun:
    """What came of a cell. begun_s: Unix time at which its measured part began; seconds: those of that part;
    latencies_ms: of a sample of its transactions.
    """

    cell: PgCell
    summary: Summary
    begun_s: float
    seconds: tuple[Second, ...]
    latencies_ms: tuple[float, ...]


async def load(pgbench: Path, target: Access, scale: int) -> None:
    """Make pgbench's tables. FailedError with its last words."""
    await _run(load_argv(pgbench, target.conninfo, scale), target.environment, _LOAD_S)


async def run_cell(pgbench: Path, target: Access, cell: PgCell, folder: Path) -> PgRun:
    """Run a cell; its latency logs are in `folder` meanwhile. FailedError with pgbench's last words."""
    with tempfile.TemporaryDirectory(prefix="pgbench-", dir=folder) as logs:
        argv = run_argv(pgbench, target.conninfo, cell, Path(logs) / "log")
        bound_s = cell.warm_s + cell.measured_s + _LATE_S
        said, progress = await _run(argv, target.environment, bound_s)
        seconds = parse_progress(progress)
        after_s = seconds[cell.warm_s - 1].at_s if 0 < cell.warm_s <= len(seconds) else 0.0
        found = await in_daemon_thread(lambda: _latencies_ms(Path(logs), after_s))
    return PgRun(cell, parse_summary(said), after_s, window(seconds, cell.warm_s), found)


def _latencies_ms(logs: Path, after_s: float) -> tuple[float, ...]:
    return tuple(latencies_ms(sorted(logs.glob("log*")), after_s))


@asynccontextmanager
async def own_server(folder: Path) -> AsyncIterator[str]:
    """A private PostgreSQL with room for 500 connections, in a new folder below `folder`; its DSN.

    Raises MissingError if the embedded one is not installed, FailedError if it does not start.
    """
    data = Path(tempfile.mkdtemp(prefix="postgres-", dir=folder))
    # sockaddr_un holds 108 bytes (unix(7)): where `folder` is deep, the socket is elsewhere.
    deep = len(os.fsencode(data)) > _LONGEST_SOCKET_FOLDER
    sockets = Path(tempfile.mkdtemp(prefix="ds-bench-")) if deep else data
    server = EmbeddedPostgres(data=data / "pg", socket_dir=sockets)
    try:
        await _run((*server.initdb(), "--no-sync"), {}, _START_S)
        log = data / "log"
        with log.open("wb") as output:
            process = await asyncio.create_subprocess_exec(
                *dying_with_us(server.server(), program("postgres")),
                *("-c", f"max_connections={_CONNECTIONS}"),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        try:
            await _answers(process, server.dsn("postgres"), log)
            yield server.dsn("postgres")
        finally:
            await _end(process, signal.SIGINT)
    finally:
        shutil.rmtree(data, ignore_errors=True)
        shutil.rmtree(sockets, ignore_errors=True)


@asynccontextmanager
async def own_database(dsn: str) -> AsyncIterator[tuple[str, tuple[str, ...]]]:
    """`scratch_database` beside an event loop: dropped even if its making is cancelled."""
    manager = scratch_database(dsn)
    making = asyncio.ensure_future(in_daemon_thread(manager.__enter__))
    try:
        yield await asyncio.shield(making)
    finally:
        await asyncio.wait({making})
        if making.exception() is None:
            await in_daemon_thread(lambda: manager.__exit__(None, None, None))


async def _answers(process: asyncio.subprocess.Process, dsn: str, log: Path) -> None:
    deadline = asyncio.get_running_loop().time() + _START_S
    while process.returncode is None and asyncio.get_running_loop().time() < deadline:
        try:
            if await ping(dsn) is psycopg.pq.Ping.OK:
                return
        except NoAnswer:
            pass
        await asyncio.sleep(_POLL_S)
    words = last_words(await in_daemon_thread(lambda: log.read_text(errors="replace")))
    raise FailedError(f"PostgreSQL does not start: {words}", place="bench db")


async def _run(argv: tuple[str, ...], environment: Mapping[str, str], bound_s: float) -> tuple[str, str]:
    """Its stdout and stderr. FailedError with its last words, or if it takes longer than `bound_s`."""
    process = await asyncio.create_subprocess_exec(
        *argv,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, **environment, "LC_ALL": "C"},
        start_new_session=True,
    )
    try:
        async with asyncio.timeout(bound_s):
            said, complaint = (text.decode(errors="replace") for text in await process.communicate())
    except TimeoutError:
        raise FailedError(f"it did not end within {bound_s:.0f} s", place=_program(argv)) from None
    finally:
        await _end(process, signal.SIGTERM)
    if process.returncode != 0:
        words = last_words(complaint) or last_words(said) or f"it ended with {process.returncode}"
        raise FailedError(f"it failed: {words}", place=_program(argv))
    return said, complaint


def _program(argv: tuple[str, ...]) -> str:
    return next(name for name in (Path(word).name for word in argv) if name in {"pgbench", "initdb"})


async def _end(process: asyncio.subprocess.Process, ask: signal.Signals) -> None:
    """The signal, then SIGKILL. By a thread: a second Ctrl-C leaves it at its work."""
    if process.returncode is not None:
        return
    identity = ProcessIdentity.of(process.pid)
    if identity is not None:
        members = identity.family()
        await in_daemon_thread(lambda: end_all(members[:1], grace_s=_STOP_S, ask=ask))
    await process.wait()
