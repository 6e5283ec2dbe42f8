"""A PostgreSQL that archives to a B2 server over HTTP, with the program's own commands: what a soak breaks.

Everything is real but the bucket, which b2sdk's simulator keeps in this process's memory.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from unittest.mock import patch

import psutil

from benchmarks._backup_truth import Reach, reach_of
from dreamseed_cli.backup.doors import Doors
from dreamseed_cli.backup.home import backup_home
from dreamseed_cli.backup.settings import Settings
from dreamseed_cli.backup.wal.settings import settings_for
from dreamseed_cli.commands.wal import wal_argv
from dreamseed_cli.profile.load import load_profile
from dreamseed_cli.services.postgres import EmbeddedPostgres

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests" / "support"))
from b2_server import PRUNE, B2Server, Fault, FaultKind, b2_server
from real_services import RunningPostgres

ROOT = Path(__file__).resolve().parent.parent
PREFIX = "soak/"
DSN_ENV = "SOAK_DSN"
OUTAGES: Final[dict[str, FaultKind]] = {
    "store killed": "refuse",
    "store stalls": "stall",
    "store answers 503": "unavailable",
    "store's answers lost": "lost",
}
_BOUND_S = 180.0
_PROFILE = """
[backup]
store = "b2:dreamseed/{prefix}"
b2_realm = "{realm}"
rpo_target_s = {target_s}
"""


@dataclass
class Site:
    """One cluster and its store. profile: the file that commands are given. doors: the same, from here."""

    folder: Path
    b2: B2Server
    postgres: RunningPostgres
    profile: Path
    doors: Doors
    archive_timeout_s: int

    def command(self, *words: str) -> subprocess.Popen[str]:
        """A command of the program's, in a process of its own, with JSON on its output."""
        argv = [sys.executable, "-m", "dreamseed_cli", *words, "--profile", str(self.profile), "--json"]
        return subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def must(self, *words: str) -> dict[str, object]:
        """The data of a command that has to succeed; AssertionError with what it said."""
        running = self.command(*words)
        said, errors = running.communicate(timeout=_BOUND_S)
        assert running.returncode == 0, f"{words}: exit code {running.returncode}: {said} {errors}"
        data: dict[str, object] = json.loads(said)["data"]
        return data

    def back_up(self) -> None:
        """A whole physical backup."""
        self.must("backup", "--kind", "physical", "--dsn-env", DSN_ENV)

    def store_away(self, outage: str | None) -> None:
        """Every request fails in that way, until None."""
        self.b2.failing = lambda _: None if outage is None else Fault(OUTAGES[outage])

    def pushes(self) -> list[psutil.Process]:
        """The archive commands that PostgreSQL runs now."""
        assert self.postgres.process is not None
        try:
            children = psutil.Process(self.postgres.process.pid).children(recursive=True)
            return [child for child in children if {"wal", "push"} <= set(child.cmdline())]
        except psutil.NoSuchProcess:
            return []

    def reach(self) -> Reach:
        """How far the store's own memory lets a restore come."""
        objects = self.b2.objects().items()
        return reach_of({name.removeprefix(PREFIX): versions[0] for name, versions in objects})


@contextmanager
def site(folder: Path, target_s: float, upload_s: float) -> Iterator[Site]:
    """Running, archiving, with keys.

    upload_s: what is left of the target for a segment's way into the store (see `archive_timeout_s`).
    """
    with b2_server() as b2:
        keys = b2.environment(PRUNE)
        postgres = RunningPostgres(EmbeddedPostgres(folder / "pg", folder), folder / "postgres.log")
        home = {"DREAMSEED_BACKUP_DIR": str(folder / "home"), DSN_ENV: postgres.server.dsn("postgres")}
        profile = folder / "soak.toml"
        shipped = (ROOT / "profiles" / "laptop.toml").read_text(encoding="utf-8")
        table = _PROFILE.format(prefix=PREFIX.rstrip("/"), realm=b2.url, target_s=target_s)
        profile.write_text(shipped + table, encoding="utf-8")
        with patch.dict(os.environ, {**keys, **home}):
            settings = Settings(load_profile(str(profile)).backup, backup_home(os.environ))
            push = wal_argv("push", settings, str(profile), None)
            wanted = settings_for(push, target_s, upload_s)
            _make_cluster(postgres.server, wanted)
            doors = Doors(settings, lambda: postgres.server.dsn("postgres"))
            made = Site(folder, b2, postgres, profile, doors, int(wanted["archive_timeout"]))
            try:
                postgres.start()
                made.must("backup", "init")
                yield made
            finally:
                postgres.stop()


@contextmanager
def restored(site: Site, name: str) -> Iterator[RunningPostgres]:
    """A server on what a restore to the latest moment gives; it archives nothing."""
    data = site.folder / name
    site.must("restore", "--into", str(data), "--yes")
    with (data / "postgresql.conf").open("a") as file:
        file.write("archive_mode = off\n")
    sockets = site.folder / f"{name}-s"
    sockets.mkdir()
    running = RunningPostgres(EmbeddedPostgres(data, sockets), sockets / "log")
    try:
        running.start()
        yield running
    finally:
        running.stop()


def _make_cluster(server: EmbeddedPostgres, settings: dict[str, str]) -> None:
    subprocess.run([*server.initdb(), "--no-sync"], check=True, capture_output=True)
    with (server.data / "postgresql.conf").open("a") as file:
        file.writelines(f"{name} = '{value}'\n" for name, value in settings.items())
