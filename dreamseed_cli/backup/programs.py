"""Which PostgreSQL programs fit a server: pg_restore must not be newer than it, pg_dump not older."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

from dreamseed_cli.backup.logical.server import Programs
from dreamseed_cli.backup.manifest import Extension
from dreamseed_cli.backup.producer import Producer, ProducerFailed, program_version
from dreamseed_cli.core.errors import MissingError, UsageError
from dreamseed_cli.services.postgres import program

_MAJOR: Final = 10_000
_PACKAGES: Final = ("/usr/lib/postgresql/{}/bin", "/usr/pgsql-{}/bin")
"""Where Debian's and PostgreSQL's own RPM packages put each version."""


def programs_for(version_num: int, packages: tuple[str, ...] = _PACKAGES) -> Programs:
    """Those of the server's own major version: the embedded ones, a package's, or what is on the PATH.

    version_num: the server's `server_version_num`. Without such, the embedded ones, which dump any older
    server; MissingError if there are none either.
    """
    major = version_num // _MAJOR
    for folder in _folders(major, packages):
        pg_dump = folder / "pg_dump"
        if pg_dump.exists() and program_version(pg_dump).split(".")[0] == str(major):
            return folder.joinpath
    return program


def check_extensions(wanted: Iterable[Extension], programs: Programs) -> None:
    """Whether a server of these programs could use a data folder with these extensions. UsageError if not.

    Where pg_config is not installed, nothing tells; then the server itself will.
    """
    try:
        with Producer([programs("pg_config"), "--sharedir"]) as running:
            share = Path(running.read(1 << 16).decode().strip())
    except (MissingError, ProducerFailed):
        return
    missing = sorted(
        {one.name for one in wanted if not (share / "extension" / f"{one.name}.control").exists()}
    )
    if missing:
        raise UsageError(
            f"extensions of the backup are not installed: {', '.join(missing)}",
            place=str(share / "extension"),
            remedy="Install their packages for this server, then restore.",
        )


def _folders(major: int, packages: tuple[str, ...]) -> Iterator[Path]:
    with suppress(MissingError):
        yield program("pg_dump").parent
    yield from (Path(package.format(major)) for package in packages)
    on_path = shutil.which("pg_dump")
    if on_path is not None:
        yield Path(on_path).parent
