"""Folders for work under way: locked while somebody works in them, removed once nobody does."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from dreamseed_cli.backup.store.errors import StoreBusy, StoreFull, StoreUnreachable

DUMP: Final = "dreamseed-dump-"
"""pg_dump's directory, made or to be restored."""
RECOVERY: Final = "dreamseed-pitr-"
"""A private server's settings, socket and log."""


@contextmanager
def temporary_folder(temp: Path, prefix: str) -> Iterator[Path]:
    """A folder for this user's eyes only, gone at the end. prefix: DUMP or RECOVERY."""
    made = Path(tempfile.mkdtemp(prefix="dreamseed-new-", dir=temp))
    lock = os.open(made, os.O_RDONLY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        # Under this name only once it is locked: forget_left() takes what is not.
        folder = made.rename(temp / (prefix + made.name.removeprefix("dreamseed-new-")))
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)
    finally:
        os.close(lock)


@contextmanager
def lasting_folder(temp: Path, name: str) -> Iterator[Path]:
    """The same under a name of one's own, which begins with a prefix: what lay in it when this was killed, or
    the store could not be reached, the next one finds. Beside another one at work in it, or where somebody
    else made it, it is a temporary_folder.
    """
    lock = _lock_own(temp / name)
    if lock is None:
        with temporary_folder(temp, DUMP) as folder:
            yield folder
        return
    try:
        yield temp / name
    except (StoreUnreachable, StoreBusy):
        raise
    except BaseException:
        shutil.rmtree(temp / name, ignore_errors=True)
        raise
    else:
        shutil.rmtree(temp / name, ignore_errors=True)
    finally:
        os.close(lock)


def _lock_own(folder: Path) -> int | None:
    """A descriptor of the folder, made if it is not there, and locked; None: it is not ours to have."""
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except OSError:
        return None
    with suppress(OSError):  # locked, or taken away by forget_left() meanwhile
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        status = os.fstat(lock)
        private = status.st_uid == os.geteuid() and not status.st_mode & 0o077
        if private and os.path.samestat(status, folder.lstat()):
            return lock
    os.close(lock)
    return None


def forget_left(temp: Path, prefix: str, but: str | None = None) -> None:
    """Remove what runs that were killed have left; what another run works in stays. but: names that begin so
    stay.
    """
    for left in temp.glob(f"{prefix}*"):
        if but is not None and left.name.startswith(but):
            continue
        with suppress(OSError):  # gone meanwhile, somebody else's, or locked
            lock = os.open(left, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(left)
            finally:
                os.close(lock)


def check_room(folder: Path, needed: int) -> None:
    """StoreFull unless the folder's disk has room for `needed` bytes."""
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise StoreFull(
            f"{free:,} bytes are free and about {needed:,} are needed",
            place=str(folder),
            remedy="Make room, or name another temporary folder.",
        )
