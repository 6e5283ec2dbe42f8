"""What objects in a store are called. One store (a bucket's prefix, a folder) belongs to one cluster.

    backups/<backup id>/manifest.json            alone makes a backup exist
    backups/<backup id>/parts/000000             sealed pieces, numbered from 0
    wal/<timeline>/<WAL file>.<sha256>           sha256 of the plain bytes
    blobs/<sha256>                               a folder's contents, stored once
    verifications/<backup id>/<stamp>.<level>    what was proven later: manifests are never changed
    pins/<backup id>
    heartbeats/<stamp>.<timeline>.<LSN>          where the server's WAL stood at a moment
    clusters/<system identifier>                 whose the store is: see owner

Names hold digests of plain bytes, as the same bytes sealed twice differ: whoever can list the store can tell
whether it holds a file that he has himself, and nothing else.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from secrets import token_hex
from typing import Final

from dreamseed_cli.backup.wal_names import DEFAULT_SEGMENT_BYTES, WalFile, WalNameError, parse_wal_file
from dreamseed_cli.core.errors import FailedError

BACKUPS: Final = "backups/"
WAL: Final = "wal/"
BLOBS: Final = "blobs/"
VERIFICATIONS: Final = "verifications/"
PINS: Final = "pins/"
HEARTBEATS: Final = "heartbeats/"
CLUSTERS: Final = "clusters/"

BACKUP_ID_PATTERN: Final = r"[0-9]{8}T[0-9]{6}Z-(?:logical|physical)-[0-9a-f]{8}"
SHA256_PATTERN: Final = r"[0-9a-f]{64}"
_STAMP: Final = "%Y%m%dT%H%M%SZ"
_MOST_PARTS: Final = 1_000_000

_BACKUP_OBJECT: Final = re.compile(rf"backups/({BACKUP_ID_PATTERN})/(?:manifest\.json|parts/([0-9]{{6}}))")
_WAL_OBJECT: Final = re.compile(rf"wal/([0-9A-F]{{8}})/([0-9A-Za-z.]+)\.({SHA256_PATTERN})")
_VERIFICATION: Final = re.compile(rf"verifications/({BACKUP_ID_PATTERN})/([0-9]{{8}}T[0-9]{{6}}Z)\.([a-z-]+)")
_CLUSTER: Final = re.compile(r"clusters/([0-9]{1,20})")
_HEARTBEAT: Final = re.compile(r"heartbeats/([0-9]{8}T[0-9]{6}Z)\.([0-9A-F]{8})\.([0-9A-F]{16})")


class NameInvalid(FailedError):
    """No object of ours is called so."""

    kind = "name_invalid"


class Kind(StrEnum):
    """How a backup was made."""

    LOGICAL = "logical"
    """`pg_dump`, a database at a time: restores into any newer server, to the moment of its snapshot."""
    PHYSICAL = "physical"
    """`pg_basebackup`: restores to any moment from its end on, with the archived WAL."""


def new_backup_id(kind: Kind, now: datetime, suffix: str | None = None) -> str:
    """`20251110T030000Z-physical-7f3a9c01`. The suffix (random) keeps ids apart when a clock is set back.

    Ids sort by their stamp, which a wrong clock can falsify: `Manifest.sequence` tells which is newer.
    """
    return f"{stamp(now)}-{kind}-{suffix or token_hex(4)}"


def stamp(moment: datetime) -> str:
    """A moment as it stands in names: UTC, whole seconds."""
    if moment.tzinfo is None:
        raise NameInvalid("a moment without a time zone cannot be named", place=moment.isoformat())
    return moment.astimezone(UTC).strftime(_STAMP)


def parse_stamp(text: str) -> datetime:
    """The moment of a stamp. NameInvalid if there is no such moment."""
    try:
        return datetime.strptime(text, _STAMP).replace(tzinfo=UTC)
    except ValueError as error:
        raise NameInvalid("not a moment such as 20251110T030000Z", place=text) from error


@dataclass(frozen=True, slots=True)
class BackupId:
    """A backup's id, taken apart."""

    stamp: datetime
    kind: Kind
    suffix: str


def parse_backup_id(text: str) -> BackupId:
    """NameInvalid if it is no id of a backup."""
    if re.fullmatch(BACKUP_ID_PATTERN, text) is None:
        raise NameInvalid(
            "not the id of a backup, such as 20251110T030000Z-physical-7f3a9c01",
            place=text,
            remedy="dreamseed backup list shows them.",
        )
    moment, kind, suffix = text.split("-")
    return BackupId(parse_stamp(moment), Kind(kind), suffix)


def manifest_name(backup_id: str) -> str:
    """The object that makes a backup exist."""
    parse_backup_id(backup_id)
    return f"{BACKUPS}{backup_id}/manifest.json"


def part_name(backup_id: str, index: int) -> str:
    """The object of a part; index: from 0, up to 999,999."""
    parse_backup_id(backup_id)
    if not 0 <= index < _MOST_PARTS:
        raise NameInvalid(
            "a backup has at most a million parts", place=str(index), remedy="Make parts larger."
        )
    return f"{BACKUPS}{backup_id}/parts/{index:06d}"


@dataclass(frozen=True, slots=True)
class BackupObject:
    """An object under `backups/`. part: None for the manifest."""

    backup_id: str
    part: int | None


def parse_backup_object(name: str) -> BackupObject:
    """NameInvalid if nothing under `backups/` is called so."""
    found = _BACKUP_OBJECT.fullmatch(name)
    if found is None:
        raise NameInvalid("neither a backup's manifest nor a part of one", place=name)
    return BackupObject(found[1], None if found[2] is None else int(found[2]))


@dataclass(frozen=True, slots=True)
class WalObject:
    """An archived WAL file. sha256: of its plain bytes."""

    file: WalFile
    sha256: str


def wal_prefix(file: WalFile) -> str:
    """What every object of this WAL file begins with: a second one there holds other bytes."""
    return f"{WAL}{file.timeline:08X}/{file.name}."


def wal_name(file: WalFile, sha256: str) -> str:
    """The object of a WAL file; sha256: of its plain bytes."""
    return wal_prefix(file) + _digest(sha256)


def parse_wal_object(name: str, size: int = DEFAULT_SEGMENT_BYTES) -> WalObject:
    """size: wal_segment_size. NameInvalid if nothing under `wal/` is called so."""
    found = _WAL_OBJECT.fullmatch(name)
    if found is None:
        raise NameInvalid("not an archived WAL file", place=name)
    try:
        file = parse_wal_file(found[2], size)
    except WalNameError as error:
        raise NameInvalid(error.cause, place=name) from error
    if file.timeline != int(found[1], 16):
        raise NameInvalid("lies in the folder of another timeline", place=name)
    return WalObject(file, found[3])


def blob_name(sha256: str) -> str:
    """The object of a folder's content; sha256: of its plain bytes."""
    return BLOBS + _digest(sha256)


def pin_name(backup_id: str) -> str:
    """The object that keeps a backup from being pruned."""
    parse_backup_id(backup_id)
    return PINS + backup_id


def parse_pin(name: str) -> str:
    """The id of a pinned backup."""
    backup_id = name.removeprefix(PINS)
    parse_backup_id(backup_id)
    return backup_id


@dataclass(frozen=True, slots=True)
class VerificationObject:
    """A proof that was made after the backup. level: a `manifest.Level`."""

    backup_id: str
    at: datetime
    level: str


def verification_name(backup_id: str, at: datetime, level: str) -> str:
    """The object that says what was proven of a backup, and when."""
    parse_backup_id(backup_id)
    return f"{VERIFICATIONS}{backup_id}/{stamp(at)}.{level}"


def parse_verification(name: str) -> VerificationObject:
    """NameInvalid if nothing under `verifications/` is called so."""
    found = _VERIFICATION.fullmatch(name)
    if found is None:
        raise NameInvalid("not a verification of a backup", place=name)
    return VerificationObject(found[1], parse_stamp(found[2]), found[3])


def cluster_name(system: str) -> str:
    """The object that says that the store is this cluster's; system: PostgreSQL's identifier of it."""
    name = CLUSTERS + system
    parse_cluster(name)
    return name


def parse_cluster(name: str) -> str:
    """NameInvalid if nothing under `clusters/` is called so."""
    found = _CLUSTER.fullmatch(name)
    if found is None:
        raise NameInvalid("not a cluster's system identifier", place=name)
    return found[1]


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """Where the server's WAL stood at a moment."""

    at: datetime
    timeline: int
    lsn: int


def heartbeat_name(beat: Heartbeat) -> str:
    """A name says it all: a listing needs no download."""
    return f"{HEARTBEATS}{stamp(beat.at)}.{beat.timeline:08X}.{beat.lsn:016X}"


def parse_heartbeat(name: str) -> Heartbeat:
    """NameInvalid if nothing under `heartbeats/` is called so."""
    found = _HEARTBEAT.fullmatch(name)
    if found is None:
        raise NameInvalid("not a heartbeat", place=name)
    return Heartbeat(parse_stamp(found[1]), int(found[2], 16), int(found[3], 16))


def _digest(sha256: str) -> str:
    if re.fullmatch(SHA256_PATTERN, sha256) is None:
        raise NameInvalid("not a SHA-256 in lower-case hexadecimal digits", place=sha256)
    return sha256
