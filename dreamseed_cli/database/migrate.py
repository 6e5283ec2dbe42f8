"""The schema's versions: which one a database has, and how it gets the newest (Alembic)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg
from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, create_engine, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import NullPool

from dreamseed_cli.core.errors import FailedError
from dreamseed_cli.database.address import require_dsn
from dreamseed_cli.database.connection import CONNECT_TIMEOUT_S, no_server

# A step that waits for a busy table makes every later query on it wait, too: rather fail and be run again.
_PATIENCE = "SET lock_timeout = '30s'"
# Two migrations at once would trip over each other; the lock goes with its holder's connection.
_LOCK = "SELECT pg_advisory_lock(hashtext('dreamseed migrations'))"


@dataclass(frozen=True, slots=True)
class SchemaState:
    """The version a database has (None: empty), and the newest this program knows."""

    current: str | None
    newest: str

    @property
    def up_to_date(self) -> bool:
        return self.current == self.newest


def schema_state(dsn: str) -> SchemaState:
    """Look, change nothing. Raises MissingError if there is no server."""
    with _connection(dsn) as connection:
        return _state(connection)


def migrate(dsn: str) -> SchemaState:
    """Bring the schema to the newest version, each step whole or not at all; the state before.

    Raises MissingError if there is no server, FailedError if a step fails, has to wait 30 s for a lock, or if
    the database is newer than this program or not in UTF-8.
    """
    with _connection(dsn) as connection:
        try:
            _require_utf8(connection)
            connection.execute(text(_PATIENCE))
            connection.execute(text(_LOCK))
            before = _state(connection)
            # What was begun so far would make all steps one transaction.
            connection.commit()
            _upgrade(connection)
        except DBAPIError as error:
            raise FailedError(
                f"the schema could not be brought to the newest version: {str(error.orig).strip()}",
                place="database",
                remedy="Nothing was changed by the failed step. Mend what it says, and migrate again.",
            ) from error
    return before


def _require_utf8(connection: Connection) -> None:
    encoding = connection.execute(text("SHOW server_encoding")).scalar()
    if encoding != "UTF8":
        raise FailedError(
            f"the database's encoding is {encoding}: it cannot hold every user's name",
            place="database",
            remedy="Create another with: CREATE DATABASE ... ENCODING 'UTF8' TEMPLATE template0.",
        )


def _upgrade(connection: Connection) -> None:
    config = _config()
    config.attributes["connection"] = connection
    command.upgrade(config, "head")


def _state(connection: Connection) -> SchemaState:
    scripts = ScriptDirectory.from_config(_config())
    current = MigrationContext.configure(connection).get_current_revision()
    newest = scripts.get_current_head() or ""
    if current is not None and current not in {script.revision for script in scripts.walk_revisions()}:
        raise FailedError(
            f"the database has version {current}, this program knows up to {newest}",
            place="database",
            remedy="Use the newer program that made it.",
        )
    return SchemaState(current, newest)


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent))
    return config


@contextmanager
def _connection(dsn: str) -> Iterator[Connection]:
    require_dsn(dsn, place="database")
    engine = create_engine(
        "postgresql+psycopg://",
        creator=lambda: psycopg.connect(dsn, connect_timeout=CONNECT_TIMEOUT_S),
        poolclass=NullPool,
    )
    try:
        connection = engine.connect()
    except DBAPIError as error:
        raise no_server(error.orig or error) from error
    with connection:
        yield connection
