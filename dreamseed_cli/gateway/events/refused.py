"""Records that PostgreSQL does not take for what is in them: set aside, so that they hold up no other."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import msgspec
import structlog

_LIMIT_BYTES = 64 << 20
_log = structlog.get_logger(__name__)


class RefusedRecords:
    """The file `refused.jsonl` in the journal's folder, of bounded size. on_refused: told of every record."""

    def __init__(self, folder: Path, on_refused: Callable[[], None]) -> None:
        self.path = folder / "refused.jsonl"
        self._on_refused = on_refused

    def add(self, record: bytes, cause: str) -> None:
        """Keep one record with the reason. OSError if the disk does not take it."""
        self._on_refused()
        _log.error("event refused by PostgreSQL", cause=cause, place=str(self.path))
        if self.path.exists() and self.path.stat().st_size > _LIMIT_BYTES:
            self.path.replace(self.path.with_suffix(".jsonl.old"))
        line = msgspec.json.encode({"cause": cause, "record": msgspec.Raw(record)})
        with self.path.open("ab") as stream:
            stream.write(line + b"\n")
