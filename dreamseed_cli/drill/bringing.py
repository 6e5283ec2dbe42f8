"""A backup brought back into a folder of the drill's own, of either kind, as an operator would."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from dreamseed_cli.backup.physical.recovery import Goal
from dreamseed_cli.backup.recover import Recovery
from dreamseed_cli.backup.settings import Settings
from dreamseed_cli.backup.wal_names import parse_lsn
from dreamseed_cli.core.errors import FailedError
from dreamseed_cli.drill.cluster import Build, running
from dreamseed_cli.services.root import unprivileged


@dataclass(frozen=True, slots=True)
class Brought:
    """A data folder that a server can be started on. lsn, timeline: where recovery ended; 0 for a dump.

    last_commit: of the newest transaction replayed. compared: how its files were compared; empty for a dump.
    tables: whose digests the restore found equal to the backup's own; None: it compared none. doubt: what the
    restore said of the archive's end.
    """

    data: Path
    build: Build
    lsn: int = 0
    timeline: int = 0
    last_commit: datetime | None = None
    compared: str = ""
    tables: int | None = None
    doubt: str = ""


def wal_fetch(settings: Settings, store_url: str, key_file: Path, profile_words: Sequence[str]) -> list[str]:
    """`dreamseed wal fetch` as recovery runs it."""
    argv = ["env", f"DREAMSEED_BACKUP_DIR={settings.home.absolute()}", sys.executable, "-m", "dreamseed_cli"]
    argv += ["wal", "fetch", *profile_words, "--store", store_url]
    return [*argv, "--key-file", str(key_file.absolute())]


def bring(recovery: Recovery, data: Path, fetch: Sequence[str], say: Callable[[str], None]) -> Brought:
    """Restore into a new folder. Raises what Recovery's own restores raise."""
    manifest = recovery.entry.manifest
    build = Build.of(manifest)
    if recovery.physical:
        done = recovery.physical_into(data, fetch, say)
        reached = done.reached
        return Brought(
            data,
            build,
            lsn=parse_lsn(reached.lsn),
            timeline=reached.timeline,
            last_commit=reached.last_commit,
            compared=done.verified.value,
            tables=done.content.tables if done.content else None,
            doubt=done.doubt,
        )
    initdb(data, build)
    with running(data, build) as server:
        done_logical = recovery.logical_into(server.dsn("template1"), None, frozenset({"postgres"}), say)
    return Brought(data, build, tables=done_logical.tables)


def initdb(data: Path, build: Build) -> None:
    """A new, empty cluster with checksums. FailedError."""
    argv = [str(build.programs("initdb")), "--pgdata", str(data), "--username", build.user]
    argv += ["--auth", "trust", "--encoding", "UTF8", "--locale", "C.UTF-8", "--data-checksums"]
    done = subprocess.run(
        unprivileged(tuple(argv)), check=False, capture_output=True, text=True, errors="replace"
    )
    if done.returncode != 0:
        raise FailedError(f"initdb failed: {done.stderr.strip()[-300:]}", place=str(data))


def goal_at(moment: datetime | None) -> Goal:
    """The end of the archive, or a moment."""
    return Goal() if moment is None else Goal("time", moment)
