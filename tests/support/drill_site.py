"""A small live system for drills: a server that archives, two backups, keys, and the schedule's beat."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg
from backup_runs import settings as backup_settings
from real_services import RunningPostgres

from dreamseed_cli.backup.catalog import read_catalog
from dreamseed_cli.backup.heartbeat import beat
from dreamseed_cli.backup.names import Kind
from dreamseed_cli.backup.run import Wish as RunWish
from dreamseed_cli.backup.run import run_backup
from dreamseed_cli.backup.settings import Settings
from dreamseed_cli.backup.sources import make_source
from dreamseed_cli.backup.verify import choose
from dreamseed_cli.backup.wal.settings import settings_for
from dreamseed_cli.commands.options import profile_argv
from dreamseed_cli.drill.history import Folder
from dreamseed_cli.drill.run import Company
from dreamseed_cli.drill.stage import Clock, Pace, Wish
from dreamseed_cli.drill.timeline import Targets
from dreamseed_cli.profile.backup import Backup
from dreamseed_cli.profile.load import load_profile
from dreamseed_cli.profile.standby import Standby
from dreamseed_cli.services.postgres import EmbeddedPostgres

PACE = Pace(archive_s=20.0, surprise_s=0.3, look_s=0.2, beat_s=0.1)
STANDBY = Standby(probe_s=0.2, down_s=1.0, back_s=2.0)
TARGETS = Targets(rpo_s=900.0, rto_s=3600.0)

_CONTENT = """
CREATE TABLE learner (id int PRIMARY KEY, name text NOT NULL DEFAULT 'nobody');
INSERT INTO learner SELECT n, md5(n::text) FROM generate_series(1, 2000) n;
CREATE INDEX learner_name ON learner (name);
CREATE TABLE answer (id bigserial PRIMARY KEY, learner int REFERENCES learner, text text);
INSERT INTO answer (learner, text) SELECT n, repeat(md5(n::text), 4) FROM generate_series(1, 2000) n;
CREATE VIEW busy AS SELECT learner, count(*) FROM answer GROUP BY 1;
CREATE FUNCTION twice(n int) RETURNS int LANGUAGE sql AS 'SELECT 2 * n';
SELECT lo_from_bytea(0, 'a large object');
"""


@dataclass(frozen=True)
class Site:
    """settings: of its backups. dsn: of the live database. profile: the file they come from, if one does."""

    root: Path
    settings: Settings
    running: RunningPostgres
    profile: Path | None = None

    @property
    def dsn(self) -> str:
        return self.running.server.dsn("school")

    def wish(self) -> Wish:
        return Wish(
            settings=self.settings,
            key_file=self.settings.key_file,
            dsn=self.dsn,
            profile_words=tuple(profile_argv(None if self.profile is None else str(self.profile))),
            profile_file=self.profile,
            pace=PACE,
            standby=STANDBY,
        )

    def company(self, folder: Path, link_mbps: float | None = None) -> Company:
        return Company(TARGETS, Folder(folder), self.root / "scratch", link_mbps, Clock())

    def back_up(self, kind: Kind = Kind.PHYSICAL) -> str:
        store = self.settings.open()
        source = make_source(kind, self.dsn)
        return run_backup(store, source, RunWish(tuple(self.settings.recipients()))).id

    def newest_bytes(self, *, plain: bool = False) -> int:
        """Of the newest backup, stored or plain."""
        manifest = choose(read_catalog(self.settings.open()), None).manifest
        return manifest.plain_bytes if plain else manifest.stored_bytes

    def beat(self) -> None:
        """What the schedule does every five minutes."""
        beat(self.dsn, self.settings.open(), Clock().now)


@contextmanager
def site(root: Path, profile: Path | None = None) -> Iterator[Site]:
    """`root` must be short (Unix sockets). Two backups lie in the store, and the WAL between and after.

    profile: one that names the store, if it is not to be a folder; its keys stand in the environment.
    """
    table = load_profile(str(profile)).backup if profile else Backup(store=f"local:{root / 'store'}")
    settings = backup_settings(root / "home", table)
    server = EmbeddedPostgres(root / "pg", root)
    made = [*server.initdb(), "--no-sync", "--wal-segsize=1"]
    subprocess.run(made, check=True, capture_output=True)
    push = ["env", f"DREAMSEED_BACKUP_DIR={settings.home}", sys.executable, "-m", "dreamseed_cli"]
    where = ["--profile", str(profile)] if profile else ["--store", settings.store_url]
    archiving = settings_for([*push, "wal", "push", *where], target_s=900)
    # As often as a test's patience wants it; a true one waits for nine minutes.
    archiving["archive_timeout"] = "2"
    with (server.data / "postgresql.conf").open("a") as file:
        file.writelines(f"{name} = '{text}'\n" for name, text in archiving.items())
    running = RunningPostgres(server, root / "log")
    try:
        running.start()
        found = Site(root, settings, running, profile)
        with psycopg.connect(server.dsn("postgres"), autocommit=True) as connection:
            connection.execute("CREATE DATABASE school")
        with psycopg.connect(found.dsn, autocommit=True) as connection:
            connection.execute(_CONTENT)
        found.back_up()
        with psycopg.connect(found.dsn, autocommit=True) as connection:
            connection.execute("INSERT INTO learner SELECT n, 'late' FROM generate_series(2001, 2100) n")
        found.back_up()
        found.beat()
        yield found
    finally:
        running.stop()
