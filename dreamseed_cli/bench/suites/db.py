"""`db`: how many transactions PostgreSQL does (§E1), by the real pgbench in a database of its own."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import psutil
from psycopg.conninfo import conninfo_to_dict

from dreamseed_cli.bench.outlook import about
from dreamseed_cli.bench.pgbench.command import (
    WORKLOADS,
    Access,
    PgCell,
    access,
    find_pgbench,
    sampling_rate,
)
from dreamseed_cli.bench.pgbench.database import ServerFacts, server_facts, server_settings
from dreamseed_cli.bench.pgbench.figures import choose_scale, client_counts
from dreamseed_cli.bench.pgbench.found import CLIENTS, Found, say_ms
from dreamseed_cli.bench.pgbench.process import load, own_database, own_server, run_cell
from dreamseed_cli.bench.result import SuiteResult
from dreamseed_cli.bench.suites.base import Bench, StopEarly
from dreamseed_cli.core.errors import FailedError, MissingError
from dreamseed_cli.core.threads import in_daemon_thread
from dreamseed_cli.database.settings import wanted_settings
from dreamseed_cli.estimates.load import load_book
from dreamseed_cli.estimates.outcome import say
from dreamseed_cli.estimates.schema import Book

_SECONDS = 20.0
_WARM_SHARE = 0.15
_UNKNOWN_DISK_CLIENTS = 100


async def db_suite(bench: Bench) -> SuiteResult:
    """Measure it. After Ctrl-C (a cancellation) what was found by then, marked partial.

    Raises MissingError without pgbench or the server, FailedError if not one cell could be measured.
    """
    book = load_book()
    found = Found()
    try:
        await _measure(bench, book, found)
    except StopEarly:
        found.partial = True
    except asyncio.CancelledError:
        # The interruption ends here, with a result: whoever asked for it goes on with that.
        if (task := asyncio.current_task()) is not None:
            task.uncancel()
        found.partial = True
    return found.result(book)


async def _measure(bench: Bench, book: Book, found: Found) -> None:
    pgbench = find_pgbench()
    async with _server(bench, found) as dsn, own_database(dsn) as (database, dropped):
        if dropped:
            bench.say(f"db: dropped what killed runs had left: {', '.join(dropped)}")
        facts = await in_daemon_thread(lambda: server_facts(dsn))
        found.note_facts(facts)
        names = [one.name for one in wanted_settings(book)]
        found.settings = await in_daemon_thread(lambda: server_settings(dsn, names))
        found.scale = _scale(bench, dsn, facts)
        target = access(dsn, database)
        bench.say(f"db: loading pgbench's tables at scale {found.scale} into {found.where}")
        await load(pgbench, target, found.scale)
        await _run_cells(bench, pgbench, target, found)
    if not found.rows:
        raise FailedError(found.problems[-1].reason, place="bench db", remedy=found.problems[-1].remedy)


async def _run_cells(bench: Bench, pgbench: Path, target: Access, found: Found) -> None:
    """Every cell in turn. One that fails is a problem of the suite, and the others go on."""
    assert found.facts is not None  # noqa: S101 - they are looked up first
    cells = list(_cells(bench, found.facts.free))
    left_s = float(sum(cell.warm_s + cell.measured_s for cell in cells))
    for cell in cells:
        expected = max((row.tps.value for row in found.rows if row.workload == cell.workload), default=0.0)
        seconds = cell.warm_s + cell.measured_s
        # Twice what fewer clients did: better a log that is somewhat short than one that fills the disk.
        sampled = replace(cell, sampling=sampling_rate(2 * expected, seconds))
        bench.say(f"db: {cell.name}: {seconds} s, ~{about(left_s)} of the suite left")
        left_s -= seconds
        try:
            done = await run_cell(pgbench, target, sampled, bench.state)
        except FailedError as error:
            bench.say(f"db: {cell.name}: {error.cause}")
            found.add_failure(cell, error)
            continue
        row = found.add(done)
        bench.say(f"db: {cell.name}: {say(row.tps.value)} TPS, p95 {say_ms(row.p95_ms)}")


@asynccontextmanager
async def _server(bench: Bench, found: Found) -> AsyncIterator[str]:
    """The named PostgreSQL, the stack's, or one of our own where no stack has one.

    MissingError where it is somebody's server that is measured: a database of ours is not the one behind it.
    """
    dsn = bench.stack_dsn()
    if dsn is not None:
        named = f"the PostgreSQL of ${bench.dsn_env}"
        found.where = named if bench.dsn_env is not None else "the stack's PostgreSQL"
        yield dsn
        return
    if bench.foreign:
        raise MissingError(
            "which PostgreSQL is behind that server is not known, and another one tells nothing of it",
            place=f"--suite db --target {bench.target.address}",
            remedy="Name the variable with its connection string: --dsn-env; or leave --target out.",
        )
    bench.say("db: no running stack has a PostgreSQL: starting an embedded one")
    found.where = "an embedded PostgreSQL started for this"
    async with own_server(bench.state) as own:
        yield own


def _cells(bench: Bench, free: int) -> Iterator[PgCell]:
    seconds = _seconds(bench)
    cores = os.cpu_count() or 1
    for workload in WORKLOADS:
        for clients in client_counts(CLIENTS, free):
            yield PgCell(
                workload=workload,
                clients=clients,
                threads=min(cores, clients),
                warm_s=max(1, round(seconds * _WARM_SHARE)),
                measured_s=seconds,
                seed=bench.seed,
            )


def _seconds(bench: Bench) -> int:
    """pgbench counts whole ones."""
    return max(1, round(bench.duration_s or _SECONDS))


def _scale(bench: Bench, dsn: str, facts: ServerFacts) -> int:
    host = str(conninfo_to_dict(dsn).get("host") or "")
    if host.startswith("/") or host in {"", "localhost", "127.0.0.1", "::1"}:
        memory = psutil.virtual_memory().total
        disk = psutil.disk_usage(str(bench.state)).free
        return choose_scale(memory, disk, _seconds(bench), max(CLIENTS))
    return choose_scale(facts.memory_bytes, None, _seconds(bench), _UNKNOWN_DISK_CLIENTS)
