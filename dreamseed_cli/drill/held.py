"""What the store held at a loss. The live system is not really lost: what it archives later saves nothing."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from dreamseed_cli.backup.manifest import WalSpan
from dreamseed_cli.backup.names import NameInvalid, parse_wal_object
from dreamseed_cli.backup.settings import Settings
from dreamseed_cli.backup.wal_names import parse_lsn


@dataclass(frozen=True, slots=True)
class Held:
    """sizes: in bytes, of every object by its name."""

    sizes: Mapping[str, int]

    @classmethod
    def look(cls, settings: Settings) -> Held:
        """List the store. Before the loss is declared: so nothing younger than that is in it."""
        store = settings.open()
        try:
            return cls({stored.name: stored.size for stored in store.list("")})
        finally:
            store.close()

    def wal_bytes(self, span: WalSpan, reached_lsn: int) -> int:
        """Stored bytes of the WAL from a backup's start to where recovery ended: of all timelines, so they
        are the most that it fetched.
        """
        start, found = parse_lsn(span.start_lsn), 0
        for name, size in self.sizes.items():
            with suppress(NameInvalid):
                segment = parse_wal_object(name, span.segment_bytes).file.segment
                if segment is not None and segment.end_lsn > start and segment.start_lsn < reached_lsn:
                    found += size
        return found

    def write(self, path: Path) -> None:
        """As $DREAMSEED_STORE_HELD wants it."""
        path.write_text("".join(f"{name}\n" for name in self.sizes), encoding="utf-8")
