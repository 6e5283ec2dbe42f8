"""The journal's folder: numbered segments, the lock that keeps it to one gateway, and the checkpoint."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from typing import NamedTuple

import msgspec

from dreamseed_cli.core.errors import FailedError

_SUFFIX = ".journal"


class Position(NamedTuple):
    """A place in the journal; positions compare in the order of writing."""

    segment: int
    offset: int
    """Bytes from the segment's beginning."""


class FolderTaken(FailedError):
    """Another gateway writes this journal."""


def segment_path(folder: Path, number: int) -> Path:
    """The file of a segment; names sort as their numbers do."""
    return folder / f"{number:012d}{_SUFFIX}"


def segment_sizes(folder: Path) -> dict[int, int]:
    """The segments there are, in their order, with their sizes in bytes."""
    numbers = sorted(int(path.stem) for path in folder.glob(f"*{_SUFFIX}") if path.stem.isdecimal())
    return {number: segment_path(folder, number).stat().st_size for number in numbers}


def take_folder(folder: Path) -> int:
    """Make the folder if need be (mode 0700) and lock it; the descriptor that holds the lock.

    The kernel drops the lock with its holder. Raises FolderTaken, or FailedError if there can be no folder.
    """
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = os.open(folder / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise FailedError(
            f"the journal cannot be written: {error.strerror}",
            place=str(folder),
            remedy="Give the gateway a folder of its own on a disk with room.",
        ) from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        raise FolderTaken(
            "another gateway writes this journal",
            place=str(folder),
            remedy="Stop it first (dreamseed stop), or use another --state-dir.",
        ) from None
    return lock


def read_checkpoint(folder: Path) -> Position:
    """Up to where PostgreSQL has everything. Without a readable one: the beginning, as storing twice does no
    harm.
    """
    try:
        return msgspec.json.decode((folder / "checkpoint").read_bytes(), type=Position)
    except (OSError, msgspec.DecodeError):
        return Position(0, 0)


def write_checkpoint(folder: Path, position: Position) -> None:
    """Replace it whole; not forced to the disk, since an older one does no harm."""
    temporary = folder / "checkpoint.new"
    temporary.write_bytes(msgspec.json.encode(position))
    temporary.replace(folder / "checkpoint")
