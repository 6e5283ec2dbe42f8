"""The data folder of a restore: empty before, never a live server's, and marked until it is whole."""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dreamseed_cli.backup.physical.mark import MARKER, SIGNAL, Mark, read_mark, write_mark
from dreamseed_cli.backup.store.files import make_folder, os_errors
from dreamseed_cli.backup.unpack import JOURNAL
from dreamseed_cli.core.errors import UsageError
from dreamseed_cli.core.files import sync_folder
from dreamseed_cli.core.processes import ProcessIdentity


class TargetTaken(UsageError):
    """The folder holds something, which a restore would mix with or destroy."""

    kind = "target_taken"


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """One restore at a time into it, whatever ends its holder. TargetTaken, at once, for a second one."""
    with os_errors(str(folder)):
        make_folder(folder)
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise TargetTaken(
                "another restore is at work on it",
                place=str(folder),
                remedy="Wait for it, or end it; or restore elsewhere.",
            ) from error
        yield
    finally:
        os.close(descriptor)


def prepare(folder: Path, wanted: Mark, needed_bytes: int) -> tuple[Mark, bool]:
    """A folder with our mark in it, in which the same restore may have unpacked everything: then its size
    stands in the mark.

    True: an unfinished restore lies there, of which nothing is known. Raises TargetTaken (something else is
    in it, or a server runs on it), UsageError (too little space).
    """
    with os_errors(str(folder)):
        make_folder(folder)
        folder.chmod(0o700)
        _check_not_live(folder)
        found, begun = read_mark(folder), (folder / MARKER).exists()
        # Without the signal PostgreSQL has opened it: what it wrote since is no restore's.
        unpacked = found is not None and found.size is not None and (folder / SIGNAL).exists()
        if found is not None and unpacked and found.is_same(wanted):
            return found, False
        if not begun:
            if any(folder.iterdir()):
                raise TargetTaken(
                    "it is not empty",
                    place=str(folder),
                    remedy="Give a new or empty folder; nothing was changed.",
                )
            check_space(folder, needed_bytes)
        write_mark(folder, wanted)
    return wanted, begun


def finish(folder: Path) -> None:
    """It is whole and checked: a database like any other."""
    with os_errors(str(folder)):
        (folder / JOURNAL).unlink(missing_ok=True)
        (folder / MARKER).unlink()
        sync_folder(folder)


def _check_not_live(folder: Path) -> None:
    """A server that answers to the pid in postmaster.pid may be writing here, whatever else is true."""
    try:
        pid = int((folder / "postmaster.pid").read_text(encoding="utf-8").split()[0])
    except (FileNotFoundError, ValueError, IndexError):
        return
    identity = ProcessIdentity.of(pid)
    if identity is not None and identity.alive():
        raise TargetTaken(
            f"a server may be running on it (pid {pid})",
            place=str(folder),
            remedy="Stop it, or restore elsewhere.",
        )


def check_space(folder: Path, needed_bytes: int) -> None:
    """UsageError unless so many bytes are free there."""
    free = shutil.disk_usage(folder).free
    if free < needed_bytes:
        raise UsageError(
            f"{needed_bytes} bytes are needed, {free} are free",
            place=str(folder),
            remedy="Restore to a larger disk.",
        )
