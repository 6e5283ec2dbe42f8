"""The two ways to make a backup, as a run needs them."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from dreamseed_cli.backup.logical.dump import backup_logical
from dreamseed_cli.backup.logical.server import Server, connect, read_server, value
from dreamseed_cli.backup.names import Kind
from dreamseed_cli.backup.physical.base import PhysicalSource
from dreamseed_cli.backup.pipeline import Uploader
from dreamseed_cli.backup.programs import programs_for
from dreamseed_cli.backup.source import Produced, Source
from dreamseed_cli.core.errors import FailedError


@dataclass(frozen=True, slots=True)
class Facts:
    """A server before its backup. cluster: its `cluster_name`, for people; `main` where it has none."""

    server: Server
    cluster: str


class DatabaseLeftOut(FailedError):
    """A database of the server is not in the backup."""

    kind = "database_left_out"


@dataclass(frozen=True, slots=True)
class LogicalSource:
    """`pg_dump` of all databases, or of those named. temp: a folder with room for the largest one's dump."""

    dsn: str
    temp: Path
    facts: Facts
    databases: Sequence[str] | None = None
    kind: Kind = Kind.LOGICAL

    def system_identifier(self) -> str:
        return self.facts.server.system_identifier

    def expected_bytes(self) -> int | None:
        found = self.facts.server.databases
        return sum(one.size for one in found if self.databases is None or one.name in self.databases)

    def produce(self, uploader: Uploader) -> Produced:
        server = self.facts.server
        facts = backup_logical(self.dsn, uploader, self.temp, server=server, databases=self.databases)
        return Produced(
            system_identifier=server.system_identifier,
            cluster=self.facts.cluster,
            server=server.version,
            server_version_num=server.version_num,
            producers=facts.producers,
            streams=facts.streams,
            databases=facts.databases,
            extensions=facts.extensions,
            roles=server.roles,
            tables=facts.tables,
            problems=tuple(map(_left_out, server.closed)) if self.databases is None else (),
        )


def _left_out(name: str) -> DatabaseLeftOut:
    return DatabaseLeftOut(
        "it takes no connections, so that it is not in this backup",
        place=f"database {name}",
        remedy="Allow them (ALTER DATABASE ... ALLOW_CONNECTIONS true), drop it, or make physical backups.",
    )


def make_source(kind: Kind, dsn: str, temp: Path | None = None, *, digests: bool = True) -> Source:
    """Whatever makes backups of this kind of the server at `dsn`. ServerUnreachable, UsageError.

    temp: for dumps; None: $TMPDIR. digests: of a physical backup's tables.
    """
    facts = read_facts(dsn)
    if kind is Kind.LOGICAL:
        return LogicalSource(dsn, temp or Path(tempfile.gettempdir()), facts)
    size = sum(database.size for database in facts.server.databases)
    return PhysicalSource(dsn, facts.cluster, programs_for(facts.server.version_num), digests, size)


def read_facts(dsn: str) -> Facts:
    """Ask the server once."""
    with connect(dsn) as connection:
        return Facts(read_server(connection), str(value(connection, "SHOW cluster_name")) or "main")
