"""A `pg_wal` folder as PostgreSQL fills it, without PostgreSQL."""

from __future__ import annotations

import os
import struct
from pathlib import Path

from dreamseed_cli.backup.wal_names import MIB, WalSegment

SIZE = MIB
"""wal_segment_size of these tests."""
SYSTEM = 77
"""The identifier of the cluster that wrote them."""


def segment(number: int, timeline: int = 1) -> WalSegment:
    """Segment by number."""
    return WalSegment(timeline, number, SIZE)


def content(of: WalSegment, fill: bytes = b"", system: int = SYSTEM) -> bytes:
    """A segment's bytes: a true first page header, then `fill` over and over."""
    header = struct.pack("=HHIQI4xQII", 0xD118, 2, of.timeline, of.start_lsn, 0, system, of.size, 8192)
    body = (fill or of.name.encode()) * (of.size // max(len(fill or of.name), 1) + 1)
    return (header + body)[: of.size]


class PgWal:
    """The folder. ready() puts a file in and marks it as one that waits to be archived."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "archive_status").mkdir(parents=True)

    def ready(self, name: str, data: bytes, since: float | None = None) -> Path:
        path = self.folder / name
        path.write_bytes(data)
        if since is not None:
            os.utime(path, (since, since))
        (self.folder / "archive_status" / f"{name}.ready").touch()
        return path

    def ready_segment(self, number: int, timeline: int = 1, since: float | None = None) -> Path:
        found = segment(number, timeline)
        return self.ready(found.name, content(found), since)
