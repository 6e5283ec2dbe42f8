"""Where a named restore point lies in WAL. Recovery itself finds out last, when it has replayed everything.

A record is found by the name in it and believed by its CRC. Records go on across pages, and from one segment
into the next; between them stand only the pages' headers.

Source: src/include/access/xlogrecord.h (XLogRecord), xlog_internal.h (xl_restore_point, XLogPageHeaderData).
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from dreamseed_cli.backup.physical.crc32c import crc32c
from dreamseed_cli.backup.wal_names import WalSegment

_SHORT_HEADER: Final = 24
_LONG_HEADER: Final = 40
_ADDRESS: Final = struct.Struct("=8xQ")
"""Of a page's header: where in the WAL it lies. One made ready for later bears an earlier place."""
_BLOCK: Final = struct.Struct("=36xI")
_RECORD: Final = struct.Struct("=I4x8xBB2xIBBq")
"""Total length, kind, resource manager, CRC; 255 and the length of what follows: a time, then the name."""
_NAME_AT: Final = _RECORD.size
_RECORD_HEADER: Final = 24
_CRC_AT: Final = 20
_NAME_BYTES: Final = 64
_LENGTH: Final = _NAME_AT + _NAME_BYTES
_XLOG: Final = 0
_RESTORE_POINT: Final = 0x70
_SHORT_DATA: Final = 0xFF
_POSTGRES_EPOCH: Final = datetime(2000, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Point:
    """A restore point. lsn: where its record begins. at: when it was made, by the server's clock."""

    lsn: int
    at: datetime


def find_points(name: str, segments: Iterable[tuple[WalSegment, bytes]]) -> Iterator[Point]:
    """All of that name, in order. segments: whole ones, in the order in which recovery reads them. Pure."""
    wanted = name.encode() + b"\0"
    before = _Body()
    for segment, data in segments:
        if before.segment is None or segment.number != before.segment.number + 1:
            before = _Body()
        body = _Body.of(segment, data)
        carried = before.content[-(_LENGTH - 1) :]
        text = carried + body.content
        for at in _places(text, wanted):
            moment = _made_at(text[at : at + _LENGTH])
            if moment is not None:
                inside = at - len(carried)
                lsn = body.lsn(inside) if inside >= 0 else before.lsn(len(before.content) + inside)
                yield Point(lsn, moment)
        before = body


@dataclass(frozen=True, slots=True)
class _Body:
    """A segment without its pages' headers, up to the first page that was not written to."""

    content: bytes = b""
    segment: WalSegment | None = None
    page: int = 0

    @classmethod
    def of(cls, segment: WalSegment, data: bytes) -> _Body:
        (page,) = _BLOCK.unpack_from(data)
        pieces = []
        for start in range(0, len(data), page):
            if _ADDRESS.unpack_from(data, start)[0] != segment.start_lsn + start:
                break
            pieces.append(data[start + (_SHORT_HEADER if start else _LONG_HEADER) : start + page])
        return cls(b"".join(pieces), segment, page)

    def lsn(self, index: int) -> int:
        """Of a byte of the content."""
        assert self.segment is not None  # noqa: S101 - one without has no bytes
        first = self.page - _LONG_HEADER
        if index < first:
            return self.segment.start_lsn + _LONG_HEADER + index
        pages, rest = divmod(index - first, self.page - _SHORT_HEADER)
        return self.segment.start_lsn + (pages + 1) * self.page + _SHORT_HEADER + rest


def _places(text: bytes, wanted: bytes) -> Iterator[int]:
    """Where a record could begin that has this name in it."""
    found = text.find(wanted, _NAME_AT)
    while found >= 0:
        yield found - _NAME_AT
        found = text.find(wanted, found + 1)


def _made_at(record: bytes) -> datetime | None:
    """When a restore point was made; None: these bytes are none."""
    if len(record) != _LENGTH:
        return None
    length, kind, manager, crc, mark, size, microseconds = _RECORD.unpack_from(record)
    shape = (length, kind & 0xF0, manager, mark, size)
    if shape != (_LENGTH, _RESTORE_POINT, _XLOG, _SHORT_DATA, _LENGTH - _RECORD_HEADER - 2):
        return None
    if crc32c(record[_RECORD_HEADER:] + record[:_CRC_AT]) != crc:
        return None
    return _POSTGRES_EPOCH + timedelta(microseconds=microseconds)
