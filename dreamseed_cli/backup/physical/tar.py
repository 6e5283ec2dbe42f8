"""A tar archive as pg_basebackup writes it, while it flows by: members come as they pass, nothing is kept.

Its own few lines, since `tarfile` wants to pull, copies everything in small blocks, and follows what a forged
archive says.
"""

from __future__ import annotations

import tarfile
from typing import Final, Protocol

from dreamseed_cli.core.errors import FailedError

_BLOCK: Final = tarfile.BLOCKSIZE
_ZEROS: Final = bytes(_BLOCK)


class TarBroken(FailedError):
    """Not the tar archive that a base backup is: cut off, damaged, or with members of no place there."""

    kind = "tar_broken"


class Handler(Protocol):
    """Gets the members in order. begin: a file or a folder; data: pieces of it; end: it is whole."""

    def begin(self, path: str, mode: int, *, folder: bool) -> None: ...

    def data(self, piece: memoryview) -> None: ...

    def end(self) -> None: ...


class TarReader:
    """Takes the archive's bytes in any portions, and tells the handler what they are."""

    def __init__(self, handler: Handler, *, place: str) -> None:
        self._handler = handler
        self._place = place
        self._header = bytearray()
        self._left = 0
        self._padding = 0
        self._open = False
        self._ended = False

    def feed(self, chunk: bytes) -> None:
        """The next bytes. TarBroken, and whatever the handler raises."""
        rest = memoryview(chunk)
        while rest:
            if self._left:
                rest = self._content(rest)
            elif self._padding:
                skipped = min(self._padding, len(rest))
                self._padding -= skipped
                rest = rest[skipped:]
            else:
                rest = self._head(rest)

    def finish(self) -> None:
        """No more bytes will come. TarBroken if the archive has no end yet."""
        if not self._ended or self._header:
            raise self._broken("it is cut off")

    def _content(self, rest: memoryview) -> memoryview:
        piece = rest[: self._left]
        self._handler.data(piece)
        self._left -= len(piece)
        if not self._left:
            self._handler.end()
        return rest[len(piece) :]

    def _head(self, rest: memoryview) -> memoryview:
        wanted = _BLOCK - len(self._header)
        self._header += rest[:wanted]
        if len(self._header) == _BLOCK:
            header = bytes(self._header)
            self._header.clear()
            self._member(header)
        return rest[wanted:]

    def _member(self, header: bytes) -> None:
        if header == _ZEROS:
            self._ended = True
            return
        if self._ended:
            raise self._broken("something follows its end")
        try:
            found = tarfile.TarInfo.frombuf(header, "utf-8", "surrogateescape")
        except tarfile.HeaderError as error:
            raise self._broken(f"a member's header is damaged ({error})") from error
        if not (found.isreg() or found.isdir()) or found.size < 0:
            raise self._broken(f"'{found.name}' is neither a file nor a folder")
        if not is_safe(found.name):
            raise self._broken(f"'{found.name}' would leave the data folder")
        self._handler.begin(found.name, found.mode, folder=found.isdir())
        self._left = found.size if found.isreg() else 0
        self._padding = -self._left % _BLOCK
        if not self._left:
            self._handler.end()

    def _broken(self, cause: str) -> TarBroken:
        return TarBroken(cause, place=self._place, remedy="Restore an older backup: dreamseed backup list.")


def is_safe(path: str) -> bool:
    """Whether it stays below the folder that it is joined to."""
    steps = path.removeprefix("./").rstrip("/").split("/")
    return not path.startswith("/") and "\0" not in path and ".." not in steps and "" not in steps[:-1]
