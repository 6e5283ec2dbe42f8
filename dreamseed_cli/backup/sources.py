"""The two ways to make a backup, as a run needs them."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from dreamseed_cli.backup.logical.dump import backup_logical
from dreamseed_cli.backup.logical.server import connect, read_server, value
from dreamseed_cli.backup.names import Kind
from dreamseed_cli.backup.physical.base import PhysicalSource
from dreamseed_cli.backup.pipeline import Uploader
from dreamseed_cli.backup.programs import programs_for
from dreamseed_cli.backup.source import Produced, Source


@dataclass(frozen=True, slots=True)
class LogicalSource:
    """`pg_dump` of all databases, or of those named. temp: a folder with room for the largest one's dump."""

    dsn: str
    temp: Path
    databases: Sequence[str] | None = None
    kind: Kind = Kind.LOGICAL

    def expected_bytes(self) -> int | None:
        return expected_bytes(self.dsn, self.databases)

    def produce(self, uploader: Uploader) -> Produced:
        facts = backup_logical(self.dsn, uploader, self.temp, databases=self.databases)
        server = facts.server
        return Produced(
            system_identifier=server.system_identifier,
            cluster=cluster_name(self.dsn),
            server=server.version,
            server_version_num=server.version_num,
            producers=facts.producers,
            streams=facts.streams,
            databases=facts.databases,
            extensions=facts.extensions,
            roles=server.roles,
            tables=facts.tables,
        )


def make_source(kind: Kind, dsn: str) -> Source:
    """Whatever makes backups of this kind of the server at `dsn`. ServerUnreachable."""
    if kind is Kind.LOGICAL:
        return LogicalSource(dsn, Path(tempfile.gettempdir()))
    with connect(dsn) as connection:
        programs = programs_for(connection.info.server_version)
    return PhysicalSource(dsn, cluster_name(dsn), programs)


def expected_bytes(dsn: str, databases: Sequence[str] | None = None) -> int:
    """What the databases take on the server's disk: about what a backup reads."""
    with connect(dsn) as connection:
        found = read_server(connection).databases
    return sum(one.size for one in found if databases is None or one.name in databases)


def cluster_name(dsn: str) -> str:
    """The server's `cluster_name`, for people; `main` where it has none."""
    with connect(dsn) as connection:
        return str(value(connection, "SHOW cluster_name")) or "main"
