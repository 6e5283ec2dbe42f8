"""A tar archive as pg_basebackup writes it, while it flows by: members come as they pass, nothing is kept.

Its own few lines, since `tarfile` wants to pull, copies everything in small blocks, and follows what a forged
archive says.
"""

from __future__ import annotations

import tarfile
from typing import Final, Protocol

from dreamseed_cli.core.errors import FailedError

BLOCK: Final = tarfile.BLOCKSIZE
_ZEROS: Final = bytes(BLOCK)


class TarBroken(FailedError):
    """Not the tar archive that a base backup is: cut off, damaged, or with members of no place there."""

    kind = "tar_broken"


class Handler(Protocol):
    """Gets the members in order. header: as it stands in the archive, the zeros at the end too; begin: a file
    or a folder; data: pieces of it; end: it is whole.
    """

    def header(self, block: bytes) -> None: ...

    def begin(self, path: str, mode: int, *, folder: bool) -> None: ...

    def data(self, piece: memoryview) -> None: ...

    def end(self) -> None: ...


class TarReader:
    """Takes the archive's bytes in any portions, and tells the handler what they are. handler: may be another
    one for the bytes that follow.
    """

    def __init__(self, handler: Handler, *, place: str) -> None:
        self.handler = handler
        self._place = place
        self._header = bytearray()
        self._left = 0
        self._padding = 0
        self._open = False
        self._ended = False

    def feed(self, chunk: bytes | memoryview) -> None:
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
            raise _broken("it is cut off", self._place)

    def _content(self, rest: memoryview) -> memoryview:
        piece = rest[: self._left]
        self.handler.data(piece)
        self._left -= len(piece)
        if not self._left:
            self.handler.end()
        return rest[len(piece) :]

    def _head(self, rest: memoryview) -> memoryview:
        wanted = BLOCK - len(self._header)
        self._header += rest[:wanted]
        if len(self._header) == BLOCK:
            header = bytes(self._header)
            self._header.clear()
            self._member(header)
        return rest[wanted:]

    def _member(self, header: bytes) -> None:
        found = parse_header(header, self._place)
        if found is not None and self._ended:
            raise _broken("something follows its end", self._place)
        self.handler.header(header)
        if found is None:
            self._ended = True
            return
        self.handler.begin(found.name, found.mode, folder=found.isdir())
        self._left = found.size if found.isreg() else 0
        self._padding = -self._left % BLOCK
        if not self._left:
            self.handler.end()


def parse_header(block: bytes, place: str) -> tarfile.TarInfo | None:
    """A file or a folder, at a place of its own; None: zeros, the end. TarBroken for all else."""
    if block == _ZEROS:
        return None
    try:
        found = tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
    except tarfile.HeaderError as error:
        raise _broken(f"a member's header is damaged ({error})", place) from error
    if not (found.isreg() or found.isdir()) or found.size < 0:
        raise _broken(f"'{found.name}' is neither a file nor a folder", place)
    if not is_safe(found.name):
        raise _broken(f"'{found.name}' would leave the data folder", place)
    return found


def _broken(cause: str, place: str) -> TarBroken:
    return TarBroken(cause, place=place, remedy="Restore an older backup: dreamseed backup list.")


def is_safe(path: str) -> bool:
    """Whether it stays below the folder that it is joined to."""
    steps = path.removeprefix("./").rstrip("/").split("/")
    return not path.startswith("/") and "\0" not in path and ".." not in steps and "" not in steps[:-1]
