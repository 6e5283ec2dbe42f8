"""The servers that backups are tried on: the embedded PostgreSQL, and version 15 as Debian packages it."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from real_services import RunningPostgres

from dreamseed_cli.services.postgres import EmbeddedPostgres, program

VERSIONS = (15, 18)
PACKAGED = Path("/usr/lib/postgresql/15/bin")
_ONLY_NEWER = ("-c", "io_method=sync")


class PackagedPostgres(EmbeddedPostgres):
    """The same private server, run by the programs of Debian's package."""

    def initdb(self, folder: Path | None = None) -> tuple[str, ...]:
        return _packaged("initdb", EmbeddedPostgres.initdb(self, folder))

    def server(self) -> tuple[str, ...]:
        argv = _packaged("postgres", EmbeddedPostgres.server(self))
        at = argv.index(_ONLY_NEWER[1]) - 1
        return argv[:at] + argv[at + len(_ONLY_NEWER) :]


@contextmanager
def postgres_of(version: int, folder: Path, data: Path | None = None) -> Iterator[RunningPostgres]:
    """A running server of that major version, its socket in `folder` (a short path), stopped at the end.

    data: a data folder that is there already; None: a new one below `folder`.
    """
    kind = EmbeddedPostgres if version == VERSIONS[-1] else PackagedPostgres
    server = kind(data=data or folder / "pg", socket_dir=folder)
    assert kind is EmbeddedPostgres or PACKAGED.is_dir(), (
        f"PostgreSQL {version} is missing: run make setup, or apt-get install postgresql-{version}"
    )
    if data is None:
        subprocess.run([*server.initdb(), "--no-sync"], check=True, capture_output=True)
    running = RunningPostgres(server, folder / "postgres.log")
    try:
        running.start()
        yield running
    finally:
        running.stop()


def without_archive(data: Path) -> Path:
    """A restored data folder whose server archives nothing: its settings came along with the backup."""
    with (data / "postgresql.auto.conf").open("a") as file:
        file.write("archive_mode = off\n")
    return data


def _packaged(name: str, argv: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(str(PACKAGED / name) if word == str(program(name)) else word for word in argv)
