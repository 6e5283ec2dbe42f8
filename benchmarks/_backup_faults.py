"""Random faults for the soak of backups: PostgreSQL, archive command, backup run and store, killed."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial

import psutil
import psycopg

from benchmarks._backup_site import DSN_ENV, OUTAGES, Site

KINDS = (
    *("postgres killed", "archive command killed", "backup killed", "postgres killed during a backup"),
    *OUTAGES,
)
_PUSH_WAIT_S = 5.0
_POLL_S = 0.05


@dataclass
class Faults:
    """One at a time, drawn by `rng`. longest_s: how long the store is away at most. done: what, and when.

    pushes_killed, backups_killed: processes that had not ended by themselves.
    """

    site: Site
    rng: random.Random
    longest_s: float
    done: list[tuple[float, str]] = field(default_factory=list)
    pushes_killed: int = 0
    backups_killed: int = 0
    _coming: list[str] = field(default_factory=list)

    def one(self) -> None:
        """The next one, from its beginning to its end. Each kind comes once before any comes again."""
        if not self._coming:
            self._coming = self.rng.sample(KINDS, len(KINDS))
        name = self._coming.pop()
        kinds: dict[str, Callable[[], None]] = {
            "postgres killed": self._postgres,
            "archive command killed": self._push,
            "backup killed": self._backup,
            "postgres killed during a backup": self._postgres_during_backup,
        }
        self.done.append((time.time(), name))
        kinds.get(name, partial(self._store, name))()

    def _postgres(self) -> None:
        self.site.postgres.kill()
        time.sleep(self.rng.uniform(0.0, 1.0))
        self.site.postgres.start()

    def _push(self) -> None:
        """One that runs, or one that a new segment brings about, killed somewhere on its way."""
        with (
            suppress(psycopg.Error),
            psycopg.connect(self.site.postgres.server.dsn("postgres")) as connection,
        ):
            connection.execute("SELECT pg_switch_wal()")
        deadline = time.monotonic() + _PUSH_WAIT_S
        while not (running := self.site.pushes()) and time.monotonic() < deadline:
            time.sleep(_POLL_S)
        time.sleep(self.rng.uniform(0.0, 1.0))
        for process in running:
            with suppress(psutil.NoSuchProcess):
                process.kill()
                self.pushes_killed += 1

    def _backup(self) -> None:
        running = self.site.command("backup", "--kind", "physical", "--dsn-env", DSN_ENV)
        time.sleep(self.rng.uniform(0.3, 2.0))
        self.backups_killed += running.poll() is None
        running.kill()
        running.communicate()

    def _postgres_during_backup(self) -> None:
        """The run fails in order, unless it was done before."""
        running = self.site.command("backup", "--kind", "physical", "--dsn-env", DSN_ENV)
        time.sleep(self.rng.uniform(1.0, 2.0))
        self._postgres()
        said, errors = running.communicate(timeout=60)
        assert running.returncode in {0, 4}, (running.returncode, said, errors)

    def _store(self, outage: str) -> None:
        self.site.store_away(outage)
        time.sleep(self.rng.uniform(self.longest_s / 4, self.longest_s))
        self.site.store_away(None)
