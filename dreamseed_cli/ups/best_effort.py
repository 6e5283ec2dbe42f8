"""Records and logs are for afterwards: a disk that takes or gives nothing keeps no box from stopping."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TextIO, cast

import structlog

from dreamseed_cli.core.log import configure_logging

log = structlog.get_logger("ups")


class Unbroken(io.TextIOBase):
    """A stream whose lines are lost where it takes none: a full disk, a reader that is gone."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        with suppress(OSError, ValueError):
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        with suppress(OSError, ValueError):
            self._stream.flush()


def log_to_stderr() -> None:
    """Send log lines there, as far as it takes them."""
    configure_logging(cast("TextIO", Unbroken(sys.stderr)))


class BestEffort:
    """Reads and writes that nothing waits for. Of a file that fails it is said once, until it could be."""

    def __init__(self) -> None:
        self._unwritten: set[Path] = set()

    def read(self, path: Path) -> bytes:
        """Its bytes; none if there is no such file. An OSError is logged as one of a write is."""
        content = b""
        with self.write(path), suppress(FileNotFoundError, NotADirectoryError):
            content = path.read_bytes()
        return content

    @contextmanager
    def write(self, path: Path) -> Iterator[None]:
        """Write the file in the block; an OSError of it is logged and goes no further."""
        try:
            yield
        except OSError as error:
            if path not in self._unwritten:
                log.warning("ups_not_recorded", file=str(path), cause=error.strerror or str(error))
            self._unwritten.add(path)
        else:
            self._unwritten.discard(path)
