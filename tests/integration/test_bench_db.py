"""The `db` suite with the real pgbench and the real PostgreSQL."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from dataclasses import replace
from pathlib import Path

import psutil
import psycopg
import pytest
from real_services import RunningPostgres, own_postgres

from dreamseed_cli.bench.pgbench.command import WORKLOADS, access, find_pgbench
from dreamseed_cli.bench.pgbench.database import PREFIX, scratch_database, server_facts
from dreamseed_cli.bench.pgbench.process import load, own_database
from dreamseed_cli.bench.result import CellResult, Slo, SuiteResult
from dreamseed_cli.bench.shapes import Cell, TargetSpec
from dreamseed_cli.bench.suites import db
from dreamseed_cli.bench.suites.base import Bench
from dreamseed_cli.bench.suites.db import db_suite
from dreamseed_cli.core.errors import FailedError, MissingError
from dreamseed_cli.gateway.settings import ServiceAddresses


@pytest.fixture(scope="module")
def postgres_server() -> Iterator[RunningPostgres]:
    """One whose figures count: those of a server that does not wait for its disk are called invalid."""
    with own_postgres(durable=True) as server:
        yield server


async def _no_cell(cell: Cell, target: TargetSpec | None = None) -> CellResult:
    raise AssertionError("this suite asks no engine")


def _bench(
    state: Path, dsn: str | None, say: Callable[[str], None] = lambda _line: None, seconds: float = 1.0
) -> Bench:
    return Bench(
        target=TargetSpec(kind="grpc", address="127.0.0.1:1"),
        profile=None,
        slo=Slo(ttft_ms=1000.0, tpot_ms=100.0, attainment=0.99),
        seed=5,
        run_cell=_no_cell,
        say=say,
        state=state,
        duration_s=seconds,
        services=None if dsn is None else ServiceAddresses(postgres_dsn=dsn, journal=str(state)),
        simulated=True,
    )


def _databases(server: RunningPostgres) -> set[str]:
    with closing(psycopg.connect(server.server.dsn("postgres"))) as connection:
        found = connection.execute("SELECT datname FROM pg_database WHERE starts_with(datname, %s)", [PREFIX])
        return {name for (name,) in found}


def _rows(result: SuiteResult) -> list[tuple[object, object]]:
    return [(row["workload"], row["clients"]) for row in result.tables[0].rows]


async def test_a_stacks_server_is_measured_and_left_as_it_was(
    postgres_server: RunningPostgres, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every workload, up to as many clients as it has room for; measured, whatever the engines are."""
    monkeypatch.setattr(db, "CLIENTS", (1, 500))
    dsn = postgres_server.server.dsn("postgres")
    free = server_facts(dsn).free

    result = await db_suite(_bench(tmp_path, dsn))

    most = result.tables[0].rows[-1]["clients"]
    assert isinstance(most, int)
    assert 1 < most <= free
    workloads = ("read-mostly", "read-only", "write")
    assert _rows(result) == [(name, count) for name in workloads for count in (1, most)]
    assert all(row["failed"] == 0 and row["p50_ms"] is not None for row in result.tables[0].rows)
    assert {one.key for one in result.measurements} >= {"postgres-read-tps", "postgres-write-tps"}
    assert {one.provenance for one in result.measurements} == {"measured"}
    assert "max_connections is 100" in result.headline
    shared_buffers = result.tables[1].rows[0]
    assert (shared_buffers["server"], shared_buffers["change"]) == ("64MB", "restart")
    assert _databases(postgres_server) == set()
    assert _files_in(tmp_path) == []


async def test_a_foreign_targets_database_must_be_named(
    postgres_server: RunningPostgres, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that is started for it would tell nothing of the target; the named one is measured, and said."""
    monkeypatch.setattr(db, "CLIENTS", (1,))
    monkeypatch.setattr(db, "WORKLOADS", WORKLOADS[:1])
    foreign = replace(_bench(tmp_path, None), foreign=True)
    with pytest.raises(MissingError, match="--dsn-env") as missing:
        await db_suite(foreign)
    assert "127.0.0.1:1" in missing.value.place
    assert _processes_in(tmp_path) == []

    monkeypatch.setenv("BENCH_DSN", postgres_server.server.dsn("postgres"))
    result = await db_suite(replace(foreign, dsn_env="BENCH_DSN"))

    assert result.headline.endswith("the PostgreSQL of $BENCH_DSN.")
    assert _databases(postgres_server) == set()


async def test_without_a_stack_a_server_of_its_own_is_started_and_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It takes 500 clients; nothing of it is left, neither processes nor files."""
    monkeypatch.setattr(db, "CLIENTS", (500,))
    monkeypatch.setattr(db, "WORKLOADS", WORKLOADS[:1])

    # Of two busy cores, 500 sessions that begin at once may need seconds until one transaction is over.
    result = await db_suite(_bench(tmp_path, None, seconds=6.0))

    assert _rows(result) == [("read-mostly", 500)]
    assert [one.value for one in result.measurements if one.key == "postgres-connections"] == [500.0]
    assert _files_in(tmp_path) == []
    assert _processes_in(tmp_path) == []


async def test_an_interruption_gives_back_what_there_is_and_cleans_up(
    postgres_server: RunningPostgres, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A cell that would have taken a minute ends at once; the first one's figures are kept."""
    monkeypatch.setattr(db, "CLIENTS", (1, 2))
    second = asyncio.Event()

    def say(line: str) -> None:
        if line.startswith("db: read-mostly, 2 clients: "):
            second.set()

    bench = _bench(tmp_path, postgres_server.server.dsn("postgres"), say)
    task = asyncio.create_task(db_suite(bench))
    await second.wait()
    task.cancel()
    result = await task

    assert result.partial
    assert _rows(result) == [("read-mostly", 1)]
    assert result.measurements == ()
    assert _databases(postgres_server) == set()
    assert _files_in(tmp_path) == []


async def test_an_interruption_of_the_start_is_said_so(tmp_path: Path) -> None:
    """Its own server is ended; there is nothing to show."""
    begun = asyncio.Event()
    task = asyncio.create_task(db_suite(_bench(tmp_path, None, lambda _line: begun.set())))
    await begun.wait()
    task.cancel()
    result = await task

    assert (result.partial, result.tables) == (True, ())
    assert "Interrupted before the first cell" in result.headline
    assert _files_in(tmp_path) == []
    assert _processes_in(tmp_path) == []


def test_what_a_killed_run_left_is_dropped_and_a_living_ones_is_not(
    postgres_server: RunningPostgres,
) -> None:
    """A run lives as long as it holds its lock."""
    dsn = postgres_server.server.dsn("postgres")
    left = f"{PREFIX}left_by_a_killed_run"
    with closing(psycopg.connect(dsn, autocommit=True)) as connection:
        connection.execute(f"CREATE DATABASE {left}")

    with scratch_database(dsn) as (first, dropped):
        assert dropped == (left,)
        with scratch_database(dsn) as (second, others):
            assert others == ()
            assert _databases(postgres_server) == {first, second}

    assert _databases(postgres_server) == set()


async def test_the_database_is_dropped_though_somebody_uses_it(postgres_server: RunningPostgres) -> None:
    """A pgbench that was killed may still be connected."""
    with ExitStack() as guests:
        async with own_database(postgres_server.server.dsn("postgres")) as (name, _):
            guests.enter_context(closing(psycopg.connect(postgres_server.server.dsn(name))))

    assert _databases(postgres_server) == set()


def test_a_user_who_may_create_no_database_is_told_what_to_do(postgres_server: RunningPostgres) -> None:
    """In words for the administrator."""
    with closing(psycopg.connect(postgres_server.server.dsn("postgres"), autocommit=True)) as connection:
        connection.execute("CREATE ROLE modest LOGIN")
        try:
            dsn = postgres_server.server.dsn("postgres").replace("user=dreamseed", "user=modest")
            with pytest.raises(FailedError, match='ALTER ROLE "modest" CREATEDB'), scratch_database(dsn):
                pass
        finally:
            connection.execute("DROP ROLE modest")


async def test_a_pgbench_that_fails_tells_its_last_words(postgres_server: RunningPostgres) -> None:
    """As they stand."""
    target = access(postgres_server.server.dsn("postgres"), "no_such_database")

    with pytest.raises(FailedError, match='database "no_such_database" does not exist'):
        await load(find_pgbench(), target, 1)


async def test_a_cell_that_cannot_be_run_leaves_the_others(
    postgres_server: RunningPostgres, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is a problem of the suite: nothing of it is published."""
    monkeypatch.setattr(db, "CLIENTS", (1, 500))
    monkeypatch.setattr(db, "WORKLOADS", WORKLOADS[:1])
    monkeypatch.setattr(db, "client_counts", lambda asked, free: asked)

    result = await db_suite(_bench(tmp_path, postgres_server.server.dsn("postgres")))

    (problem,) = result.problems
    assert "too many clients" in problem.reason
    assert _rows(result) == [("read-mostly", 1)]
    assert result.measurements == ()


async def test_a_server_that_does_not_answer_is_missing(tmp_path: Path) -> None:
    """A stack's database that is away is not replaced by another one."""
    with pytest.raises(MissingError, match="PostgreSQL does not answer"):
        await db_suite(_bench(tmp_path, f"host={tmp_path} dbname=x"))


def _files_in(folder: Path) -> list[Path]:
    return list(folder.iterdir())


def _processes_in(folder: Path) -> list[str]:
    """Command lines that name the folder."""
    lines = [" ".join(process.info["cmdline"] or ()) for process in psutil.process_iter(["cmdline"])]
    return [line for line in lines if str(folder) in line]
