"""A named restore point is found where it lies, and the backup to begin with before it."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from backup_runs import KEYS, Clock, PlayedSource, wish
from memory_store import MemoryStore

from dreamseed_cli.backup.catalog import Entry, read_catalog
from dreamseed_cli.backup.keys import parse_recipients
from dreamseed_cli.backup.names import Kind, wal_name
from dreamseed_cli.backup.physical.content import Archived
from dreamseed_cli.backup.physical.crc32c import crc32c
from dreamseed_cli.backup.pointed import Archive, find_base
from dreamseed_cli.backup.run import run_backup
from dreamseed_cli.backup.seal import seal, sha256
from dreamseed_cli.backup.wal.points import Point, find_points
from dreamseed_cli.backup.wal_names import MIB, SegmentRange, TimelineHistory, WalSegment, parse_wal_file
from dreamseed_cli.core.errors import UsageError

AT = datetime(2025, 11, 10, 3, 0, 0, 5, tzinfo=UTC)
PAGE = 8192
CONTENT = PAGE - 24
"""Bytes of records on a page, but for a segment's first."""


def record(name: str, at: datetime = AT) -> bytes:
    """As PostgreSQL writes it: what follows the name in its 64 bytes is whatever lay there."""
    microseconds = (at - datetime(2000, 1, 1, tzinfo=UTC)) // (datetime.resolution)
    padded = (name.encode() + b"\0").ljust(64, b"x")
    data = struct.pack("=BBq", 255, 72, microseconds) + padded
    head = struct.pack("=IIQBBxx", 24 + len(data), 0, 7, 0x70, 0)
    return head + struct.pack("=I", crc32c(data + head)) + data


def segment(number: int, content: bytes, *, pages: int = MIB // PAGE) -> tuple[WalSegment, bytes]:
    """A segment with this content, in pages; behind so many of them those of an earlier segment lie."""
    it = WalSegment(1, number, MIB)
    filled, out = content.ljust(MIB, b"."), b""
    for page in range(MIB // PAGE):
        address = it.start_lsn + page * PAGE - (0 if page < pages else MIB)
        head = struct.pack("=HHIQI4x", 0xD10D, 0 if page else 2, 1, address, 0)
        if not page:
            head += struct.pack("=QII", 7, MIB, PAGE)
        out += head + filled[: PAGE - len(head)]
        filled = filled[PAGE - len(head) :]
    return it, out


def test_points_are_found_across_pages_and_segments() -> None:
    """Wherever a record is divided, and with the place where it begins."""
    one, size = record("here"), len(record("here"))
    page_end, segment_end = PAGE - 40, PAGE - 40 + (MIB // PAGE - 1) * CONTENT
    for before in (0, page_end - 1, page_end - size, page_end - size // 2, page_end, segment_end - size):
        (point,) = find_points("here", [segment(3, b"-" * before + one)])
        inside = before + 40 if before < page_end else PAGE + 24 + (before - page_end)
        if before == segment_end - size:
            inside = MIB - size
        assert point == Point(3 * MIB + inside, AT)
    for part in (1, 34, size - 1):
        divided = [segment(3, b"-" * (segment_end - part) + one[:part]), segment(4, one[part:])]
        assert list(find_points("here", divided)) == [Point(4 * MIB - part, AT)]
        assert list(find_points("here", [divided[0], segment(5, one[part:])])) == []


def test_only_whole_records_of_that_very_name_count() -> None:
    """Neither its beginning nor its end, nor one with other bytes, nor what an older segment left behind."""
    for name in ("her", "ere", "there", "here2"):
        assert list(find_points(name, [segment(3, record("here"))])) == []
    whole = record("here")
    for at in (0, 17, 30, 40):
        broken = bytearray(whole)
        broken[at] ^= 1
        assert list(find_points("here", [segment(3, bytes(broken))])) == []
    assert list(find_points("here", [segment(3, b"-" * PAGE + whole, pages=1)])) == []
    assert len(list(find_points("기억", [segment(3, record("기억") * 3)]))) == 3


def archived(store: MemoryStore, *segments: tuple[WalSegment, bytes]) -> None:
    """Put them where `wal push` does."""
    for it, data in segments:
        sealed = seal(data, parse_recipients(KEYS.recipients, place=""))
        store.put(wal_name(parse_wal_file(it.name, MIB), sha256(data)), sealed.cipher)


def entries(store: MemoryStore, *ends: int) -> list[Entry]:
    """Physical backups, the newest first, that end at these places."""
    for _ in ends:
        run_backup(store, PlayedSource(kind=Kind.PHYSICAL), wish(Clock()))
    found = read_catalog(store).backups
    return [ended(entry, end) for entry, end in zip(found, ends, strict=True)]


def ended(entry: Entry, end: int) -> Entry:
    """At this place."""
    assert entry.manifest.wal is not None
    wal = entry.manifest.wal.model_copy(update={"stop_lsn": f"0/{end:X}", "segment_bytes": MIB})
    return replace(entry, manifest=entry.manifest.model_copy(update={"wal": wal}))


def searched(
    store: MemoryStore, name: str, backups: Sequence[Entry], hole: SegmentRange | None = None
) -> tuple[int, int]:
    """Which backup, the newest being 0, and where the point lies, in segments. hole: the first one."""
    reach = Archived((hole.first if hole else 9) * MIB, TimelineHistory(1), hole, MIB)
    archive = Archive(store, [KEYS.daily], lambda _entry: reach, lambda _plain, _stored: None)
    found = find_base(name, backups, archive)
    return backups.index(found.entry), found.first.lsn // MIB


@pytest.fixture
def store() -> MemoryStore:
    """With the segments 3 to 8; points in 4, 5 and 7."""
    made = MemoryStore()
    names = {4: "early", 5: "twice", 7: "twice"}
    archived(made, *(segment(n, record(names[n]) if n in names else b"") for n in range(3, 9)))
    return made


def test_the_newest_backup_before_a_point_is_the_base(store: MemoryStore) -> None:
    """However many were made since; the point is the first behind the base."""
    backups = entries(store, 6 * MIB + 5, 5 * MIB + 500, 3 * MIB + 5)
    assert searched(store, "twice", backups) == (0, 7)
    assert searched(store, "twice", backups[1:]) == (0, 7)
    assert searched(store, "twice", backups[2:]) == (0, 5)
    assert searched(store, "early", backups) == (2, 4)


def test_a_point_that_is_nowhere_is_told(store: MemoryStore) -> None:
    """With what was searched; one from before a backup's end too, if only that may be used."""
    backups = entries(store, 5 * MIB, 3 * MIB + 5)
    with pytest.raises(UsageError, match=r"no restore point of this name.* from 0/300005,.* to 0/900000"):
        searched(store, "never", backups)
    with pytest.raises(UsageError, match="no restore point"):
        searched(store, "early", backups[:1])
    with pytest.raises(UsageError, match="000000010000000000000006 is missing: behind that nobody can go"):
        searched(store, "never", backups[:1], SegmentRange(6, 6))


def test_each_segment_is_read_once(store: MemoryStore, tmp_path: Path) -> None:
    """But for those in which a backup ends."""
    backups = entries(store, 6 * MIB + 5, 3 * MIB + 5)
    asked: list[str] = []
    get = store.get

    def told(name: str, sha256: str | None = None) -> bytes:
        asked.append(name)
        return get(name, sha256)

    store.get = told  # type: ignore[method-assign]
    with pytest.raises(UsageError):
        searched(store, "never", backups)
    assert sorted(int(name.split("/")[-1][16:24], 16) for name in asked) == [3, 4, 5, 6, 6, 7, 8]
