"""The store that everyone uses: a backend made safe by checked names, proof, retries and limits."""

from __future__ import annotations

import hashlib
import io
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import BinaryIO, TypeVar

from dreamseed_cli.backup.store.base import (
    Backend,
    Limits,
    Proof,
    Rights,
    Stored,
    Version,
    check_name,
    check_prefix,
    visible,
)
from dreamseed_cli.backup.store.errors import (
    NotAStore,
    ObjectConflict,
    ObjectCorrupt,
    StoreUnreachable,
)
from dreamseed_cli.backup.store.files import drafted, os_errors, write_all
from dreamseed_cli.backup.store.retry import steadily
from dreamseed_cli.core.errors import UsageError

_T = TypeVar("_T")


@dataclass(slots=True)
class _Wanted:
    """An object that is to be stored. written: one of the tries has stored it."""

    name: str
    data: bytes
    sha256: str
    written: bool = False


class SteadyStore:
    """A Store (see `base.Store`) over one backend. held: only these names are there for who lists or looks,
    as at a moment that is over; None: all are.
    """

    def __init__(
        self, backend: Backend, limits: Limits | None = None, held: frozenset[str] | None = None
    ) -> None:
        self._backend = backend
        self._limits = limits or Limits()
        self._held = held

    @property
    def name(self) -> str:
        return self._backend.name

    def put(self, name: str, data: bytes) -> Stored:
        check_name(name)
        self._check_size(name, len(data))
        wanted = _Wanted(name, data, hashlib.sha256(data).hexdigest())
        # Each try looks first: an answer that was lost after the store had done the work is no conflict,
        # and nothing is sent twice.
        return self._steadily(name, lambda abandoned: self._put_once(wanted, abandoned))

    def get(self, name: str, sha256: str | None = None) -> bytes:
        check_name(name)

        def once(abandoned: threading.Event) -> bytes:
            sink = io.BytesIO()
            self._read_into(sink, name, sha256, abandoned)
            return sink.getvalue()

        return self._steadily(name, once)

    def fetch(self, name: str, to: Path, sha256: str) -> None:
        check_name(name)

        def once(abandoned: threading.Event) -> None:
            with os_errors(str(to)), drafted(to) as draft:
                self._read_into(draft.file, name, sha256, abandoned)
                draft.place()

        self._steadily(name, once)

    def stat(self, name: str) -> Stored | None:
        found = visible(self.versions(name))
        return found.stored() if found and self._shows(name) else None

    def list(self, prefix: str) -> Iterator[Stored]:
        check_prefix(prefix)
        after: str | None = None
        while True:
            start = after
            page, after = self._steadily(prefix, lambda _: self._backend.page(prefix, start))  # noqa: B023
            yield from (stored for stored in page if self._shows(stored.name))
            if after is None:
                return
            if after == start:
                raise NotAStore("its list has no end", place=self._place(prefix))

    def versions(self, name: str) -> tuple[Version, ...]:
        check_name(name)
        return self._steadily(name, lambda _: self._backend.versions(name))

    def delete(self, name: str) -> None:
        check_name(name)
        self._steadily(name, lambda _: self._backend.delete(name))

    def cancel_unfinished(self, older_than_s: float, now: datetime) -> int:
        before = now - timedelta(seconds=older_than_s)
        return self._steadily("", lambda _: self._backend.cancel_unfinished(before))

    def rights(self) -> Rights:
        return self._steadily("", lambda _: self._backend.rights())

    def close(self) -> None:
        self._backend.close()

    def _shows(self, name: str) -> bool:
        return self._held is None or name in self._held

    def _put_once(self, wanted: _Wanted, abandoned: threading.Event) -> Stored:
        name, sha256 = wanted.name, wanted.sha256
        found = self._look(wanted)
        if found is None:
            # Taken by a rival in between: the second look says whether by the same bytes.
            with suppress(ObjectConflict):
                self._backend.write(name, wanted.data, sha256)
                wanted.written = True
            found = self._look(wanted)
        if found is None:
            raise ObjectCorrupt(
                "it was stored, and the store does not have it",
                place=self._place(name),
                remedy="See whether something else deletes there.",
            )
        return Stored(name, found.size, sha256, found.uploaded, self._prove(found, wanted, abandoned))

    def _look(self, wanted: _Wanted) -> Version | None:
        """What is visible under its name. ObjectConflict if any version of that holds other bytes."""
        versions = self._backend.versions(wanted.name)
        for version in versions:
            other = version.size != len(wanted.data) or version.sha256 not in {None, wanted.sha256}
            if other and not version.marker:
                raise self._conflict(wanted.name)
        return visible(versions)

    def _prove(self, found: Version, wanted: _Wanted, abandoned: threading.Event) -> Proof:
        if self._backend.confirm(found.name, wanted.sha256):
            return "server_checksum"
        with self._backend.read(found.name) as reading:
            if _are(self._until(abandoned, reading.chunks), wanted.data):
                return "read_back"
        if wanted.written or found.sha256 is not None:
            raise ObjectCorrupt(
                "what was stored reads back as other bytes",
                place=self._place(found.name),
                remedy="Check the disk or the connection: what is stored there is not to be trusted.",
            )
        raise self._conflict(found.name)

    def _read_into(self, sink: BinaryIO, name: str, sha256: str | None, abandoned: threading.Event) -> None:
        digest, size = hashlib.sha256(), 0
        with self._backend.read(name) as reading:
            if reading.size > self._limits.most_bytes:
                raise self._corrupt(name, f"{reading.size} bytes are more than any object of ours has")
            for chunk in self._until(abandoned, reading.chunks):
                size += len(chunk)
                if size > reading.size:
                    break
                digest.update(chunk)
                write_all(sink, chunk)
        if size != reading.size:
            raise self._corrupt(name, f"{reading.size} bytes were announced, {size} came")
        expected = sha256 or reading.sha256
        if expected is not None and digest.hexdigest() != expected:
            raise self._corrupt(name, f"its SHA-256 is {digest.hexdigest()}, not {expected}")

    def _until(self, abandoned: threading.Event, chunks: Iterator[bytes]) -> Iterator[bytes]:
        """The chunks as long as anyone waits for them: a thread left behind must not read for ever."""
        for chunk in chunks:
            if abandoned.is_set():
                raise StoreUnreachable("given up", place=self.name)
            yield chunk

    def _check_size(self, name: str, size: int) -> None:
        if size > self._limits.most_bytes:
            raise UsageError(
                f"{size} bytes are more than an object may have ({self._limits.most_bytes})",
                place=name,
                remedy="Divide it into parts.",
            )

    def _steadily(self, name: str, work: Callable[[threading.Event], _T]) -> _T:
        return steadily(work, self._limits, self._place(name))

    def _place(self, name: str) -> str:
        return f"{self.name}/{name}" if name else self.name

    def _conflict(self, name: str) -> ObjectConflict:
        return ObjectConflict(
            "other bytes are already stored under this name",
            place=self._place(name),
            remedy="Find out which of the two is right; nothing was overwritten.",
        )

    def _corrupt(self, name: str, cause: str) -> ObjectCorrupt:
        return ObjectCorrupt(
            cause, place=self._place(name), remedy="Use another backup, or another copy of this one."
        )


def _are(chunks: Iterator[bytes], data: bytes) -> bool:
    """Whether these are the bytes: compared, which is surer and faster than a hash of them."""
    at = 0
    for chunk in chunks:
        if not data.startswith(chunk, at):
            return False
        at += len(chunk)
    return at == len(data)
