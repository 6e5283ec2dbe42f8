"""The backup verbs against a real server: init, backup, list, verify, restore, status, through `main`."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
import real_services

from dreamseed_cli.app import main

Run = Callable[..., tuple[int, Any]]


@pytest.fixture(scope="module")
def postgres_server() -> Iterator[real_services.RunningPostgres]:
    """One of this module's own: a physical copy takes all that other tests ever made on a shared one."""
    with real_services.own_postgres() as server:
        yield server


@pytest.fixture
def run(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    postgres_dsn: str,
) -> Run:
    """Exit code and data of a command, with keys, a store and a database of the test's own."""
    monkeypatch.setenv("DREAMSEED_BACKUP_DIR", str(tmp_path / "backup"))
    monkeypatch.setenv("TEST_DSN", postgres_dsn)

    def once(*words: str) -> tuple[int, Any]:
        with pytest.raises(SystemExit) as ended:
            main([*words, "--json"])
        answer = json.loads(capsys.readouterr().out)
        return int(ended.value.code or 0), answer["data"] if answer["data"] is not None else answer["errors"]

    return once


def test_a_logical_backup_comes_back_with_equal_digests(
    run: Run, postgres_dsn: str, postgres_server: real_services.RunningPostgres, tmp_path: Path
) -> None:
    """Into a new database; the proof is recorded, and `status` knows of it."""
    name = psycopg.conninfo.conninfo_to_dict(postgres_dsn)["dbname"]
    with psycopg.connect(postgres_dsn, autocommit=True) as connection:
        connection.execute("CREATE TABLE t AS SELECT n, md5(n::text) AS text FROM generate_series(1, 500) n")
    assert run("backup", "--kind", "logical", "--dsn-env", "TEST_DSN")[0] == 3  # no keys yet
    code, made = run("backup", "init")
    assert code == 0
    assert made["recovery_key"].startswith("AGE-SECRET-KEY-1")
    again = run("backup", "init")
    assert (again[0], again[1]["recovery_key"]) == (0, None)  # keys are never overwritten
    code, rehearsed = run("backup", "--kind", "logical", "--dry-run", "--dsn-env", "TEST_DSN")
    assert (code, rehearsed["backups"]) == (0, 0)
    code, report = run("backup", "--kind", "logical", "--dsn-env", "TEST_DSN")
    assert code == 0, report
    assert run("backup", "list")[1]["backups"][0]["id"] == report["id"]
    code, verified = run("backup", "verify")
    assert (code, verified["opened"]) == (0, True)
    code, seen = run("restore", "--database", f"{name}=back")
    assert (code, seen["done"], seen["seconds_from"]) == (0, False, "backup")
    code, restored = run("restore", "--database", f"{name}=back", "--yes", "--dsn-env", "TEST_DSN")
    assert code == 0, restored
    assert restored["proof"] == "restored-and-digests-equal"
    with psycopg.connect(postgres_server.server.dsn("back"), autocommit=True) as connection:
        assert connection.execute("SELECT count(*) FROM t").fetchone() == (500,)
    code, refused = run("restore", "--database", f"{name}=back", "--yes", "--dsn-env", "TEST_DSN")
    assert code == 2, refused
    assert run("backup", "status")[0] == 0


def test_a_physical_backup_recovers_into_a_new_folder(run: Run, postgres_dsn: str, tmp_path: Path) -> None:
    """With its own WAL; without an archive it reaches the backup's end, and says what is lost."""
    with psycopg.connect(postgres_dsn, autocommit=True) as connection:
        connection.execute("CREATE TABLE p AS SELECT 1 AS n")
        connection.execute("ALTER SYSTEM SET autovacuum = off")  # it writes when it likes
        connection.execute("SELECT pg_reload_conf()")
    run("backup", "init")
    code, report = run("backup", "--kind", "physical", "--dsn-env", "TEST_DSN")
    assert code == 0, report
    taken = tmp_path / "taken"
    taken.mkdir()
    (taken / "file").touch()
    assert run("restore", "--into", str(taken), "--yes")[0] == 2
    code, restored = run("restore", "--into", str(tmp_path / "data"), "--yes")
    assert code == 0, restored
    assert (tmp_path / "data" / "PG_VERSION").is_file()
    proof = "restored-and-digests-equal"
    assert restored["proof"] == run("backup", "show")[1]["proof"] == proof
    assert restored["files"] == "names, sizes and checksums"
    code, seen = run("restore")
    assert (code, seen["seconds_from"]) == (0, "restore")
    code, quick = run("restore", "--into", str(tmp_path / "quick"), "--quick", "--yes")
    assert (code, quick["proof"], quick["tables"]) == (0, "restored", None)
