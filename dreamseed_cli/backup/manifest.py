"""A backup's manifest: everything that is known of it. It goes up last, and alone makes a backup exist.

It lies in the store unencrypted (a host that only has public keys must be able to list and prune) and holds
no data: names, sizes and digests only. It is never changed; later proofs and pins are objects of their own.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any, Final, Literal, Self

from pydantic import AwareDatetime, Field, ValidationError, model_validator
from pydantic_core import ErrorDetails

from dreamseed_cli.backup.names import BACKUP_ID_PATTERN, SHA256_PATTERN, Kind, parse_backup_id
from dreamseed_cli.backup.wal_names import WalNameError, check_segment_bytes, parse_lsn
from dreamseed_cli.core.errors import DreamseedError, ErrorGroup, FailedError
from dreamseed_cli.profile.part import Part

VERSION: Final = 1

Sha256 = Annotated[str, Field(pattern=rf"^{SHA256_PATTERN}$")]
Lsn = Annotated[str, Field(pattern=r"^[0-9A-F]{1,8}/[0-9A-F]{1,8}$")]
Bytes = Annotated[int, Field(ge=0)]
Named = Annotated[str, Field(min_length=1)]
Recipient = Annotated[str, Field(pattern=r"^age1[0-9a-z]{10,}$")]


class ManifestInvalid(FailedError):
    """Not a manifest, or one that contradicts itself: what it names is no backup."""

    kind = "manifest_invalid"


class ManifestTooNew(FailedError):
    """Written by a version of this tool whose manifests this one does not know."""

    kind = "manifest_too_new"


class Level(StrEnum):
    """What was proven of a backup, from nothing upwards."""

    NONE = "none"
    REREAD = "uploaded-and-reread"
    """Every part was read back from the store and its digest was equal."""
    RESTORED = "restored"
    """A server was restored from it and started; files and WAL were checked, what tables hold was not."""
    DIGESTS_EQUAL = "restored-and-digests-equal"
    """And every table held what it held when it was digested (`Manifest.tables`)."""

    @property
    def rank(self) -> int:
        return _RANKS[self]


_RANKS = {level: rank for rank, level in enumerate(Level)}


class Identity(Part):
    """Which backup of what this is."""

    backup_id: Annotated[str, Field(pattern=rf"^{BACKUP_ID_PATTERN}$")]
    kind: Annotated[Kind, Field(strict=False)]
    sequence: Annotated[int, Field(ge=1)]
    """One more than the newest backup's: which is newer does not depend on a clock."""
    system_identifier: Annotated[str, Field(pattern=r"^[0-9]{1,20}$")]
    """PostgreSQL's own identity of the cluster (`pg_control_system()`)."""
    cluster: Named
    host: Named


class Versions(Part):
    """What made it."""

    dreamseed: Named
    server: Named
    """Such as `15.14`."""
    server_version_num: Annotated[int, Field(ge=90000)]


class Span(Part):
    """When it was made. duration_s: on the monotonic clock, which no clock jump falsifies."""

    started: AwareDatetime
    ended: AwareDatetime
    duration_s: Annotated[float, Field(ge=0)]


class WalSpan(Part):
    """Where it lies in the WAL. Recovery needs everything from start_lsn to stop_lsn at least."""

    timeline: Annotated[int, Field(ge=1)]
    start_lsn: Lsn
    stop_lsn: Lsn
    checkpoint_lsn: Lsn
    segment_bytes: int

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        try:
            check_segment_bytes(self.segment_bytes)
        except WalNameError as error:
            raise ValueError(error.cause) from error
        if not parse_lsn(self.start_lsn) <= parse_lsn(self.checkpoint_lsn) <= parse_lsn(self.stop_lsn):
            raise ValueError("start_lsn, checkpoint_lsn and stop_lsn do not follow each other")
        return self


class StoredPart(Part):
    """One sealed object: its name follows from the backup's id and the index."""

    index: Annotated[int, Field(ge=0)]
    stream: Named
    """Which stream it is a piece of."""
    offset: Bytes
    """Where in the stream its plain bytes begin."""
    plain_size: Bytes
    stored_size: Bytes
    plain_sha256: Sha256
    cipher_sha256: Sha256


class Stream(Part):
    """A run of bytes that one producer wrote: `base.tar`, `globals.sql`, a database's dump.

    size: plain bytes as counted where they were read, apart from the parts.
    """

    name: Named
    size: Bytes


class Blob(Part):
    """A piece of a folder's files, stored once whatever names it."""

    plain_sha256: Sha256
    cipher_sha256: Sha256
    plain_size: Bytes
    stored_size: Bytes


class Folder(Part):
    """A folder that was taken along (§C3: models, configuration, uploads)."""

    name: Named
    files: Annotated[int, Field(ge=0)]
    size: Bytes
    index_stream: Named
    """The stream that lists its files and the blobs of each: sealed, since file names may tell much."""
    blobs: tuple[Blob, ...]


class Extension(Part):
    """An extension that the target of a restore must have."""

    database: Named
    name: Named
    version: Named


class Locale(Part):
    """How a database compares and classifies text, beside its collation.

    ctype: `datctype`. provider: None: the server knows of none (before PostgreSQL 15). name: the provider's
    own locale; empty for libc, whose are collation and ctype.
    """

    ctype: str
    provider: Literal["libc", "icu", "builtin"] | None = None
    name: str = ""
    icu_rules: str = ""


class Database(Part):
    """One database of the cluster."""

    name: Named
    encoding: Named
    collation: str
    size: Bytes
    """`pg_database_size()`: what a restore will need on the disk, about."""
    locale: Locale | None = None
    """None: made before it was kept."""


DigestMethod = Literal["md5", "hash64"]
"""How a row becomes two numbers of 64 bits: see `logical.digests`. md5: before there was a choice."""


class Table(Part):
    """A table's content at the snapshot. digest: None where it was not taken (an unlogged table)."""

    database: Named
    schema_name: Named
    name: Named
    rows: Annotated[int, Field(ge=0)]
    digest: Sha256 | None


class Content(Part):
    """Where in the WAL a physical backup's tables were digested: recovery to there must give the same.

    point: the restore point's name; None: the backup's own end. at: by the server's clock. note: why there
    are no digests; then nothing else is set.
    """

    point: str | None = None
    lsn: Lsn | None = None
    at: AwareDatetime | None = None
    note: str = ""

    @model_validator(mode="after")
    def _taken_or_not(self) -> Self:
        if not (self.lsn is None) == (self.at is None) == (self.note != "") or (self.point and self.note):
            raise ValueError("content has a place and a moment, or a note that says why not")
        return self


class Producer(Part):
    """A program whose output this is. Any other exit code than 0 means that there is no backup."""

    name: Named
    version: Named
    exit_code: Literal[0]


class Compression(Part):
    """How parts were made smaller."""

    method: Literal["zstd"] = "zstd"
    level: Annotated[int, Field(ge=-7, le=22)]


class Proof(Part):
    """What was proven, and when; no moment where nothing was."""

    level: Annotated[Level, Field(strict=False)]
    at: AwareDatetime | None

    @model_validator(mode="after")
    def _has_its_moment(self) -> Self:
        if (self.level is Level.NONE) != (self.at is None):
            raise ValueError("a proof has a moment, and nothing proven has none")
        return self


class Manifest(Part):
    """A backup, complete. One that contradicts itself cannot be made."""

    version: Literal[1] = VERSION
    identity: Identity
    versions: Versions
    span: Span
    wal: WalSpan | None
    """None for a logical backup."""
    producers: tuple[Producer, ...]
    streams: tuple[Stream, ...]
    parts: tuple[StoredPart, ...]
    databases: tuple[Database, ...]
    extensions: tuple[Extension, ...]
    roles: tuple[Named, ...]
    tables: tuple[Table, ...]
    digest_method: DigestMethod = "md5"
    """Of all tables: a restore is compared by the same."""
    content: Content | None = None
    """Of a physical backup whose digests were wanted."""
    folders: tuple[Folder, ...] = ()
    compression: Compression
    recipients: tuple[Recipient, ...]
    """The public keys it was encrypted to."""
    proof: Proof
    """What was proven when this was written."""
    pinned: bool = False
    """Whether it was asked for with --pin. Later pins are objects of their own."""

    @model_validator(mode="after")
    def _agrees_with_itself(self) -> Self:
        kind = self.identity.kind
        if (kind is Kind.PHYSICAL) != (self.wal is not None):
            raise ValueError("wal stands in a physical backup, and only there")
        if parse_backup_id(self.identity.backup_id).kind is not kind:
            raise ValueError("identity.backup_id names another kind than identity.kind")
        if kind is Kind.LOGICAL and self.content is not None:
            raise ValueError("content stands in a physical backup only")
        if kind is Kind.PHYSICAL and self.tables and (self.content is None or self.content.lsn is None):
            raise ValueError("tables of a physical backup need a place in content")
        for name in ("producers", "streams", "parts", "recipients"):
            # Checked here: pydantic calls a field too short, too, when only one of its items is wrong.
            if not getattr(self, name):
                raise ValueError(f"{name} is empty")
        _no_doubles("streams", (stream.name for stream in self.streams))
        _no_doubles("databases", (database.name for database in self.databases))
        _no_doubles("tables", ((table.database, table.schema_name, table.name) for table in self.tables))
        _check_parts(self.streams, self.parts)
        missing = {folder.index_stream for folder in self.folders} - {stream.name for stream in self.streams}
        if missing:
            raise ValueError(f"folders name streams that are not there: {', '.join(sorted(missing))}")
        return self

    @property
    def plain_bytes(self) -> int:
        return sum(part.plain_size for part in self.parts)

    @property
    def stored_bytes(self) -> int:
        """What its parts take in the store; blobs are shared and not counted."""
        return sum(part.stored_size for part in self.parts)

    def to_bytes(self) -> bytes:
        """Canonical JSON: keys sorted, no spaces, UTF-8; the same manifest gives the same bytes."""
        data = self.model_dump(mode="json")
        # As in manifests from before there were such.
        if self.content is None:
            del data["content"]
        if self.digest_method == "md5":
            del data["digest_method"]
        for database in data["databases"]:
            if database["locale"] is None:
                del database["locale"]
        text = json.dumps(data, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
        return text.encode()

    def digest(self) -> str:
        """SHA-256 of the canonical bytes: what a backup list prints, and a second copy is compared by."""
        return hashlib.sha256(self.to_bytes()).hexdigest()


def parse_manifest(data: bytes, *, place: str) -> Manifest:
    """Read a manifest; `place` names it in errors.

    Raises ManifestTooNew, ManifestInvalid, or an ErrorGroup of the latter with every mistake and its path.
    """
    found = _version(data, place)
    if found != VERSION:
        raise ManifestTooNew(
            f"this manifest has version {found}, and this dreamseed reads version {VERSION}",
            place=place,
            remedy="Restore with the dreamseed that made it, or a newer one.",
        )
    try:
        manifest = Manifest.model_validate_json(data)
    except ValidationError as error:
        raise ErrorGroup([_explain(detail, place) for detail in error.errors()]) from error
    if manifest.to_bytes() != data:
        # Duplicate keys or padding would let two readers see two backups in the same bytes.
        raise _invalid("its bytes are not the canonical form that dreamseed writes", place)
    return manifest


def _version(data: bytes, place: str) -> object:
    try:
        document: Any = json.loads(data)
    except ValueError as error:
        raise _invalid(f"not JSON: {error}", place) from error
    if not isinstance(document, dict) or not isinstance(document.get("version"), int):
        raise _invalid("no version stands in it", place)
    return document["version"]


def _explain(detail: ErrorDetails, place: str) -> DreamseedError:
    path = ".".join(str(step) for step in detail["loc"])
    return _invalid(detail["msg"].removeprefix("Value error, "), f"{place}: {path}" if path else place)


def _invalid(cause: str, place: str) -> ManifestInvalid:
    return ManifestInvalid(cause, place=place, remedy="Restore an older backup: dreamseed backup list.")


def _no_doubles(what: str, keys: Iterable[object]) -> None:
    double = next((key for key, count in Counter(keys).items() if count > 1), None)
    if double is not None:
        raise ValueError(f"{what} names {double!r} twice")


def _check_parts(streams: Iterable[Stream], parts: tuple[StoredPart, ...]) -> None:
    """Parts stand in order without a hole, and each stream's add up to what its reader counted."""
    reached = {stream.name: 0 for stream in streams}
    for position, part in enumerate(parts):
        if part.index != position:
            raise ValueError(f"parts.{position} has index {part.index}: missing, doubled or moved")
        if part.stream not in reached:
            raise ValueError(f"parts.{position} belongs to '{part.stream}', which streams does not name")
        if part.offset != reached[part.stream]:
            raise ValueError(f"parts.{position} does not begin where '{part.stream}' stopped before it")
        reached[part.stream] += part.plain_size
    for stream in streams:
        if reached[stream.name] != stream.size:
            raise ValueError(
                f"stream '{stream.name}' has {stream.size} bytes, its parts {reached[stream.name]}"
            )


def next_sequence(sequences: Iterable[int]) -> int:
    """The sequence number of a new backup; sequences: those of all that are known."""
    return max(sequences, default=0) + 1


def oldest_first(started: datetime, sequence: int, backup_id: str) -> tuple[int, datetime, str]:
    """The key to order backups by: never by a clock, unless two runs gave out the same number."""
    return sequence, started, backup_id
