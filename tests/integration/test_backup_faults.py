"""Backups of a real PostgreSQL, disturbed: no false success, and a restore proves what is kept."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import LiteralString

import psycopg
import pytest
from backup_commands import DSN_ENV
from backup_kills import killed
from backup_runs import settings
from backup_site import NAME, Site, backup_site
from faulty_store import STORE_FAULTS, Death, FaultyStore
from logical_backups import Programs
from memory_store import MemoryStore

from dreamseed_cli.backup import sources
from dreamseed_cli.backup.catalog import read_catalog
from dreamseed_cli.backup.logical.dump import backup_logical
from dreamseed_cli.backup.names import Kind
from dreamseed_cli.backup.producer import ProducerFailed
from dreamseed_cli.backup.records import read_record
from dreamseed_cli.backup.store.base import Store, Stored
from dreamseed_cli.backup.store.open import open_store
from dreamseed_cli.core.errors import DreamseedError
from dreamseed_cli.services.postgres import program

_BOUND_S = 120.0


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    """One server and one store for all of them: what a test leaves behind must not disturb the next."""
    with backup_site() as made:
        yield made


@pytest.fixture
def programs(tmp_path: Path) -> Programs:
    """PostgreSQL's programs, for tests to replace some."""
    return Programs(program("psql").parent, tmp_path)


def all_good(site: Site, before: set[str]) -> None:
    """Every backup that came since, and is listed as good, is restored."""
    for entry in site.catalog().backups:
        if entry.id not in before:
            site.prove(entry.id)


def ids(site: Site) -> set[str]:
    """Of all good backups."""
    return {entry.id for entry in site.catalog().backups}


def test_a_store_that_fails_at_any_call(site: Site) -> None:
    """Another fault at each call of a run: it says so, or there is a backup that a restore proves."""
    older, call = MemoryStore(), 0
    first = site.back_up(site.source(Kind.LOGICAL), older).id
    while True:
        store, made = MemoryStore(), None
        store.objects = dict(older.objects)
        faulty = FaultyStore(store, {call: STORE_FAULTS[call % len(STORE_FAULTS)]})
        with suppress(DreamseedError):
            made = site.back_up(site.source(Kind.LOGICAL), faulty).id
        catalog = read_catalog(store)
        new = {entry.id for entry in catalog.backups} - {first}
        assert catalog.damaged == ()
        assert made is None or new == {made}
        for backup_id in new:
            site.prove(backup_id, store)
        if len(faulty.calls) <= call:
            break
        call += 1
    assert made is not None
    assert call > len(STORE_FAULTS)


def test_a_kill_at_any_call_of_a_logical_run(site: Site, tmp_path: Path) -> None:
    """Whatever was stored, what is listed is whole; lock and temporary folders are in nobody's way."""
    first, call = tmp_path / "first", 0
    site.back_up(site.source(Kind.LOGICAL), open_store(f"local:{first}", create=True))
    while True:
        copy = shutil.copytree(first, tmp_path / str(call))
        store = open_store(f"local:{copy}")
        if not killed(partial(_run_killed_at, site, store, call)):
            break
        catalog = read_catalog(store)
        assert catalog.damaged == ()
        for entry in catalog.backups[:-1]:
            site.prove(entry.id, store)
        call += 1
    assert call > len(STORE_FAULTS)
    site.prove(site.back_up(site.source(Kind.LOGICAL), store).id, store)
    assert list(site.temp.iterdir()) == []


def _run_killed_at(site: Site, store: Store, call: int) -> None:
    site.back_up(site.source(Kind.LOGICAL), FaultyStore(store, {call: "killed"}))


class KilledAt(FaultyStore):
    """SIGKILL when an object of a certain name is put."""

    def __init__(self, store: Store, name: str, death: Death) -> None:
        super().__init__(store)
        self._when = (name, death)

    def put(self, name: str, data: bytes) -> Stored:
        end, death = self._when
        if name.endswith(end):
            self.faults[len(self.calls)] = death
        return super().put(name, data)


def test_a_kill_at_puts_of_a_physical_run(site: Site) -> None:
    """The first part, one in the middle, the manifest before and after it: no slot stays on the server."""
    before = ids(site)
    deaths: list[tuple[str, Death]] = [
        ("parts/000000", "killed"),
        ("parts/000002", "killed_after"),
        ("manifest.json", "killed"),
        ("manifest.json", "killed_after"),
    ]
    for name, death in deaths:
        store = KilledAt(site.host.open(), name, death)
        assert killed(lambda: site.back_up(site.source(Kind.PHYSICAL), store))  # noqa: B023 - called at once
        assert len(ids(site) - before) == (death == "killed_after" and name == "manifest.json")
    until_none(site, "SELECT slot_name FROM pg_replication_slots")
    site.back_up(site.source(Kind.PHYSICAL))
    assert len(ids(site) - before) == 2
    all_good(site, before)


def until_none(site: Site, query: LiteralString) -> None:
    """Wait until the query finds nothing: the server needs a moment to see that a client is gone."""
    deadline = time.monotonic() + _BOUND_S
    with psycopg.connect(site.dsn, autocommit=True) as connection:
        while found := connection.execute(query).fetchall():
            assert time.monotonic() < deadline, found
            time.sleep(0.05)


@pytest.mark.parametrize(
    ("kind", "name", "script"),
    [
        # As large as a file may become: SIGXFSZ ends whoever writes on.
        (Kind.LOGICAL, "pg_dump", 'ulimit -f 512; exec REAL "$@"'),
        (Kind.PHYSICAL, "pg_basebackup", 'REAL "$@" | head -c 9000000; kill -9 $$'),
    ],
    ids=["pg_dump", "pg_basebackup"],
)
def test_a_program_that_dies_in_the_middle(
    site: Site, programs: Programs, monkeypatch: pytest.MonkeyPatch, kind: Kind, name: str, script: str
) -> None:
    """Half of its output is there: a failure that is recorded; the next run works."""
    real = str(programs.real / name)
    programs.fake(name, f'[ "$1" = --version ] && exec {real} --version\n' + script.replace("REAL", real))
    before = ids(site)
    with monkeypatch.context() as patched:
        patched.setattr(sources, "backup_logical", partial(backup_logical, programs=programs))
        with pytest.raises(ProducerFailed) as caught:
            site.back_up(site.source(kind, programs))
    assert caught.value.place == name
    assert ids(site) == before
    assert read_record(site.host.runs).last_failed
    site.prove(site.back_up(site.source(kind)).id)


@pytest.mark.parametrize("kind", list(Kind))
def test_a_server_that_is_killed_and_started_again_meanwhile(
    site: Site, monkeypatch: pytest.MonkeyPatch, kind: Kind
) -> None:
    """The run fails although the server is there again when it ends; the next one works."""
    restarted = threading.Event()

    def restart(*what: object) -> None:
        if not restarted.is_set() and not str(what[0]).startswith("globals"):
            restarted.set()
            site.server.kill()
            site.server.start()

    before = ids(site)
    with monkeypatch.context() as patched:
        patched.setattr(sources, "backup_logical", partial(backup_logical, told=restart))
        with pytest.raises(DreamseedError):
            site.back_up(site.source(kind), told=restart if kind is Kind.PHYSICAL else lambda *_: None)
    assert restarted.is_set()
    assert ids(site) == before
    site.prove(site.back_up(site.source(kind)).id)


def test_two_runs_at_once_on_one_host(site: Site) -> None:
    """The second ends with its own exit code while the first waits for a lock in the database."""
    environment = {**os.environ, "DREAMSEED_BACKUP_DIR": str(site.host.home), DSN_ENV: site.dsn}
    argv = [
        sys.executable,
        "-m",
        "dreamseed_cli",
        "backup",
        "--kind",
        "logical",
        "--dsn-env",
        DSN_ENV,
        "--json",
    ]
    before = ids(site)
    with psycopg.connect(site.server.server.dsn(NAME)) as holder:
        holder.execute("LOCK TABLE kept IN ACCESS EXCLUSIVE MODE")
        with subprocess.Popen(
            argv, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        ) as first:
            _until_waiting(site)
            second = subprocess.run(argv, env=environment, capture_output=True, timeout=_BOUND_S, check=False)
            assert second.returncode == 5, second.stdout
            holder.rollback()
            first.communicate(timeout=_BOUND_S)
            assert first.returncode == 0
    (made,) = ids(site) - before
    assert read_record(site.host.runs).backup_id == made


def _until_waiting(site: Site) -> None:
    deadline = time.monotonic() + _BOUND_S
    with psycopg.connect(site.dsn, autocommit=True) as connection:
        while not connection.execute("SELECT FROM pg_locks WHERE NOT granted").fetchall():
            assert time.monotonic() < deadline
            time.sleep(0.05)


def test_two_hosts_at_once_into_one_store(site: Site, tmp_path: Path) -> None:
    """Neither knows of the other: both backups are whole, and each is restored."""
    other = Site(site.folder, site.server, settings(tmp_path / "other"))
    start = threading.Barrier(2)
    made: list[str] = []

    def run(host: Site) -> None:
        start.wait()
        made.append(host.back_up(site.source(Kind.LOGICAL), site.host.open()).id)

    threads = [threading.Thread(target=run, args=(host,)) for host in (site, other)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(_BOUND_S)
    assert len(made) == 2
    for backup_id in made:
        site.prove(backup_id)
