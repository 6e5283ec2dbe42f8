"""What a store is: the interface its users see, the smaller one its adapters fill, and the data of both."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Literal, Protocol

from dreamseed_cli.core.errors import UsageError

MIB = 2**20
CHUNK = MIB
"""Bytes that are read, hashed and compared at a time."""

_MOST_NAME = 512
_MOST_SEGMENT = 200
"""Bytes of one part of a name: a file system takes 255, and a temporary name is longer than its final one."""
_SEGMENT = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+=@-]*")
_PREFIX = re.compile(r"(?:[A-Za-z0-9_][A-Za-z0-9_.+=@-]*/)*(?:[A-Za-z0-9_][A-Za-z0-9_.+=@-]*)?")

LIFECYCLE_REMEDY = "Let its lifecycle keep all versions (no daysFromUploadingToHiding): pruning deletes."
"""For a bucket that hides our objects by their age alone (Rights.expiry)."""

Proof = Literal["read_back", "server_checksum", "listed"]
"""How a Stored is known: its bytes were read again and compared, the store computed their SHA-256 itself
(cold storage, which cannot be read), or the store only says so."""


@dataclass(frozen=True, slots=True)
class Stored:
    """One object. size: bytes. sha256: None where the store does not tell. uploaded: in UTC."""

    name: str
    size: int
    sha256: str | None
    uploaded: datetime
    proof: Proof = "listed"


@dataclass(frozen=True, slots=True)
class Version:
    """One version of an object, hidden ones and hide markers included.

    marker: a mark that hides what is older. retained: until when or why the store keeps it, for people.
    """

    name: str
    key: str
    size: int
    sha256: str | None
    uploaded: datetime
    marker: bool = False
    retained: str | None = None

    def stored(self) -> Stored:
        return Stored(self.name, self.size, self.sha256, self.uploaded)


@dataclass(frozen=True, slots=True)
class Rights:
    """What our key may do there; None: the store does not tell before it is tried.

    retention: the bucket's default Object Lock, for people ("governance for 30 days"); None without one, or
    if the key may not read it. expiry: rules by which the bucket itself hides our objects by their age alone,
    for people.
    """

    read: bool | None
    write: bool | None
    list: bool | None
    delete: bool | None
    key: str = ""
    retention: str | None = None
    expiry: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Limits:
    """How long a store may take, in seconds, and how large its objects are, in bytes.

    connect_s: a connection. call_s: a silence within one request. total_s: one call of ours (a put with
    its read-back, a get, a page of a list) with all its tries. tries: of one call. first_wait_s, most_wait_s:
    the waits between them, doubling. most_bytes: more is refused, since objects
    are held in memory. The largest is a WAL segment of 1 GiB that does not compress, sealed.
    """

    connect_s: float = 10
    call_s: float = 120
    total_s: float = 600
    tries: int = 6
    first_wait_s: float = 0.5
    most_wait_s: float = 30
    most_bytes: int = 1040 * MIB


@dataclass(frozen=True, slots=True)
class Reading:
    """An object while it is read. size: bytes to come. sha256: what they were when put, if known there."""

    size: int
    sha256: str | None
    chunks: Iterator[bytes]


class Store(Protocol):
    """Objects by name. Every call is bounded in time and may be made from several threads at once.

    Every one raises StoreUnreachable, StoreBusy, StoreRefused, StoreAbsent, NotAStore, ClockSkewed as it may
    be, and UsageError for a name or size that no object may have.
    """

    @property
    def name(self) -> str:
        """For messages: `b2:bucket/prefix`."""

    def put(self, name: str, data: bytes) -> Stored:
        """Store it durably; it has been read back and compared when this returns.

        The same bytes under the same name again: fine, and nothing is written. ObjectConflict: other bytes
        are there. StoreFull: no room, and nothing of it stays. ObjectCorrupt: what came back was not this.
        """

    def get(self, name: str, sha256: str | None = None) -> bytes:
        """The bytes, hashed here against `sha256`, or against what the store keeps with them.

        ObjectMissing, ObjectCorrupt, ObjectNotReadable.
        """

    def fetch(self, name: str, to: Path, sha256: str) -> None:
        """Like get, into a file, which appears whole, right and durable or not at all."""

    def stat(self, name: str) -> Stored | None:
        """The visible object of this name, or None."""

    def list(self, prefix: str) -> Iterator[Stored]:
        """The visible objects whose names start so, in the order of their names."""

    def versions(self, name: str) -> tuple[Version, ...]:
        """All versions of this name, newest first, hidden ones too."""

    def delete(self, name: str) -> None:
        """Remove it with all its versions; fine if it is gone. StoreRefused: no right to, or locked."""

    def cancel_unfinished(self, older_than_s: float, now: datetime) -> int:
        """Remove what uploads left behind that began longer ago than this; how many."""

    def rights(self) -> Rights: ...

    def close(self) -> None: ...


class Backend(Protocol):
    """One try at one kind of store: SteadyStore adds names' checks, proof, retries and the limit in time.

    Names arrive checked. Errors are those of `errors`; each method may be called from several threads.
    """

    name: str

    def write(self, name: str, data: bytes, sha256: str) -> None:
        """Store it, durably, never over other bytes: beside them (B2's versions), or ObjectConflict."""

    def confirm(self, name: str, sha256: str) -> bool:
        """Make what is visible there durable, where it might not be. True: it cannot be read back, and the
        store's own checksum vouches for it. False: read it back.
        """

    def read(self, name: str) -> AbstractContextManager[Reading]: ...

    def versions(self, name: str) -> tuple[Version, ...]: ...

    def page(self, prefix: str, after: str | None) -> tuple[list[Stored], str | None]:
        """Some objects and where the next page starts; None: this was the last one."""

    def delete(self, name: str) -> None: ...

    def cancel_unfinished(self, before: datetime) -> int: ...

    def rights(self) -> Rights: ...

    def close(self) -> None: ...


def visible(versions: tuple[Version, ...]) -> Version | None:
    """The one that a reader gets: the newest, unless that hides the name."""
    return versions[0] if versions and not versions[0].marker else None


def check_name(name: str) -> str:
    """The name itself; UsageError unless every kind of store can hold it and no folder can be left by it."""
    segments = name.split("/")
    if len(name) > _MOST_NAME or not all(_fits(segment) for segment in segments):
        raise UsageError(
            "this is no name of an object",
            place=name[:80],
            remedy="Use letters, digits and _ . + = @ - in parts divided by '/', none starting with '.'.",
        )
    return name


def check_prefix(prefix: str) -> str:
    """The prefix itself; UsageError if no name can start so."""
    if len(prefix) > _MOST_NAME or _PREFIX.fullmatch(prefix) is None:
        raise UsageError("no object's name starts so", place=prefix[:80], remedy="Give the start of a name.")
    return prefix


def _fits(segment: str) -> bool:
    return len(segment) <= _MOST_SEGMENT and _SEGMENT.fullmatch(segment) is not None
