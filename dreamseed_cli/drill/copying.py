"""A copy of the database that may be destroyed: restored from the newest backup, with a store of its own."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from dreamseed_cli.backup import ending
from dreamseed_cli.backup.heartbeat import beat
from dreamseed_cli.backup.keys import NewKeys, write_identity, write_recipients
from dreamseed_cli.backup.logical.server import connect, value
from dreamseed_cli.backup.names import Kind
from dreamseed_cli.backup.physical.recovery import Goal, PrivateServer
from dreamseed_cli.backup.recover import Recovery
from dreamseed_cli.backup.run import Wish, run_backup
from dreamseed_cli.backup.settings import Settings
from dreamseed_cli.backup.sources import make_source
from dreamseed_cli.backup.wal.settings import settings_for
from dreamseed_cli.core.errors import FailedError
from dreamseed_cli.drill.bringing import Brought, bring, wal_fetch
from dreamseed_cli.drill.cluster import Build, running
from dreamseed_cli.drill.stage import Stage
from dreamseed_cli.drill.timeline import Step
from dreamseed_cli.profile.backup import Backup

_POLL_S: Final = 0.05
_ARCHIVED_S: Final = 60.0
_ARCHIVED: Final = "SELECT coalesce(last_archived_wal, '') >= %s FROM pg_stat_archiver"


@dataclass(frozen=True, slots=True)
class Copy:
    """A running copy. settings: of its own store and keys, below the drill's folder."""

    server: PrivateServer
    build: Build
    settings: Settings

    def back_up(self) -> str:
        """A physical backup into the copy's own store; its id."""
        store = self.settings.open()
        try:
            source = make_source(Kind.PHYSICAL, self.server.dsn())
            return run_backup(store, source, Wish(tuple(self.settings.recipients()))).id
        finally:
            store.close()

    def tick(self, stage: Stage) -> None:
        """What the schedule does every five minutes: note where the WAL stands, begin a new segment. Returns
        once that is archived.
        """
        with connect(self.server.dsn()) as connection:
            segment = value(connection, "SELECT pg_walfile_name(pg_current_wal_insert_lsn())")
        store = self.settings.open()
        try:
            beat(self.server.dsn(), store, stage.clock.now)
        finally:
            store.close()
        deadline = time.monotonic() + _ARCHIVED_S
        with connect(self.server.dsn()) as connection:
            while not value(connection, _ARCHIVED, (segment,)):
                if time.monotonic() > deadline:
                    raise FailedError(f"{segment} was not archived: {self.server.said()}", place="the copy")
                ending.pause(_POLL_S)

    def bring_back(self, data: Path, goal: Goal, stage: Stage) -> Brought:
        """Its newest backup and archive, into a new folder."""
        settings = self.settings
        recovery = Recovery.look(settings, None, None, goal)
        stage.mark(Step.CHOSEN, recovery.entry.id)
        fetch = wal_fetch(settings, settings.store_url, settings.key_file, ())
        return bring(recovery, data, fetch, stage.say)


@contextmanager
def running_copy(stage: Stage) -> Iterator[Copy]:
    """Restore the newest backup beside everything, start it, and let it archive into a store of its own."""
    wish = stage.wish
    recovery = Recovery.look(wish.settings, wish.key_file, None, Goal())
    stage.backup_id = recovery.entry.id
    stage.database_bytes = recovery.entry.manifest.plain_bytes
    fetch = wal_fetch(wish.settings, wish.settings.store_url, wish.key_file, wish.profile_words)
    brought = bring(recovery, stage.scratch / "copy", fetch, stage.say)
    if brought.doubt:
        stage.notes.append(brought.doubt)
    settings = _own_store(stage.scratch / "home", stage.scratch / "store", wish.settings.table)
    push = ["env", f"DREAMSEED_BACKUP_DIR={settings.home}", sys.executable, "-m", "dreamseed_cli"]
    push += ["wal", "push", "--store", settings.store_url]
    archiving = settings_for(push, settings.table.rpo_target_s)
    with running(brought.data, brought.build, archiving) as server:
        stage.mark(Step.PREPARED, f"a copy of the database from {recovery.entry.id}")
        yield Copy(server, brought.build, settings)


def _own_store(home: Path, folder: Path, table: Backup) -> Settings:
    """Keys and a local store that nobody else uses."""
    own = Backup(store=f"local:{folder}", rpo_target_s=table.rpo_target_s, threads=table.threads)
    settings = Settings(own, home)
    home.mkdir(mode=0o700)
    keys = NewKeys.create()
    write_identity(settings.key_file, keys.daily)
    write_recipients(settings.recipients_file, keys.recipients)
    settings.open(create=True).close()
    return settings
