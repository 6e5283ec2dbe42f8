"""What this host has proven to be in the archive, and whose that is: a small file, so that a call can
answer at once.

Losing it costs a look at the store. It also holds the digests of what was sealed before it was sent: sealing
twice gives different bytes, and a host without a private key could not tell its own object from a damaged
one. A disk that is too full for it keeps no WAL from being archived: it is done without.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final

from dreamseed_cli.backup.store.errors import StoreFull
from dreamseed_cli.backup.store.files import drafted, make_folder, os_errors

_MOST: Final = 1024
"""Names it remembers: far more than are ever ready at a time and pushed ahead."""
_MOST_SEALED: Final = 8
"""Digests per name: one for every try that began."""


class ProvenIndex:
    """Object names of one store that are proven, and those that were begun. Threads may share it."""

    def __init__(self, path: Path, store: str) -> None:
        self._path = path
        self._store = store
        self._lock = threading.Lock()
        self._proven, self._sealed, self._owner = _read(path, store)

    @property
    def owner(self) -> str:
        """The cluster that the store was claimed for; empty: nobody looked yet."""
        return self._owner

    def owned_by(self, system: str) -> None:
        with self._lock:
            self._owner = system
            self._write()

    def is_proven(self, name: str) -> bool:
        with self._lock:
            return name in self._proven

    def sealed_as(self, name: str) -> tuple[str, ...]:
        """SHA-256 of every cipher that was about to be stored under this name."""
        with self._lock:
            return tuple(self._sealed.get(name, ()))

    def begin(self, name: str, cipher_sha256: str) -> None:
        """Durable before the upload begins, if there is room. If not, nothing is left: beside older digests
        alone, what is uploaded now would look damaged.
        """
        with self._lock:
            digests = [*self._sealed.pop(name, ()), cipher_sha256]
            self._sealed[name] = digests[-_MOST_SEALED:]
            self._write()

    def prove(self, name: str) -> None:
        with self._lock:
            self._proven[name] = True
            self._sealed.pop(name, None)
            self._write()

    def _write(self) -> None:
        data = {
            "store": self._store,
            "owner": self._owner,
            "proven": list(self._proven)[-_MOST:],
            "sealed": dict(list(self._sealed.items())[-_MOST:]),
        }
        try:
            write_json(self._path, data)
        except StoreFull:
            with suppress(OSError):
                self._path.unlink(missing_ok=True)


def write_json(path: Path, data: Mapping[str, object]) -> None:
    """Durably, over what was there; the old content or the new one, never half of it."""
    with os_errors(str(path)):
        make_folder(path.parent)
        with drafted(path) as draft:
            draft.file.write(json.dumps(data).encode())
            draft.place()


def _read(path: Path, store: str) -> tuple[dict[str, bool], dict[str, list[str]], str]:
    """Nothing from a file that is not there, not whole, or about another store: then the store is asked."""
    try:
        data = json.loads(path.read_bytes())
        if data["store"] != store:
            return {}, {}, ""
        sealed = {str(name): [str(digest) for digest in digests] for name, digests in data["sealed"].items()}
        return {str(name): True for name in data["proven"]}, sealed, str(data.get("owner", ""))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}, {}, ""
