"""Files that appear whole and durable or not at all, and what the operating system's refusals mean."""

from __future__ import annotations

import errno
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, BinaryIO, Final

from dreamseed_cli.backup.store.errors import StoreAbsent, StoreError, StoreFull, StoreRefused
from dreamseed_cli.core.files import sync_folder

DRAFT_SUFFIX = ".part"
_WRITTEN_AT_ONCE: Final = 1 << 20
"""Bytes. In writes of 4 MiB and more a byte takes the kernel four times as long (ext4; measured)."""


@dataclass(slots=True)
class Draft:
    """A file under a temporary name in its final folder."""

    file: BinaryIO
    path: Path
    final: Path

    def sync(self) -> None:
        """Onto the disk."""
        self.file.flush()
        os.fsync(self.file.fileno())

    def place(self) -> None:
        """Give it its final name, durably, over whatever has it."""
        self.sync()
        self.path.replace(self.final)
        sync_folder(self.final.parent)


def write_all(file: IO[bytes], data: bytes | memoryview) -> None:
    """All of it: a raw write may take only a part, at a signal or when the disk is nearly full. OSError."""
    view = memoryview(data)
    while view:
        view = view[file.write(view[:_WRITTEN_AT_ONCE]) :]


@contextmanager
def drafted(final: Path) -> Iterator[Draft]:
    """A draft of that file, for its owner alone to read; gone at the end unless it got its final name."""
    path = final.with_name(f".{final.name}.{secrets.token_hex(8)}{DRAFT_SUFFIX}")
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb", buffering=0) as file:
        try:
            yield Draft(file, path, final)
        finally:
            path.unlink(missing_ok=True)


def is_draft(name: str) -> bool:
    """Whether a file's name is one that `drafted` gives."""
    return name.startswith(".") and name.endswith(DRAFT_SUFFIX)


def make_folder(folder: Path) -> None:
    """Make it and those above it that are missing, durably."""
    if folder.is_dir():
        return
    make_folder(folder.parent)
    folder.mkdir(mode=0o700, exist_ok=True)
    sync_folder(folder.parent)


def forget_cached(fd: int) -> None:
    """Let the next reading come from the disk, where the system can be told so. What is dirty stays."""
    if hasattr(os, "posix_fadvise"):
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)


@contextmanager
def os_errors(place: str) -> Iterator[None]:
    """The operating system's errors in the terms of a store."""
    try:
        yield
    except OSError as error:
        raise _named(error, place) from error


def _named(error: OSError, place: str) -> StoreError:
    cause = error.strerror or type(error).__name__
    if error.errno in {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}:
        return StoreFull(f"no room: {cause}", place=place, remedy="Free space there, or give a larger disk.")
    if error.errno in {errno.EACCES, errno.EPERM, errno.EROFS}:
        return StoreRefused(
            f"not allowed: {cause}", place=place, remedy="Give the user that runs this the right to it."
        )
    if error.errno in {errno.ENOENT, errno.ENOTDIR, errno.ENODEV, errno.ENXIO}:
        return StoreAbsent(
            f"not there: {cause}", place=place, remedy="See whether the disk is mounted and the path right."
        )
    return StoreError(cause, place=place, remedy="Check the disk and the file system.")
