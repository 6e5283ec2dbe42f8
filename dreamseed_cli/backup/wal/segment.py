"""A WAL segment's first page, which says what the segment is: a file cut off or misplaced is no segment.

Source: XLogLongPageHeaderData in src/include/access/xlog_internal.h.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from dreamseed_cli.backup.wal_names import (
    DEFAULT_SEGMENT_BYTES,
    WalFile,
    WalKind,
    WalNameError,
    check_segment_bytes,
)
from dreamseed_cli.core.errors import FailedError

HEADER_BYTES: Final = 40
_LONG_HEADER: Final = 0x0002
_FORMAT: Final = struct.Struct("=HHIQI4xQII")  # in the machine's own byte order, as the server writes it
_NAME_DIGITS: Final = 24
_WITH_HEADER: Final = frozenset({WalKind.SEGMENT, WalKind.PARTIAL})
_CONTROL: Final = Path("global/pg_control")
_IDENTIFIER: Final = struct.Struct("=Q")
"""ControlFileData (src/include/catalog/pg_control.h) begins with the cluster's."""


class NotASegment(FailedError):
    """The bytes are not the WAL that the name promises."""

    kind = "not_a_segment"


class OtherCluster(FailedError):
    """The bytes are another cluster's WAL: recovery would take them for its own."""

    kind = "wal_other_cluster"


@dataclass(frozen=True, slots=True)
class SegmentHeader:
    """start_lsn: of its first byte. system_identifier: of the cluster that wrote it. size: in bytes."""

    start_lsn: int
    system_identifier: int
    size: int


def read_header(data: bytes, *, place: str) -> SegmentHeader:
    """NotASegment unless a segment begins so."""
    if len(data) < HEADER_BYTES:
        raise NotASegment(f"it has only {len(data)} bytes", place=place)
    _magic, info, _timeline, start, _rest, system, size, _block = _FORMAT.unpack_from(data)
    try:
        check_segment_bytes(size)
    except WalNameError as error:
        raise NotASegment("no WAL segment begins so", place=place) from error
    if not info & _LONG_HEADER:
        raise NotASegment("no WAL segment begins so", place=place)
    return SegmentHeader(start, system, size)


def check_content(file: WalFile, data: bytes, *, place: str, system: int | None = None) -> None:
    """NotASegment if a segment's bytes are cut off, or belong to another place in the WAL; OtherCluster.

    system: the identifier of the cluster whose it must be; None: anybody's.
    """
    if file.segment is None or file.kind not in _WITH_HEADER:
        return
    header = read_header(data, place=place)
    if len(data) != header.size:
        raise NotASegment(f"it has {len(data)} bytes, a segment here has {header.size}", place=place)
    if header.start_lsn != file.segment.start_lsn:
        raise NotASegment("its first page belongs to another place in the WAL", place=place)
    if system is not None and header.system_identifier != system:
        raise OtherCluster(
            f"the cluster {header.system_identifier} wrote it, and this one is {system}",
            place=place,
            remedy="Give every cluster a store of its own: another folder or prefix in backup.store.",
        )


def system_in(file: WalFile, data: bytes) -> int | None:
    """The identifier of the cluster that wrote a file (checked); None for a history or a label."""
    return read_header(data, place=file.name).system_identifier if file.kind in _WITH_HEADER else None


def system_of(data_folder: Path) -> int | None:
    """The identifier of the cluster in a data folder; None where there is no pg_control to ask."""
    try:
        with (data_folder / _CONTROL).open("rb") as file:
            return int(_IDENTIFIER.unpack(file.read(_IDENTIFIER.size))[0])
    except (OSError, struct.error):
        return None


def segment_bytes(folder: Path) -> int:
    """wal_segment_size, as the segments in a `pg_wal` folder have it; 16 MiB if there is none to ask."""
    for path in sorted(folder.iterdir(), reverse=True):
        if len(path.name) != _NAME_DIGITS or not path.is_file():
            continue
        with path.open("rb") as file:
            start = file.read(HEADER_BYTES)
        try:
            return read_header(start, place=str(path)).size
        except NotASegment:
            continue  # made ready for later, and still empty
    return DEFAULT_SEGMENT_BYTES
