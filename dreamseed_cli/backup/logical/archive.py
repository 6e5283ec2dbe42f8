"""pg_dump's directory as one stream, a tar file, and back."""

from __future__ import annotations

import tarfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, Final, cast

from dreamseed_cli.backup.pipeline import Joined
from dreamseed_cli.backup.store.files import os_errors
from dreamseed_cli.core.errors import FailedError

_CHUNK: Final = 1 << 20


class ArchiveInvalid(FailedError):
    """A stream that was proven whole is no archive of ours: the backup was made wrong."""

    kind = "archive_invalid"


def packed(folder: Path) -> Iterator[bytes]:
    """The folder's files as a tar file. Each is removed once it has been read."""
    for path in sorted(folder.iterdir()):
        info = tarfile.TarInfo(path.name)
        info.size = path.stat().st_size
        yield info.tobuf(tarfile.GNU_FORMAT)
        with path.open("rb") as file:
            while chunk := file.read(_CHUNK):
                yield chunk
        yield bytes(-info.size % tarfile.BLOCKSIZE)
        path.unlink()
    yield bytes(2 * tarfile.BLOCKSIZE)


def unpack(stream: Iterable[bytes], folder: Path) -> None:
    """Write the files of a packed folder. ArchiveInvalid if it is none, StoreFull if the disk is full."""
    try:
        with (
            os_errors(str(folder)),
            tarfile.open(fileobj=cast("IO[bytes]", Joined(stream)), mode="r|") as archive,
        ):
            archive.extractall(folder, filter="data")
    except tarfile.TarError as error:
        raise ArchiveInvalid(str(error), place=str(folder), remedy="Restore an older backup.") from error
