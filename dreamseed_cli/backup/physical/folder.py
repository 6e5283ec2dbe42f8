"""The data folder of a restore: empty before, never a live server's, and marked until it is whole."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import BinaryIO, Final

from dreamseed_cli.backup.physical.tar import TarBroken
from dreamseed_cli.backup.store.files import make_folder, os_errors
from dreamseed_cli.core.errors import UsageError
from dreamseed_cli.core.files import sync_folder
from dreamseed_cli.core.processes import ProcessIdentity

MARKER: Final = "dreamseed-restore-unfinished"
"""Stands in the folder from the first byte to the last check. A folder with it is no database yet."""


class TargetTaken(UsageError):
    """The folder holds something, which a restore would mix with or destroy."""

    kind = "target_taken"


def prepare(folder: Path, backup_id: str, needed_bytes: int) -> bool:
    """An empty folder with our marker in it; True if an interrupted restore was cleared away for that.

    Raises TargetTaken (something is in it, or a server runs on it), UsageError (too little space).
    """
    with os_errors(str(folder)):
        make_folder(folder)
        folder.chmod(0o700)
        _check_not_live(folder)
        cleared = (folder / MARKER).exists()
        if cleared:
            _clear(folder)
        elif any(folder.iterdir()):
            raise TargetTaken(
                "it is not empty",
                place=str(folder),
                remedy="Give a new or empty folder; nothing was changed.",
            )
        _check_space(folder, needed_bytes)
        (folder / MARKER).write_text(f"{backup_id}\n", encoding="utf-8")
        sync_folder(folder)
    return cleared


def finish(folder: Path) -> None:
    """It is whole and checked: a database like any other."""
    with os_errors(str(folder)):
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


def _clear(folder: Path) -> None:
    """Everything but the marker, which goes with the next restore only."""
    for entry in os.scandir(folder):
        if entry.name == MARKER:
            continue
        if entry.is_dir(follow_symlinks=False):
            shutil.rmtree(entry.path)
        else:
            Path(entry.path).unlink()


def _check_space(folder: Path, needed_bytes: int) -> None:
    free = shutil.disk_usage(folder).free
    if free < needed_bytes:
        raise UsageError(
            f"{needed_bytes} bytes are needed, {free} are free",
            place=str(folder),
            remedy="Restore to a larger disk.",
        )


class FolderWriter:
    """Writes a tar's members below a folder, and only there: no link is followed, no file overwritten.

    Without fsync: recovery, which always follows, syncs the whole folder first (SyncDataDirectory).
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._file: BinaryIO | None = None

    def begin(self, path: str, mode: int, *, folder: bool) -> None:
        target = self._folder / path
        with os_errors(str(target)):
            if folder:
                target.mkdir(mode=0o700, exist_ok=True)
                return
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
            try:
                fd = os.open(target, flags, mode & 0o700 | 0o600)
            except FileExistsError as error:
                raise TarBroken("a file comes twice", place=path) from error
            self._file = os.fdopen(fd, "wb", buffering=0)

    def data(self, piece: memoryview) -> None:
        with os_errors(str(self._folder)):
            while piece and self._file is not None:
                piece = piece[self._file.write(piece) :]

    def end(self) -> None:
        self.close()

    def close(self) -> None:
        """The file that is open, if there is one."""
        if self._file is not None:
            self._file.close()
            self._file = None
