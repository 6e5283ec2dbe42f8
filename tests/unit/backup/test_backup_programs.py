"""A server is dumped and restored with programs of its own version, where there are any."""

from pathlib import Path

import pytest

from dreamseed_cli.backup.producer import program_version
from dreamseed_cli.backup.programs import programs_for
from dreamseed_cli.services.postgres import program


def installed(folder: Path, version: str) -> Path:
    """A folder whose pg_dump says that it is of this version."""
    folder.mkdir()
    (folder / "pg_dump").write_text(f"#!/bin/sh\necho 'pg_dump (PostgreSQL) {version}'\n")
    (folder / "pg_dump").chmod(0o755)
    return folder


def test_the_embedded_ones_fit_the_embedded_server() -> None:
    """No package is asked for."""
    major = int(program_version(program("pg_dump")).split(".")[0])
    assert programs_for(major * 10_000 + 4, ())("psql") == program("psql")


def test_a_package_of_the_servers_version(tmp_path: Path) -> None:
    """Its folder is named after the version, and its program asked, too."""
    installed(tmp_path / "15", "15.14 (Debian)")
    installed(tmp_path / "14", "16.1")
    packages = (f"{tmp_path}/{{}}",)
    assert programs_for(150014, packages)("psql") == tmp_path / "15" / "psql"
    assert programs_for(140001, packages)("psql") == program("psql")


def test_what_is_on_the_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If its version is the server's."""
    monkeypatch.setenv("PATH", str(installed(tmp_path / "bin", "13.3")), prepend=":")
    assert programs_for(130003, ())("psql") == tmp_path / "bin" / "psql"
    assert programs_for(120003, ())("psql") == program("psql")
