"""A physical backup back into a new data folder, and recovery from there to the moment that was asked for."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

from dreamseed_cli.backup.logical.server import Programs
from dreamseed_cli.backup.manifest import Manifest
from dreamseed_cli.backup.names import Kind
from dreamseed_cli.backup.physical.base import STREAM
from dreamseed_cli.backup.physical.folder import MARKER, FolderWriter, finish, prepare
from dreamseed_cli.backup.physical.recovery import Goal, Reached, private_server
from dreamseed_cli.backup.physical.tar import TarReader
from dreamseed_cli.backup.physical.verify import Verified, verify_folder
from dreamseed_cli.backup.pipeline import Downloader
from dreamseed_cli.backup.producer import program_version
from dreamseed_cli.backup.store.files import os_errors
from dreamseed_cli.backup.wal_names import format_lsn, parse_lsn
from dreamseed_cli.core.errors import UsageError
from dreamseed_cli.services.postgres import USER, program

_NO_ARCHIVE: Final = "false"
_SPARE: Final = 1.05
"""Times a backup's plain bytes: what must be free, with WAL that recovery writes."""


@dataclass(frozen=True, slots=True)
class Wish:
    """What to restore to. goal: where recovery stops. to: the data folder, new or empty.

    restore_command: as `wal.settings.restore_command` makes it; None: without the archive, to the moment at
    which the backup ended. user: a role that may log in and read everything. check: is given a connection
    string to the recovered server (compare digests with it); what it raises fails the restore.
    limit_s: for recovery, in seconds. thorough: compare every file's checksum even if that takes long.
    """

    to: Path
    goal: Goal
    restore_command: str | None
    user: str = USER
    programs: Programs = program
    check: Callable[[str], None] | None = None
    limit_s: float = 86_400.0
    thorough: bool = False


@dataclass(frozen=True, slots=True)
class Restored:
    """What was restored, as measured. lost: what is not in it, in a sentence.

    cleared: an earlier, interrupted restore was removed first, and this one began anew. seconds: of getting
    and unpacking, of comparing, and of recovery.
    """

    reached: Reached
    size: int
    cleared: bool
    verified: Verified
    lost: str
    unpack_s: float
    verify_s: float
    recover_s: float


def restore_physical(download: Downloader, wish: Wish, tell: Callable[[str], None]) -> Restored:
    """Restore a backup. Until everything is checked the folder has a mark in it, and is no database.

    Raises TargetTaken, UsageError (version, space, goal), TarBroken, CopyDiffers, RecoveryFailed, and what
    the Downloader raises. An interrupted one is begun anew by the next.
    """
    manifest = download.manifest
    settings = _settings(manifest, wish)
    _check_version(manifest, wish.programs)
    cleared = prepare(wish.to, manifest.identity.backup_id, int(manifest.plain_bytes * _SPARE))
    if cleared:
        tell("An interrupted restore lay there: it was removed, and this one begins from the start.")
    begun = time.monotonic()
    size = _unpack(download, wish.to)
    unpacked = time.monotonic()
    tell(f"{size} bytes are unpacked; they are compared with what the server copied.")
    compared = verify_folder(wish.to, wish.programs, MARKER, thorough=wish.thorough)
    verified = time.monotonic()
    tell(f"Every file is as it was backed up ({compared}); recovery begins.")
    reached = _recover(wish, settings)
    finish(wish.to)
    recovered = time.monotonic()
    return Restored(
        reached=reached,
        size=size,
        cleared=cleared,
        verified=compared,
        lost=what_is_lost(reached, wish.goal),
        unpack_s=unpacked - begun,
        verify_s=verified - unpacked,
        recover_s=recovered - verified,
    )


def what_is_lost(reached: Reached, goal: Goal) -> str:
    """What the restored database does not have, for people."""
    if reached.last_commit is None:
        until = f"after {reached.lsn}, where the backup ended: no later transaction was replayed"
    else:
        moment = reached.last_commit.isoformat(sep=" ", timespec="milliseconds")
        until = f"committed after {moment} ({reached.lsn})"
    why = "the archive holds no more" if goal.kind == "latest" else "as was asked for"
    return f"Everything {until}; {why}."


def _settings(manifest: Manifest, wish: Wish) -> dict[str, str]:
    """Recovery's settings. UsageError for a goal that this backup cannot reach."""
    wal = manifest.wal
    if manifest.identity.kind is not Kind.PHYSICAL or wal is None:
        raise UsageError(
            "a logical backup cannot be rolled forward",
            place=manifest.identity.backup_id,
            remedy="Choose a physical one, or restore it into a new database.",
        )
    goal, settings = wish.goal, wish.goal.settings()
    if wish.restore_command is None and goal.kind != "immediate":
        raise UsageError("without the archive only the backup's own end can be reached", place="--to")
    end = parse_lsn(wal.stop_lsn)
    if goal.kind == "lsn" and isinstance(goal.value, str) and parse_lsn(goal.value) < end:
        raise UsageError(
            f"this backup ends at {format_lsn(end)}, after that",
            place=f"--to-lsn {goal.value}",
            remedy="Choose an older backup.",
        )
    began = manifest.span.started
    if goal.kind == "time" and isinstance(goal.value, datetime) and goal.value < began:
        raise UsageError(
            f"this backup began at {began.isoformat()}, after that",
            place=f"--to-time {goal.value}",
            remedy="Choose an older backup.",
        )
    return {**settings, "restore_command": wish.restore_command or _NO_ARCHIVE}


def _check_version(manifest: Manifest, programs: Programs) -> None:
    """A data folder is readable to its own major version only."""
    ours = program_version(programs("postgres")).partition(".")[0]
    theirs = manifest.versions.server_version_num // 10_000
    if ours != str(theirs):
        raise UsageError(
            f"it was made by PostgreSQL {manifest.versions.server}, and this is {ours}",
            place=str(programs("postgres")),
            remedy=f"Give the programs of PostgreSQL {theirs}, or restore a logical backup.",
        )


def _unpack(download: Downloader, folder: Path) -> int:
    """Bytes of the stream."""
    writer = FolderWriter(folder)
    reader = TarReader(writer, place=f"{download.manifest.identity.backup_id}: {STREAM}")
    size = 0
    try:
        for chunk in download.stream(STREAM):
            reader.feed(chunk)
            size += len(chunk)
        reader.finish()
    finally:
        writer.close()
    return size


def _recover(wish: Wish, settings: dict[str, str]) -> Reached:
    with os_errors(str(wish.to)):
        (wish.to / "standby.signal").unlink(missing_ok=True)  # it came from a standby
        (wish.to / "recovery.signal").touch(mode=0o600)
    with private_server(wish.to, settings, wish.programs, wish.user) as server:
        server.start()
        reached = server.wait(wish.goal, wish.limit_s)
        if wish.check is not None:
            wish.check(server.dsn())
    return reached
