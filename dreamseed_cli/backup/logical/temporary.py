"""Folders for dumps under way: locked while somebody works in them, removed once nobody does."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from dreamseed_cli.backup.store.errors import StoreFull

_PREFIX: Final = "dreamseed-dump-"


@contextmanager
def temporary_folder(temp: Path) -> Iterator[Path]:
    """A folder for this user's eyes only, gone at the end."""
    made = Path(tempfile.mkdtemp(prefix="dreamseed-new-", dir=temp))
    lock = os.open(made, os.O_RDONLY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        # Under this name only once it is locked: forget_dumps() takes what is not.
        folder = made.rename(temp / (_PREFIX + made.name.removeprefix("dreamseed-new-")))
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)
    finally:
        os.close(lock)


def forget_dumps(temp: Path) -> None:
    """Remove what runs that were killed have left; what another run works in stays."""
    for left in temp.glob(f"{_PREFIX}*"):
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
