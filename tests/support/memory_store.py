"""A store in memory, for tests that make hundreds of calls: a disk's fsync would be all they wait for."""

from __future__ import annotations

import builtins
import hashlib
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from dreamseed_cli.backup.store.base import Rights, Stored, Version
from dreamseed_cli.backup.store.errors import ObjectConflict, ObjectCorrupt, ObjectMissing

_AT = datetime(2025, 11, 10, 3, tzinfo=UTC)


class MemoryStore:
    """Keeps the contract of `Store`. objects: what is in it, for tests to damage."""

    name = "memory"

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}

    def put(self, name: str, data: bytes) -> Stored:
        if self.objects.setdefault(name, bytes(data)) != data:
            raise ObjectConflict("other bytes are there", place=name)
        return self._stored(name)

    def get(self, name: str, sha256: str | None = None) -> bytes:
        if name not in self.objects:
            raise ObjectMissing("not there", place=name)
        if sha256 not in {None, self._stored(name).sha256}:
            raise ObjectCorrupt("other bytes came", place=name)
        return self.objects[name]

    def fetch(self, name: str, to: Path, sha256: str) -> None:
        to.write_bytes(self.get(name, sha256))

    def stat(self, name: str) -> Stored | None:
        return self._stored(name) if name in self.objects else None

    def list(self, prefix: str) -> Iterator[Stored]:
        names = sorted(name for name in self.objects if name.startswith(prefix))
        return iter(builtins.list(map(self._stored, names)))

    def versions(self, name: str) -> tuple[Version, ...]:
        stored = self.stat(name)
        return (Version(name, "", stored.size, stored.sha256, stored.uploaded),) if stored else ()

    def delete(self, name: str) -> None:
        self.objects.pop(name, None)

    def cancel_unfinished(self, older_than_s: float, now: datetime) -> int:
        return 0

    def rights(self) -> Rights:
        return Rights(read=True, write=True, list=True, delete=True)

    def close(self) -> None:
        return None

    def _stored(self, name: str) -> Stored:
        data = self.objects[name]
        return Stored(name, len(data), hashlib.sha256(data).hexdigest(), _AT)
