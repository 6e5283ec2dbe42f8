"""A store that fails at chosen calls: what its users do then is what their fault matrices try."""

from __future__ import annotations

import builtins
import os
import signal
import threading
from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Literal, TypeVar, get_args

from flipped import flipped

from dreamseed_cli.backup.store.base import Rights, Store, Stored, Version
from dreamseed_cli.backup.store.errors import (
    ClockSkewed,
    NotAStore,
    ObjectCorrupt,
    ObjectMissing,
    StoreBusy,
    StoreError,
    StoreFull,
    StoreRefused,
    StoreUnreachable,
)

_T = TypeVar("_T")

# fmt: off
StoreFault = Literal[
    "unreachable", "lost", "refused", "busy", "full", "not_a_store", "skewed", "corrupt", "missing",
]
# fmt: on
STORE_FAULTS: tuple[StoreFault, ...] = get_args(StoreFault)
Death = Literal["killed", "killed_after"]
_ERRORS: Mapping[StoreFault | Death, type[StoreError]] = {
    "unreachable": StoreUnreachable,
    "refused": StoreRefused,
    "busy": StoreBusy,
    "full": StoreFull,
    "not_a_store": NotAStore,
    "skewed": ClockSkewed,
}


class FaultyStore:
    """Another store, but the calls whose number (from 0, over all methods) is in `faults` fail.

    unreachable, refused, busy, full, not_a_store, skewed: nothing is done, and that error is raised. lost: it
    is done, and StoreUnreachable raised. corrupt: what is read has a flipped bit, which raises ObjectCorrupt
    where its hash was asked for; other calls work. missing: objects are not seen; other calls work.
    killed, killed_after: SIGKILL to this process, before the call does anything or when it has done all.
    """

    def __init__(self, store: Store, faults: Mapping[int, StoreFault | Death] | None = None) -> None:
        self._store = store
        self._lock = threading.Lock()
        self.faults: dict[int, StoreFault | Death] = dict(faults or {})
        self.calls: builtins.list[tuple[str, str]] = []
        """Method and name of every call, in order."""

    @property
    def name(self) -> str:
        return self._store.name

    def put(self, name: str, data: bytes) -> Stored:
        fault = self._take("put", name)
        return self._after(fault, name, self._store.put(name, data))

    def get(self, name: str, sha256: str | None = None) -> bytes:
        fault = self._take("get", name)
        self._hide(fault, name)
        data = self._after(fault, name, self._store.get(name, sha256))
        if fault != "corrupt":
            return data
        if sha256 is not None:
            raise _corrupt(name)
        return flipped(data)

    def fetch(self, name: str, to: Path, sha256: str) -> None:
        fault = self._take("fetch", name)
        self._hide(fault, name)
        if fault == "corrupt":
            raise _corrupt(name)
        self._store.fetch(name, to, sha256)
        self._after(fault, name, None)

    def stat(self, name: str) -> Stored | None:
        fault = self._take("stat", name)
        found = self._after(fault, name, self._store.stat(name))
        return None if fault == "missing" else found

    def list(self, prefix: str) -> Iterator[Stored]:
        fault = self._take("list", prefix)
        found = self._after(fault, prefix, tuple(self._store.list(prefix)))
        return iter(() if fault == "missing" else found)

    def versions(self, name: str) -> tuple[Version, ...]:
        fault = self._take("versions", name)
        found = self._after(fault, name, self._store.versions(name))
        return () if fault == "missing" else found

    def delete(self, name: str) -> None:
        fault = self._take("delete", name)
        self._store.delete(name)
        self._after(fault, name, None)

    def cancel_unfinished(self, older_than_s: float, now: datetime) -> int:
        fault = self._take("cancel_unfinished", "")
        return self._after(fault, "", self._store.cancel_unfinished(older_than_s, now))

    def rights(self) -> Rights:
        fault = self._take("rights", "")
        return self._after(fault, "", self._store.rights())

    def close(self) -> None:
        self._store.close()

    def _take(self, method: str, name: str) -> StoreFault | Death | None:
        with self._lock:
            self.calls.append((method, name))
            fault = self.faults.get(len(self.calls) - 1)
        if fault == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        error = _ERRORS.get(fault) if fault else None
        if error is not None:
            raise error(f"injected: {fault}", place=name)
        return fault

    def _after(self, fault: StoreFault | Death | None, name: str, result: _T) -> _T:
        if fault == "killed_after":
            os.kill(os.getpid(), signal.SIGKILL)
        if fault == "lost":
            raise StoreUnreachable("injected: the answer was lost", place=name)
        return result

    def _hide(self, fault: StoreFault | Death | None, name: str) -> None:
        if fault == "missing":
            raise ObjectMissing("injected: missing", place=name)


def _corrupt(name: str) -> ObjectCorrupt:
    return ObjectCorrupt("injected: corrupt", place=name)
