"""What a run needs of whatever makes a backup's streams: `pg_dump`'s way, `pg_basebackup`'s, or a test's."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from dreamseed_cli.backup.manifest import Content, Database, Extension, Producer, Stream, Table, WalSpan
from dreamseed_cli.backup.names import Kind
from dreamseed_cli.backup.pipeline import Uploader
from dreamseed_cli.core.errors import DreamseedError


@dataclass(frozen=True, slots=True)
class Produced:
    """What was streamed, and of what: all of a manifest that only its maker knows."""

    system_identifier: str
    cluster: str
    server: str
    server_version_num: int
    producers: tuple[Producer, ...]
    streams: tuple[Stream, ...]
    databases: tuple[Database, ...] = ()
    extensions: tuple[Extension, ...] = ()
    roles: tuple[str, ...] = ()
    tables: tuple[Table, ...] = ()
    wal: WalSpan | None = None
    content: Content | None = None
    problems: tuple[DreamseedError, ...] = ()
    """What a backup can do without, and lacks."""


class Source(Protocol):
    """Makes one kind of backup."""

    @property
    def kind(self) -> Kind: ...

    def system_identifier(self) -> str:
        """Of the cluster (`manifest.Identity`): asked before anything is streamed."""

    def expected_bytes(self) -> int | None:
        """About how many plain bytes will come, for the time left; None: nobody knows."""

    def produce(self, uploader: Uploader) -> Produced:
        """Stream everything; whatever goes wrong is raised, and then there is no backup."""
