"""A host with keys and a store beside a real PostgreSQL, for tests that break backups and restore them."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

import psycopg
from backup_runs import KEYS, settings
from real_services import RunningPostgres, postgres

from dreamseed_cli.backup.attend import attended_run
from dreamseed_cli.backup.catalog import Catalog, read_catalog
from dreamseed_cli.backup.doors import utc_now
from dreamseed_cli.backup.logical.restore import RestoreReport, Target, restore_logical
from dreamseed_cli.backup.logical.server import Programs
from dreamseed_cli.backup.names import Kind
from dreamseed_cli.backup.physical.base import PhysicalSource
from dreamseed_cli.backup.physical.content import stop_to_compare
from dreamseed_cli.backup.physical.recovery import Goal
from dreamseed_cli.backup.physical.restore import Restored, Wish, restore_physical
from dreamseed_cli.backup.pipeline import Downloader, Told, Uploader
from dreamseed_cli.backup.run import Report, run_backup
from dreamseed_cli.backup.run import Wish as RunWish
from dreamseed_cli.backup.settings import Settings
from dreamseed_cli.backup.source import Produced, Source
from dreamseed_cli.backup.sources import LogicalSource, read_facts
from dreamseed_cli.backup.store.base import MIB, Store
from dreamseed_cli.backup.verify import choose
from dreamseed_cli.services.postgres import program

NAME = "kept"
ROWS = 20_000
_BOUND_S = 120.0
_PART_BYTES = 4 * MIB


def _silent(_text: str) -> None:
    return None


def _unseen(_plain: int, _stored: int) -> None:
    return None


@dataclass(frozen=True)
class SmallParts:
    """Another source, whose streams become several parts."""

    inner: Source

    @property
    def kind(self) -> Kind:
        return self.inner.kind

    def system_identifier(self) -> str:
        return self.inner.system_identifier()

    def expected_bytes(self) -> int | None:
        return self.inner.expected_bytes()

    def produce(self, uploader: Uploader) -> Produced:
        uploader.part_bytes = _PART_BYTES
        return self.inner.produce(uploader)


@dataclass
class Site:
    """folder: a short path. temp: where dumps are made. The server has a database, `NAME`, of `ROWS` rows."""

    folder: Path
    server: RunningPostgres
    host: Settings
    _new: Iterator[int] = field(default_factory=count)

    @property
    def dsn(self) -> str:
        return self.server.server.dsn("postgres")

    @property
    def temp(self) -> Path:
        return self.folder / "temp"

    def source(self, kind: Kind, programs: Programs = program) -> Source:
        """What makes backups of this kind. programs: of pg_basebackup."""
        if kind is Kind.LOGICAL:
            return SmallParts(LogicalSource(self.dsn, self.temp, read_facts(self.dsn), [NAME]))
        return SmallParts(PhysicalSource(self.dsn, "main", programs))

    def back_up(self, source: Source, store: Store | None = None, told: Told = _unseen) -> Report:
        """One run, with the lock and the record of the host."""

        def make() -> Report:
            wanted = RunWish(KEYS.recipients, threads=1, told=told)
            return run_backup(store or self.host.open(), source, wanted)

        return attended_run(self.host, make, utc_now).report

    def catalog(self) -> Catalog:
        """What the store holds; nothing in it looks like a backup and is none."""
        found = read_catalog(self.host.open())
        assert found.damaged == ()
        return found

    def download(self, backup_id: str | None = None, store: Store | None = None) -> Downloader:
        """The parts of a backup, of the newest one by default. store: another than the host's."""
        opened = store or self.host.open()
        return Downloader(opened, choose(read_catalog(opened), backup_id).manifest, [KEYS.daily])

    def prove(self, backup_id: str, store: Store | None = None) -> None:
        """Restore it, whichever kind it is: every table's digest is equal."""
        download = self.download(backup_id, store)
        if download.manifest.identity.kind is Kind.LOGICAL:
            into = f"back_{next(self._new)}"
            assert self.restore(download, into).rows == ROWS
            with psycopg.connect(self.dsn, autocommit=True) as connection:
                connection.execute(f"DROP DATABASE {into}")
            return
        with tempfile.TemporaryDirectory(prefix="ds-to-") as name:
            self.restore_into(Path(name) / "data", download)

    def restore(
        self,
        download: Downloader,
        into: str,
        *,
        replace: bool = False,
        told: Callable[[str, int, int], None] = lambda _what, _done, _all: None,
    ) -> RestoreReport:
        """A logical backup's database under a new name."""
        target = Target(self.dsn, {NAME: into}, globals=False, replace=frozenset({into} if replace else ()))
        return restore_logical(download.manifest, download, target, self.temp, told=told)

    def restore_into(
        self,
        to: Path,
        download: Downloader,
        tell: Callable[[str], None] = _silent,
        look: Callable[[], None] = lambda: None,
    ) -> Restored:
        """A physical backup, to its own end, where every table's digest is compared. look: what happens while
        the recovered server runs.
        """
        goal = Goal("immediate")
        compare_at = stop_to_compare(download.manifest, goal, None)
        assert isinstance(compare_at, Goal), compare_at
        wish = Wish(to, goal, None, check=lambda _dsn: look(), limit_s=_BOUND_S, compare_at=compare_at)
        done = restore_physical(download, wish, tell)
        assert done.content is not None
        assert done.content.rows >= ROWS
        return done


@contextmanager
def backup_site() -> Iterator[Site]:
    """A site with a backup of each kind that nothing has disturbed."""
    with tempfile.TemporaryDirectory(prefix="ds-bf-") as name:
        folder = Path(name)
        (folder / "pg").mkdir()
        with postgres(folder / "pg") as server:
            site = Site(folder, server, settings(folder / "home"))
            site.temp.mkdir()
            with psycopg.connect(site.dsn, autocommit=True) as connection:
                connection.execute(f"CREATE DATABASE {NAME}")
                # It writes when it likes; physical backups are digested at their end only if nobody did.
                connection.execute("ALTER SYSTEM SET autovacuum = off")
                connection.execute("SELECT pg_reload_conf()")
            with psycopg.connect(server.server.dsn(NAME), autocommit=True) as connection:
                rows = "SELECT g, repeat(md5(g::text), 10) FROM generate_series(1, %s) AS g"
                connection.execute(f"CREATE TABLE kept AS {rows}", (ROWS,))
            for kind in Kind:
                site.back_up(site.source(kind))
            yield site
