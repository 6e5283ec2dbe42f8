"""pg_dump's directory as one stream, a tar file. `unpack.Unpacking` writes it back."""

from __future__ import annotations

import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

_CHUNK: Final = 1 << 20


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
