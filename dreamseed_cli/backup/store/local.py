"""A folder as a store: on this machine's disk, on an external one, or on a mounted share."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO

from dreamseed_cli.backup.store.base import CHUNK, Reading, Rights, Stored, Version
from dreamseed_cli.backup.store.errors import ObjectConflict, ObjectMissing, StoreAbsent
from dreamseed_cli.backup.store.files import (
    drafted,
    forget_cached,
    is_draft,
    make_folder,
    os_errors,
    write_all,
)
from dreamseed_cli.core.files import sync_folder

MARKER = ".dreamseed-store"
_MARKER_TEXT = (
    b"A dreamseed store. Without this file nothing is written here: the disk might not be mounted.\n"
)


class LocalFolder:
    """A backend (see `base.Backend`): objects are files, their names are paths below the folder."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._placed: set[Path] = set()
        self.name = f"local:{root}"

    def create(self) -> None:
        """Make the folder a store, if it is none yet."""
        with os_errors(str(self._root)):
            make_folder(self._root)
            if not (self._root / MARKER).exists():
                with drafted(self._root / MARKER) as draft:
                    draft.file.write(_MARKER_TEXT)
                    draft.place()

    def write(self, name: str, data: bytes, sha256: str) -> None:
        path = self._root / name
        with os_errors(str(path)), self._marker(os.O_RDWR) as marker:
            make_folder(path.parent)
            with drafted(path) as draft:
                write_all(draft.file, data)
                draft.sync()
                # A lock, since the file systems of external disks often have no hard links to do it with.
                fcntl.flock(marker, fcntl.LOCK_EX)
                if path.exists():
                    raise ObjectConflict("the name is taken", place=str(path))
                draft.path.rename(path)

    def confirm(self, name: str, sha256: str) -> bool:
        # The names too have to be durable, also those of a writer that died right after its rename. The
        # folders above hold no new name if they were synced when this one was there already.
        folder = (self._root / name).parent
        with os_errors(str(folder)):
            sync_folder(folder)
            if folder not in self._placed:
                for above in folder.parents:
                    if above == self._root.parent:
                        break
                    sync_folder(above)
                self._placed.add(folder)
        return False

    @contextmanager
    def read(self, name: str) -> Iterator[Reading]:
        path = self._root / name
        with self._open(path) as file:
            with os_errors(str(path)):
                # What counts is what the disk holds, not what this machine's memory remembers of it.
                forget_cached(file.fileno())
                size = os.fstat(file.fileno()).st_size
            yield Reading(size, None, _chunks(file, str(path)))

    def versions(self, name: str) -> tuple[Version, ...]:
        with os_errors(self.name), self._marker():
            found = self._version(name)
        return (found,) if found else ()

    def page(self, prefix: str, after: str | None) -> tuple[list[Stored], None]:
        with os_errors(self.name), self._marker():
            names = [name for name in self._files(prefix.rpartition("/")[0]) if name.startswith(prefix)]
            versions = [self._version(name) for name in sorted(names)]
        return [version.stored() for version in versions if version], None

    def delete(self, name: str) -> None:
        path = self._root / name
        with os_errors(str(path)), self._marker():
            if path.is_file():
                path.unlink(missing_ok=True)
                sync_folder(path.parent)

    def cancel_unfinished(self, before: datetime) -> int:
        with os_errors(self.name), self._marker():
            old = [path for path in self._drafts() if _modified(path) < before]
            for path in old:
                path.unlink(missing_ok=True)
        return len(old)

    def rights(self) -> Rights:
        with os_errors(self.name), self._marker():
            read, write = (os.access(self._root, mode | os.X_OK) for mode in (os.R_OK, os.W_OK))
        return Rights(read=read, write=write, list=read, delete=write)

    def close(self) -> None:
        """Nothing is held open."""

    @contextmanager
    def _marker(self, mode: int = os.O_RDONLY) -> Iterator[int]:
        """The marker, open. Without it, what lies here is the folder below an unmounted disk."""
        try:
            fd = os.open(self._root / MARKER, mode)
        except (FileNotFoundError, NotADirectoryError):
            raise StoreAbsent(
                f"no {MARKER} in it",
                place=self.name,
                remedy="Mount the disk, or make the folder a store with: dreamseed backup init.",
            ) from None
        try:
            yield fd
        finally:
            os.close(fd)

    def _open(self, path: Path) -> BinaryIO:
        with os_errors(str(path)), self._marker():
            try:
                return path.open("rb", buffering=0)
            except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
                raise ObjectMissing(
                    "no such object", place=str(path), remedy="See what the store lists."
                ) from None

    def _version(self, name: str) -> Version | None:
        path = self._root / name
        try:
            status = path.stat()
        except (FileNotFoundError, NotADirectoryError):
            return None
        if not path.is_file():
            return None
        return Version(name, name, status.st_size, None, datetime.fromtimestamp(status.st_mtime, UTC))

    def _files(self, below: str) -> Iterator[str]:
        for folder, _, names in os.walk(self._root / below, onerror=_unless_missing):
            for name in names:
                if not name.startswith("."):
                    yield (Path(folder) / name).relative_to(self._root).as_posix()

    def _drafts(self) -> list[Path]:
        walk = os.walk(self._root, onerror=_unless_missing)
        found = (Path(folder) / name for folder, _, names in walk for name in names)
        return [path for path in found if is_draft(path.name)]


def _chunks(file: BinaryIO, place: str) -> Iterator[bytes]:
    while True:
        with os_errors(place):
            chunk = file.read(CHUNK)
        if not chunk:
            return
        yield chunk


def _unless_missing(error: OSError) -> None:
    if not isinstance(error, FileNotFoundError):
        raise error


def _modified(path: Path) -> datetime:
    try:
        return datetime.fromtimestamp(path.stat().st_mtime, UTC)
    except FileNotFoundError:  # its writer has just finished
        return datetime.max.replace(tzinfo=UTC)
