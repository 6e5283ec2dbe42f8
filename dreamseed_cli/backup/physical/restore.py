"""A physical backup back into a new data folder, and recovery from there to the moment that was asked for."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Final

from dreamseed_cli.backup.goal import no_archive
from dreamseed_cli.backup.logical.proof import Compared, tables_text
from dreamseed_cli.backup.logical.server import Programs
from dreamseed_cli.backup.manifest import Level, Manifest
from dreamseed_cli.backup.names import Kind
from dreamseed_cli.backup.physical.base import STREAM
from dreamseed_cli.backup.physical.content import Archived, compare_content
from dreamseed_cli.backup.physical.early import check_reached
from dreamseed_cli.backup.physical.folder import check_space, finish, held, prepare
from dreamseed_cli.backup.physical.mark import MARKER, SIGNAL, Mark, write_mark
from dreamseed_cli.backup.physical.recovery import Goal, PrivateServer, Reached, private_server
from dreamseed_cli.backup.physical.tablespaces import shut, unshut
from dreamseed_cli.backup.physical.verify import Verified, verify_folder
from dreamseed_cli.backup.pipeline import Downloader
from dreamseed_cli.backup.producer import program_version
from dreamseed_cli.backup.progress import size_text
from dreamseed_cli.backup.store.files import os_errors
from dreamseed_cli.backup.unpack import JOURNAL, Unpacking
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
    string to the recovered server, and may say what it found; what it raises fails the restore.
    limit_s: for recovery, in seconds. thorough: compare every file's checksum even if that takes long.
    compare_at: where recovery stops on its way, and all tables are compared; None: nowhere. archived: how far
    the archive reaches: a recovery to its end that stops before it has failed; None: nobody looked.
    """

    to: Path
    goal: Goal
    restore_command: str | None
    user: str = USER
    programs: Programs = program
    check: Callable[[str], str | None] | None = None
    limit_s: float = 86_400.0
    thorough: bool = False
    compare_at: Goal | None = None
    archived: Archived | None = None


@dataclass(frozen=True, slots=True)
class Restored:
    """What was restored, as measured. lost: what is not in it, in a sentence.

    size: bytes of the stream. kept: how many of them an interrupted restore had unpacked already, and were
    proven again. cleared: nothing of it could be kept. resumed: it went on where the same one had been
    interrupted, with everything unpacked and compared. seconds: of getting and unpacking, of comparing files,
    and of recovery with what it compares. content: the tables that were proven equal; None: they were not
    compared. checked: what Wish.check said. doubt: what goal.check_goal says of the archive's end.
    """

    reached: Reached
    content: Compared | None
    size: int
    kept: int
    cleared: bool
    resumed: bool
    verified: Verified
    lost: str
    unpack_s: float
    verify_s: float
    recover_s: float
    checked: str = ""
    doubt: str = ""

    @property
    def proven(self) -> Level:
        """Of the backup, by this restore."""
        return Level.RESTORED if self.content is None else Level.DIGESTS_EQUAL


@dataclass(frozen=True, slots=True)
class _End:
    """Of recovery, and what Wish.check said there."""

    reached: Reached
    checked: str


def restore_physical(download: Downloader, wish: Wish, tell: Callable[[str], None]) -> Restored:
    """Restore a backup. Until everything is checked the folder has a mark in it, and is no database.

    Raises TargetTaken, UsageError (version, space, goal), TarBroken, CopyDiffers, DigestsDiffer,
    RecoveryFailed, TablespaceMade, EndedEarly, and what the Downloader raises. An interrupted one is gone on
    with: recovery by the same one, unpacking by any of the same backup.
    """
    settings = _settings(download.manifest, wish)
    _check_version(download.manifest, wish.programs)
    with held(wish.to):
        return _restore(download, wish, settings, tell)


def _restore(
    download: Downloader, wish: Wish, settings: dict[str, str], tell: Callable[[str], None]
) -> Restored:
    manifest = download.manifest
    mark, lay_there = prepare(wish.to, _mark(manifest, wish), _room(manifest.plain_bytes))
    kept = 0
    begun = unpacked = verified = time.monotonic()
    resumed = mark.size is not None
    if resumed:
        tell("This restore was interrupted when everything was unpacked and compared: recovery goes on.")
    else:
        with Unpacking(wish.to, place=f"{manifest.identity.backup_id}: {STREAM}") as unpacking:
            if lay_there:
                kept = unpacking.take_up(download.parts_of(STREAM), {MARKER})
                check_space(wish.to, _room(manifest.plain_bytes - kept))
                tell(_kept_text(kept))
            size = download.feed(STREAM, unpacking.feed, kept)
            unpacking.finish()
        unpacked = time.monotonic()
        tell(f"{size_text(size)} are unpacked; they are compared with what the server copied.")
        compared = verify_folder(wish.to, wish.programs, (MARKER, JOURNAL), thorough=wish.thorough)
        mark = _unpacked(wish.to, mark.model_copy(update={"size": size, "verified": compared}))
        verified = time.monotonic()
        tell(f"Every file is as it was backed up ({compared}); recovery begins.")
    shut(wish.to)
    if wish.compare_at is not None and mark.tables is None:
        mark, end = _recover_comparing(wish, wish.compare_at, settings, manifest, mark, tell)
    else:
        end = _recover(wish, settings, manifest)
    unshut(wish.to)
    finish(wish.to)
    recovered = time.monotonic()
    return Restored(
        reached=end.reached,
        content=None if mark.tables is None else Compared(mark.tables, mark.rows, ()),
        size=mark.size or 0,
        kept=kept,
        cleared=lay_there and not kept,
        resumed=resumed,
        verified=mark.verified or Verified.SIZES,
        lost=what_is_lost(end.reached, wish.goal),
        unpack_s=unpacked - begun,
        verify_s=verified - unpacked,
        recover_s=recovered - verified,
        checked=end.checked,
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
        raise no_archive(goal)
    end = parse_lsn(wal.stop_lsn)
    if goal.kind == "lsn" and isinstance(goal.value, str) and parse_lsn(goal.value) < end:
        raise UsageError(
            f"this backup ends at {format_lsn(end)}, after that",
            place=f"--lsn {goal.value}",
            remedy="Choose an older backup.",
        )
    began = manifest.span.started
    if goal.kind == "time" and isinstance(goal.value, datetime) and goal.value < began:
        raise UsageError(
            f"this backup began at {began.isoformat()}, after that",
            place=f"--time {goal.value}",
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


def _room(plain_bytes: int) -> int:
    """Bytes that must be free to unpack so many."""
    return int(plain_bytes * _SPARE)


def _kept_text(kept: int) -> str:
    """What became of the interrupted restore, for people."""
    if not kept:
        return "An interrupted restore lay there: it was removed, and this one begins from the start."
    return f"An interrupted restore lay there: {kept} bytes of it are proven again, and the rest is fetched."


def _mark(manifest: Manifest, wish: Wish) -> Mark:
    """Of this restore, from which nothing is there yet."""
    return Mark(
        backup_id=manifest.identity.backup_id,
        goal=wish.goal.settings(),
        compare_at=None if wish.compare_at is None else wish.compare_at.settings(),
        thorough=wish.thorough,
    )


def _unpacked(folder: Path, mark: Mark) -> Mark:
    """Everything is on the disk before the mark says so."""
    with os_errors(str(folder)):
        (folder / "standby.signal").unlink(missing_ok=True)  # it came from a standby
        (folder / SIGNAL).touch(mode=0o600)
        os.sync()
        write_mark(folder, mark)
    return mark


def _recover_comparing(
    wish: Wish,
    stop: Goal,
    settings: dict[str, str],
    manifest: Manifest,
    mark: Mark,
    tell: Callable[[str], None],
) -> tuple[Mark, _End]:
    """Stop on the way, and compare. Where that is the goal itself, the same server goes on from there."""
    on_the_way = {**stop.settings(), "restore_command": settings["restore_command"]}
    with private_server(wish.to, on_the_way, wish.programs, wish.user) as server:
        server.start()
        server.wait(stop, wish.limit_s)
        content = compare_content(server, manifest)
        tell(f"What {tables_text(content.tables, content.rows)} held they hold again; recovery goes on.")
        mark = mark.model_copy(update={"tables": content.tables, "rows": content.rows})
        with os_errors(str(wish.to)):
            write_mark(wish.to, mark)
        if replace(stop, action="promote") == wish.goal:
            server.go_on()
            return mark, _end(server, wish, manifest)
    return mark, _recover(wish, settings, manifest)


def _recover(wish: Wish, settings: dict[str, str], manifest: Manifest) -> _End:
    with private_server(wish.to, settings, wish.programs, wish.user) as server:
        server.start()
        return _end(server, wish, manifest)


def _end(server: PrivateServer, wish: Wish, manifest: Manifest) -> _End:
    reached = server.wait(wish.goal, wish.limit_s)
    if wish.goal.kind == "latest" and wish.archived is not None and manifest.wal is not None:
        check_reached(reached.lsn, wish.archived, manifest.wal.segment_bytes, server.text())
    return _End(reached, (wish.check(server.dsn()) if wish.check else None) or "")
