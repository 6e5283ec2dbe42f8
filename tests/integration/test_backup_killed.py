"""A run that is killed or ended from outside: no backup, no lock left, and the next run makes one."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from backup_runs import KEYS, Clock, PlayedSource, settings, wish
from real_services import RunningPostgres, own_postgres

from dreamseed_cli.backup.attend import attended_run
from dreamseed_cli.backup.catalog import read_catalog
from dreamseed_cli.backup.records import read_record
from dreamseed_cli.backup.run import run_backup
from dreamseed_cli.core.processes import ProcessIdentity

pytestmark = pytest.mark.usefixtures("untraced_children")
_RUN = """
import sys, time
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from backup_runs import PlayedSource, wish
from dreamseed_cli.backup.attend import attended_run
from dreamseed_cli.backup.doors import utc_now
from dreamseed_cli.backup.ending import ends_in_order
from dreamseed_cli.backup.run import run_backup
from dreamseed_cli.backup.settings import Settings
class Slow(PlayedSource):
    def produce(self, uploader):
        uploader.part_bytes = 4
        def chunks():
            yield b"some rows that are stored"
            print("stored", flush=True)
            for _ in range(600):
                time.sleep(0.1)
                yield b""
        uploader.stream("played", chunks())
host = Settings(home=Path(sys.argv[1]))
with ends_in_order():
    attended_run(host, lambda: run_backup(host.open(), Slow(), wish()), utc_now)
"""


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_a_run_that_is_ended_leaves_no_backup_and_the_next_one_works(
    how: signal.Signals, tmp_path: Path
) -> None:
    """SIGTERM, systemd's way, and Ctrl-C are also recorded as a failure."""
    host = settings(tmp_path / "home")
    support = str(Path(__file__).resolve().parents[1] / "support")
    argv = [sys.executable, "-c", _RUN, str(host.home), support]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as running:
        assert running.stdout is not None
        running.stdout.readline()
        running.send_signal(how)  # once: no signal may be lost
        running.wait(60)
    catalog = read_catalog(host.open())
    assert (catalog.backups, catalog.damaged) == ((), ())
    assert read_record(host.runs).last_failed is (how is not signal.SIGKILL)
    clock = Clock()
    done = attended_run(host, lambda: run_backup(host.open(), PlayedSource(), wish(clock)), clock.moment)
    assert [entry.id for entry in read_catalog(host.open()).backups] == [done.report.id]
    assert done.report.manifest.recipients == KEYS.recipients


@pytest.fixture(scope="module")
def postgres_server() -> Iterator[RunningPostgres]:
    """One of this module's own: it is paused, and a copy takes all of it."""
    with own_postgres() as server:
        yield server


@pytest.mark.parametrize(
    ("kind", "hang"), [("logical", "locked"), ("logical", "paused"), ("physical", "paused")]
)
def test_one_signal_ends_a_run_of_a_server_that_does_not_answer(
    kind: str, hang: str, tmp_path: Path, postgres_server: RunningPostgres
) -> None:
    """Exit code 130, and no program, session, lock or dump of it is left; the next run works."""
    dsn = postgres_server.new_database()
    environment = {**os.environ, "DREAMSEED_BACKUP_DIR": str(tmp_path / "home"), "DSN": dsn}
    temp = tmp_path / "temp"
    temp.mkdir()
    command = [sys.executable, "-m", "dreamseed_cli", "backup"]
    subprocess.run([*command, "init"], env=environment, check=True, capture_output=True)
    run = [*command, "--kind", kind, "--dsn-env", "DSN"]
    with psycopg.connect(dsn, autocommit=True) as session:
        session.execute("CREATE TABLE t (n int)")
        session.execute("BEGIN")
        # A dump waits for it. A physical copy does not: for that the server has to answer nobody.
        session.execute("LOCK TABLE t IN ACCESS EXCLUSIVE MODE")
        if hang == "paused":
            postgres_server.pause()
        try:
            with subprocess.Popen(run, env={**environment, "TMPDIR": str(temp)}) as running:
                family = _at_work(running, tmp_path / "home" / "run.lock")
                running.send_signal(signal.SIGTERM)
                assert running.wait(60) == 130
        finally:
            postgres_server.resume()
        assert not [one for one in family if one.alive()]
        assert list(temp.iterdir()) == []
        session.execute("COMMIT")
    done = subprocess.run(run, env=environment, check=False, capture_output=True)
    assert done.returncode == 0, done.stderr


def _at_work(running: subprocess.Popen[bytes], lock: Path) -> list[ProcessIdentity]:
    """The run and its programs, a second after it took its lock."""
    deadline = time.monotonic() + 120
    while not lock.exists() or not lock.read_bytes():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    time.sleep(1)
    identity = ProcessIdentity.of(running.pid)
    assert identity is not None
    return identity.family()
