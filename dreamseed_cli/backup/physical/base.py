"""A physical backup: pg_basebackup's one stream, cut into parts as it comes, needing no room on this disk.

It brings the WAL from its start to its stop along, so that it can be restored even without the archive. A
temporary replication slot keeps that WAL on the server meanwhile.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from secrets import token_hex
from typing import Final

import psycopg

from dreamseed_cli.backup import ending
from dreamseed_cli.backup.logical.digests import DigestFailed
from dreamseed_cli.backup.logical.server import (
    Connection,
    Programs,
    Server,
    ServerFailed,
    ServerUnreachable,
    connect,
    read_extensions,
    read_server,
    value,
)
from dreamseed_cli.backup.manifest import Content, Extension, Table, WalSpan
from dreamseed_cli.backup.manifest import Producer as ProducerRecord
from dreamseed_cli.backup.names import Kind
from dreamseed_cli.backup.physical.content import quiet_number, take_content
from dreamseed_cli.backup.physical.label import LABEL, MANIFEST, read_span
from dreamseed_cli.backup.pipeline import Readable, Uploader
from dreamseed_cli.backup.producer import Producer, libpq_environment, program_version
from dreamseed_cli.backup.source import Produced
from dreamseed_cli.backup.tar import TarReader
from dreamseed_cli.core.errors import DreamseedError, FailedError, UsageError
from dreamseed_cli.services.postgres import program

STREAM: Final = "base.tar"
_MOST_KEPT: Final = 256 << 20
"""Bytes of a backup_manifest: some 150 a file."""


class BaseBackupFailed(FailedError):
    """The server cannot be copied as it is."""

    kind = "base_backup_failed"


@dataclass(frozen=True, slots=True)
class PhysicalSource:
    """Makes physical backups of one server (see `source.Source`). cluster: its name, for people.

    digests: of all tables, which are read once more for that. size: of all databases, in bytes; WAL and
    shared catalogs come on top.
    The role must be a superuser that may also replicate.
    """

    dsn: str
    cluster: str
    programs: Programs = program
    digests: bool = True
    size: int | None = None

    @property
    def kind(self) -> Kind:
        return Kind.PHYSICAL

    def system_identifier(self) -> str:
        """Raises ServerUnreachable, UsageError (role)."""
        with connect(self.dsn) as connection:
            return read_server(connection).system_identifier

    def expected_bytes(self) -> int | None:
        return self.size

    def produce(self, uploader: Uploader) -> Produced:
        """Copy the data folder. Raises ServerUnreachable, UsageError (tablespaces, role), BaseBackupFailed,
        ProducerFailed, TarBroken, LabelInvalid, and the store's errors.
        """
        pg_basebackup = self.programs("pg_basebackup")
        version = program_version(pg_basebackup)
        with connect(self.dsn) as connection:
            server = read_server(connection)
            _refuse_tablespaces(connection)
            segment_bytes = int(
                value(connection, "SELECT setting FROM pg_settings WHERE name = 'wal_segment_size'")
            )
            before = quiet_number(connection) if self.digests else None
            with (
                _kept_wal(connection),
                Producer(_argv(pg_basebackup), environment=self._environment()) as copy,
            ):
                tap = _Tap(copy)
                stream = uploader.stream(STREAM, tap)
                tap.finish()
        wal = read_span(tap.kept(LABEL), tap.kept(MANIFEST), segment_bytes)
        content, tables, problems = self._content(server, wal, before)
        return Produced(
            system_identifier=server.system_identifier,
            cluster=self.cluster,
            server=server.version,
            server_version_num=server.version_num,
            producers=(ProducerRecord(name="pg_basebackup", version=version, exit_code=0),),
            streams=(stream,),
            databases=server.databases,
            extensions=self._extensions(server),
            roles=server.roles,
            tables=tables,
            wal=wal,
            content=content,
            problems=problems,
        )

    def _content(
        self, server: Server, wal: WalSpan, before: int | None
    ) -> tuple[Content | None, tuple[Table, ...], tuple[DreamseedError, ...]]:
        """A copy whose tables cannot be read is still worth more than none: that is told beside it."""
        if not self.digests:
            return None, (), ()
        try:
            content, tables = take_content(self.dsn, [one.name for one in server.databases], wal, before)
        except (DigestFailed, ServerFailed, ServerUnreachable) as error:
            ending.check()
            return Content(note=str(error)), (), (error,)
        return content, tables, ()

    def _environment(self) -> dict[str, str]:
        return libpq_environment(self.dsn)

    def _extensions(self, server: Server) -> tuple[Extension, ...]:
        found: list[Extension] = []
        for database in server.databases:
            with connect(self.dsn, database.name) as connection:
                found += read_extensions(connection)
        return tuple(found)


def _argv(pg_basebackup: object) -> list[str]:
    """-: to the standard output, with the backup manifest as the archive's last member."""
    return [
        *(str(pg_basebackup), "--pgdata=-", "--format=tar", "--wal-method=fetch", "--checkpoint=fast"),
        *("--no-password", "--label=dreamseed", "--manifest-checksums=CRC32C"),
    ]


def _refuse_tablespaces(connection: Connection) -> None:
    rows = connection.execute(
        "SELECT spcname FROM pg_tablespace WHERE spcname !~ '^pg_' ORDER BY 1"
    ).fetchall()
    if rows:
        raise UsageError(
            f"this cluster has tablespaces of its own: {', '.join(str(name) for (name,) in rows)}",
            place="dreamseed backup --kind physical",
            remedy="Move their tables to pg_default, or make logical backups.",
        )


@contextmanager
def _kept_wal(connection: Connection) -> Iterator[None]:
    """The server keeps all WAL until the end. At the latest the slot goes with the connection."""
    name = f"dreamseed_backup_{token_hex(4)}"
    try:
        connection.execute("SELECT set_config('idle_session_timeout', '0', false)")
        connection.execute("SELECT pg_create_physical_replication_slot(%s, true, true)", (name,))
    except psycopg.Error as error:
        raise BaseBackupFailed(
            f"no replication slot to keep WAL for the backup: {error.diag.message_primary or error}",
            place="PostgreSQL",
            remedy="Set wal_level to replica, max_replication_slots and max_wal_senders to 10; restart it.",
        ) from error
    yield
    try:
        connection.execute("SELECT pg_drop_replication_slot(%s)", (name,))
    except psycopg.Error as error:
        raise BaseBackupFailed("the server went away during the backup", place="PostgreSQL") from error


class _Tap:
    """What pg_basebackup writes, as it is read, with the two members kept that say what it is."""

    def __init__(self, source: Readable) -> None:
        self._source = source
        self._kept: dict[str, bytearray] = {}
        self._open: bytearray | None = None
        self._reader = TarReader(self, place=STREAM)

    def read(self, size: int, /) -> bytes:
        data = self._source.read(size)
        self._reader.feed(data)
        return data

    def finish(self) -> None:
        """TarBroken if it was cut off."""
        self._reader.finish()

    def kept(self, name: str) -> bytes:
        """A member's content. BaseBackupFailed if it did not come."""
        if name not in self._kept:
            raise BaseBackupFailed(f"the copy has no {name}", place=STREAM)
        return bytes(self._kept[name])

    def header(self, block: bytes) -> None:
        """It goes with the stream."""

    def begin(self, path: str, mode: int, *, folder: bool) -> None:
        if not folder and path in {LABEL, MANIFEST}:
            self._open = self._kept[path] = bytearray()

    def data(self, piece: memoryview) -> None:
        if self._open is None:
            return
        if len(self._open) + len(piece) > _MOST_KEPT:
            raise BaseBackupFailed(f"a {MANIFEST} of more than {_MOST_KEPT} bytes", place=STREAM)
        self._open += piece

    def end(self) -> None:
        self._open = None
