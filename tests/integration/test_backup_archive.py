"""Point-in-time recovery by the commands alone: `wal settings` archives, `restore --point` comes back."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest
import real_services

from dreamseed_cli.backup.rpo import SIDE_BY_SIDE
from dreamseed_cli.backup.wal_names import WalSegment, parse_lsn

pytestmark = pytest.mark.usefixtures("untraced_children")


def _run(home: Path, *words: str) -> tuple[int, Any]:
    """Exit code and data of a command in a process of its own, as PostgreSQL and cron run it."""
    code, text = _said(home, *words, "--json")
    answer = json.loads(text)
    return code, answer["data"] if answer["data"] is not None else answer["errors"]


def _said(home: Path, *words: str) -> tuple[int, str]:
    """Exit code and stdout."""
    done = subprocess.run(
        [sys.executable, "-m", "dreamseed_cli", *words],
        env={**os.environ, "DREAMSEED_BACKUP_DIR": str(home)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    return done.returncode, done.stdout


@contextmanager
def _writing_until_it_is_copied(dsn: str) -> Iterator[None]:
    """A transaction is in progress when the run begins, and until pg_basebackup is there."""

    def hold() -> None:
        with psycopg.connect(dsn) as held, psycopg.connect(dsn, autocommit=True) as watching:
            held.execute("SELECT pg_current_xact_id()")
            begun.set()
            copying = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'pg_basebackup'"
            for _ in range(1200):
                if watching.execute(copying).fetchone() != (0,):
                    return
                watching.execute("SELECT pg_sleep(0.05)")

    begun = threading.Event()
    thread = threading.Thread(target=hold)
    thread.start()
    assert begun.wait(60)
    yield
    thread.join()


def _cut_off(home: Path, folder: Path) -> None:
    """As if the host had been lost while the last segment but one was still being pushed: the archive ends
    before it, which is said and not called a gap; with one segment too many behind it, it is a gap.
    """
    (archive,) = home.rglob("wal/00000001")
    missing, last = (
        WalSegment.parse(one) for one in sorted({path.name[:24] for path in archive.iterdir()})[-2:]
    )
    (lost,) = archive.glob(f"{missing.name}.*")
    lost.unlink()
    code, cut = _run(home, "restore", "--into", f"{folder}/cut", "--yes")
    assert (code, cut["proof"]) == (0, "restored-and-digests-equal"), cut
    assert f"{missing.name} is missing in the archive, which goes on to {last.name}" in cut["doubt"]
    assert parse_lsn(cut["reached_lsn"]) <= missing.start_lsn
    assert _run(home, "backup", "status")[1]["wal_gaps"] == []
    (there,) = archive.glob(f"{last.name}.*")
    far = WalSegment(1, missing.number + SIDE_BY_SIDE)
    there.rename(there.with_name(there.name.replace(last.name, far.name)))
    code, errors = _run(home, "restore", "--into", f"{folder}/gap", "--yes")
    assert (code, (folder / "gap").exists()) == (2, False)
    assert f"{missing.name} is missing in the archive, which goes on behind it" in errors[0]["cause"]


def test_a_named_point_comes_back_from_the_archive(tmp_path: Path, monkeypatch: Any) -> None:
    """Rows up to the point are there, later ones are not; `status` tells an RPO within its target."""
    home = tmp_path / "backup"
    with tempfile.TemporaryDirectory(prefix="ds-wal-") as folder:
        with real_services.postgres(Path(folder)) as server:
            monkeypatch.setenv("TEST_DSN", server.server.dsn("postgres"))
            assert _run(home, "backup", "init")[0] == 0
            _, wanted = _run(home, "wal", "settings")
            with psycopg.connect(server.server.dsn("postgres"), autocommit=True) as connection:
                for name, value in wanted["settings"].items():
                    connection.execute(f"ALTER SYSTEM SET {name} = '{value}'")
            server.stop()
            server.start()
            with _writing_until_it_is_copied(server.server.dsn("postgres")):
                code, made = _run(home, "backup", "--kind", "physical", "--dsn-env", "TEST_DSN")
            assert code == 0, made
            shown = _run(home, "backup", "show")[1]["manifest"]
            assert shown["content"]["point"].startswith("dreamseed-content-")
            with psycopg.connect(server.server.dsn("postgres"), autocommit=True) as connection:
                connection.execute("CREATE TABLE t AS SELECT 1 AS n")
                connection.execute("SELECT pg_create_restore_point('before')")
                for number in (2, 3):  # in a segment each
                    connection.execute("INSERT INTO t VALUES (%s)", (number,))
                    connection.execute("SELECT pg_switch_wal()")
            ticked = _said(home, "schedule", "run", "--dsn-env", "TEST_DSN")[1]
            assert "Lost if the server died now: the last" in ticked
            server.stop()
        code, status = _run(home, "backup", "status")
        assert (code, status["over_target"], status["wal_gaps"]) == (0, False, [])
        assert status["wal_segments"] > 0
        code, restored = _run(home, "restore", "--point", "before", "--into", f"{folder}/back", "--yes")
        assert code == 0, restored
        assert restored["proof"] == "restored-and-digests-equal"  # the archive tells where the point lies
        code, seen = _run(home, "restore", "--point", "before")
        assert (code, seen["done"]) == (0, False)
        assert re.search(r"after before \(20.* UTC, 0/[0-9A-F]+\)", seen["lost"])
        code, errors = _run(home, "restore", "--point", "never", "--into", f"{folder}/never", "--yes")
        assert (code, Path(folder, "never").exists()) == (2, False)
        assert "no restore point of this name" in errors[0]["cause"]
        code, latest = _run(home, "restore", "--into", f"{folder}/latest", "--yes")
        assert (code, latest["proof"]) == (0, "restored-and-digests-equal"), latest
        code, errors = _run(home, "restore", "--lsn", "F/0", "--into", f"{folder}/far", "--yes")
        assert (code, Path(folder, "far").exists()) == (2, False)
        assert "the archive ends at" in errors[0]["cause"]
        _cut_off(home, Path(folder))
        back = real_services.RunningPostgres(
            type(server.server)(data=Path(folder) / "back", socket_dir=Path(folder)),
            Path(folder) / "back.log",
        )
        try:
            back.start()
            with psycopg.connect(back.server.dsn("postgres")) as connection:
                assert connection.execute("SELECT n FROM t").fetchall() == [(1,)]
        finally:
            back.stop()
