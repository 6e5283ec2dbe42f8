"""A backup's tar into a folder, and on from where that was interrupted.

Beside the files a journal takes the tar's headers, each before its file is made: so the stream can be read
back from the folder. Its parts are kept as long as their SHA-256 is the manifest's, and all that lies behind
them is removed. So nothing needs to be synced on the way, and nothing that changed meanwhile is trusted.
Files and journal together are no larger than the tar.
"""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Collection, Container, Generator, Sequence
from contextlib import closing, suppress
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Final, Self

from dreamseed_cli.backup import ending
from dreamseed_cli.backup.manifest import StoredPart
from dreamseed_cli.backup.pipeline import Joined
from dreamseed_cli.backup.seal import sha256
from dreamseed_cli.backup.store.files import os_errors, write_all
from dreamseed_cli.backup.tar import BLOCK, TarBroken, TarReader, parse_header

JOURNAL: Final = "dreamseed-restore-headers"
"""Its name, in the folder."""
_CHUNK: Final = 1 << 20
_SENT_AT_ONCE: Final = 16 << 20
"""Bytes of a file that are gathered before the disk is sent to work."""


class Unpacking:
    """Takes a tar's bytes in any portions (see tar.TarReader). A context manager."""

    def __init__(self, folder: Path, *, place: str) -> None:
        self._folder = folder
        with os_errors(str(folder)):
            flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW
            fd = os.open(folder / JOURNAL, flags, 0o600)
            self._journal: BinaryIO = os.fdopen(fd, "r+b", buffering=0)
        self._writer = _Writer(folder, self._journal)
        self._reader = TarReader(self._writer, place=place)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._writer.close()
        self._journal.close()

    def take_up(self, parts: Sequence[StoredPart], beside: Collection[str] = ()) -> int:
        """How many bytes of the stream lie here, in whole parts, proven; what else lies here is removed.

        parts: of the stream, in order. beside: what else stays, by name. Before the first feed(). Raises
        TarBroken.
        """
        there, size = _There(), 0
        self._reader.handler = there
        with os_errors(str(self._folder)), closing(_read_back(self._folder, self._journal)) as chunks:
            lying = Joined(chunks)
            for part in parts:
                ending.check()
                piece = lying.read(part.plain_size)
                if sha256(piece) != part.plain_sha256:
                    break
                self._reader.feed(piece)
                size += len(piece)
        with os_errors(str(self._folder)):
            _clear(self._folder, there.paths.union(beside))
            self._journal.truncate(there.headers * BLOCK)
        if there.open is not None:
            self._writer.go_on(there.open, there.size)
        self._reader.handler = self._writer
        return size

    def feed(self, piece: bytes | memoryview) -> None:
        """The next bytes. TarBroken, StoreFull (the disk is full)."""
        self._reader.feed(piece)

    def finish(self) -> None:
        """No more bytes will come. TarBroken if the archive has no end yet."""
        self._reader.finish()


def was_open_to_group(folder: Path) -> bool:
    """Whether a group could read the files where the tar was made, as the first one's header says."""
    with os_errors(str(folder)), (folder / JOURNAL).open("rb") as journal:
        while len(block := journal.read(BLOCK)) == BLOCK:
            member = parse_header(block, str(folder))
            if member is not None and not member.isdir():
                return bool(member.mode & stat.S_IRGRP)
    return False


class _Writer:
    """Writes a tar's members below a folder, and only there: no link is followed, no file overwritten. Each
    header is written down before its file is made.

    Without fsync: recovery, which always follows, syncs the whole folder first (SyncDataDirectory). The disk
    is sent to work here already, so that little is left for that.
    """

    def __init__(self, folder: Path, journal: BinaryIO) -> None:
        self._folder = folder
        self._journal = journal
        self._file: BinaryIO | None = None
        self._size = 0
        self._sent = 0

    def go_on(self, path: str, size: int) -> None:
        """With a file that is there, behind its first bytes; the others go."""
        target = self._folder / path
        with os_errors(str(target)):
            self._file = os.fdopen(os.open(target, os.O_WRONLY | os.O_NOFOLLOW), "wb", buffering=0)
            self._file.truncate(size)
            self._file.seek(size)
        self._size = self._sent = size

    def header(self, block: bytes) -> None:
        with os_errors(str(self._folder)):
            write_all(self._journal, block)

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
            self._size = self._sent = 0

    def data(self, piece: memoryview) -> None:
        if self._file is None:
            return
        with os_errors(str(self._folder)):
            write_all(self._file, piece)
        self._size += len(piece)
        if self._size - self._sent >= _SENT_AT_ONCE:
            self._send()

    def end(self) -> None:
        self._send()
        self.close()

    def close(self) -> None:
        """The file that is open, if there is one."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _send(self) -> None:
        """Let the system begin to write what is new, without waiting for it."""
        if self._file is not None and hasattr(os, "posix_fadvise"):
            # Dirty pages cannot be dropped, as this asks for: they are written, and stay.
            with suppress(OSError):
                os.posix_fadvise(
                    self._file.fileno(), self._sent, self._size - self._sent, os.POSIX_FADV_DONTNEED
                )
            self._sent = self._size


class _There:
    """Of members that lie there already. open: the one whose end has not come; size: how much of it has."""

    def __init__(self) -> None:
        self.headers = 0
        self.paths = {JOURNAL}
        self.open: str | None = None
        self.size = 0

    def header(self, block: bytes) -> None:
        self.headers += len(block) // BLOCK

    def begin(self, path: str, mode: int, *, folder: bool) -> None:
        self.paths.add(os.path.normpath(path))
        self.open, self.size = None if folder else path, 0

    def data(self, piece: memoryview) -> None:
        self.size += len(piece)

    def end(self) -> None:
        self.open = None


def _clear(folder: Path, kept: Container[str], below: str = "") -> None:
    """Remove everything that is not kept. kept: paths from the folder on, of folders too. OSError."""
    for entry in os.scandir(folder / below):
        path = f"{below}{entry.name}"
        if not entry.is_dir(follow_symlinks=False):
            if path not in kept:
                Path(entry.path).unlink()
        elif path in kept:
            _clear(folder, kept, f"{path}/")
        else:
            shutil.rmtree(entry.path)


def _read_back(folder: Path, journal: BinaryIO) -> Generator[bytes, None, None]:
    """The tar as journal and files give it, until something lies there otherwise than its header says."""
    journal.seek(0)
    while len(block := journal.read(BLOCK)) == BLOCK:
        try:
            member = parse_header(block, str(folder))
        except TarBroken:
            return
        if member is None:
            yield block
        elif member.isdir():
            if not stat.S_ISDIR(_mode(folder / member.name)):
                return
            yield block
        else:
            file = _opened(folder / member.name, member.size)
            if file is None:
                return
            with file:
                yield block
                yield from iter(lambda: file.read(_CHUNK), b"")  # noqa: B023 - used up before the next one
                if file.tell() != member.size:
                    return
            yield bytes(-member.size % BLOCK)


def _mode(path: Path) -> int:
    """Of what lies there, no link followed; 0: nothing."""
    try:
        return path.lstat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        return 0


def _opened(path: Path, most: int) -> BinaryIO | None:
    """A file of no more bytes than that; None: there is none."""
    if not stat.S_ISREG(_mode(path)) or path.lstat().st_size > most:
        return None
    return path.open("rb", buffering=0)
