"""What the store's `wal/` holds of a file, of a timeline, and as a whole."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from dreamseed_cli.backup.keys import Identity
from dreamseed_cli.backup.names import WAL, NameInvalid, WalObject, parse_wal_object, wal_name, wal_prefix
from dreamseed_cli.backup.seal import Expected, open_sealed
from dreamseed_cli.backup.store.base import Store
from dreamseed_cli.backup.store.errors import ObjectConflict, ObjectMissing
from dreamseed_cli.backup.wal_names import (
    DEFAULT_SEGMENT_BYTES,
    TimelineHistory,
    WalFile,
    WalKind,
    WalSegment,
    parse_wal_file,
)


@dataclass(frozen=True, slots=True)
class Listing:
    """All that was archived. conflicts: names with two different contents. foreign: objects not ours."""

    segments: tuple[WalSegment, ...]
    histories: tuple[int, ...]
    """Timelines whose history file is there, ascending."""
    conflicts: tuple[str, ...]
    foreign: tuple[str, ...]
    stored_bytes: int


def read_listing(store: Store, size: int = DEFAULT_SEGMENT_BYTES) -> Listing:
    """List the archive; size: wal_segment_size. Nothing is downloaded."""
    seen: dict[str, WalObject] = {}
    conflicts: list[str] = []
    foreign: list[str] = []
    stored_bytes = 0
    for stored in store.list(WAL):
        try:
            found = parse_wal_object(stored.name, size)
        except NameInvalid:
            foreign.append(stored.name)
            continue
        stored_bytes += stored.size
        if found.file.name in seen:
            conflicts.append(found.file.name)
        seen[found.file.name] = found
    files = [found.file for found in seen.values()]
    return Listing(
        segments=tuple(sorted(f.segment for f in files if f.kind is WalKind.SEGMENT and f.segment)),
        histories=tuple(sorted(f.timeline for f in files if f.kind is WalKind.HISTORY)),
        conflicts=tuple(conflicts),
        foreign=tuple(foreign),
        stored_bytes=stored_bytes,
    )


def find(store: Store, file: WalFile) -> list[WalObject]:
    """The objects of this very file: none, one, or several of different content."""
    return [found for found in _objects(store, wal_prefix(file), _size(file)) if found.file.name == file.name]


def anything_behind(store: Store, file: WalFile) -> str | None:
    """The name of something in the archive that proves that this file was once there, or None.

    For a segment: a later one of its timeline. For a history file: any segment of that timeline.
    """
    for found in _objects(store, f"{WAL}{file.timeline:08X}/", _size(file)):
        segment = found.file.segment
        if segment is None or found.file.kind is not WalKind.SEGMENT:
            continue
        if file.segment is None or segment.number > file.segment.number:
            return segment.name
    return None


def read_file(store: Store, found: WalObject, identities: Sequence[Identity]) -> bytes:
    """The plain bytes of an archived file, proven to be those that its name promises."""
    name = wal_name(found.file, found.sha256)
    cipher = store.get(name)
    return bytes(open_sealed(cipher, identities, Expected(f"{store.name}: {name}", found.sha256)))


def the_one(store: Store, file: WalFile) -> WalObject | None:
    """The file's object; None if there is none. ObjectConflict if two contents have its name."""
    objects = find(store, file)
    if len(objects) > 1:
        raise ObjectConflict(
            f"{len(objects)} different contents are archived under this name",
            place=f"{store.name}: {wal_prefix(file)}",
            remedy="Two servers archived here. Find out which content is right, and delete the other.",
        )
    return objects[0] if objects else None


def read_history(store: Store, timeline: int, identities: Sequence[Identity]) -> TimelineHistory:
    """A timeline's history as archived; timeline 1 has none. ObjectMissing, or the reader's errors."""
    if timeline == 1:
        return TimelineHistory(1)
    file = parse_wal_file(f"{timeline:08X}.history")
    found = the_one(store, file)
    if found is None:
        raise ObjectMissing("the timeline's history is not archived", place=f"{store.name}: {file.name}")
    return TimelineHistory.parse(file.name, read_file(store, found, identities).decode())


def _objects(store: Store, prefix: str, size: int) -> Iterator[WalObject]:
    for stored in store.list(prefix):
        try:
            yield parse_wal_object(stored.name, size)
        except NameInvalid:
            continue  # what is foreign proves nothing


def _size(file: WalFile) -> int:
    return file.segment.size if file.segment else DEFAULT_SEGMENT_BYTES
