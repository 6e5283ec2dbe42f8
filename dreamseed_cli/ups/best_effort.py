"""Records are for afterwards: a disk that is full or read-only keeps no box from stopping in order."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import structlog

log = structlog.get_logger("ups")


class BestEffort:
    """Writes that nothing waits for. Of a file that cannot be written it is said once, until it could be."""

    def __init__(self) -> None:
        self._unwritten: set[Path] = set()

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
