"""A server is dumped and restored with programs of its own version, where there are any."""

from pathlib import Path

import pytest

from dreamseed_cli.backup.manifest import Extension
from dreamseed_cli.backup.producer import program_version
from dreamseed_cli.backup.programs import check_extensions, programs_for
from dreamseed_cli.core.errors import UsageError
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


def test_extensions_that_are_not_installed_are_named_before_a_restore(tmp_path: Path) -> None:
    """By the folder that pg_config names; without pg_config nothing is known, and nothing refused."""
    wanted = [Extension(database="a", name=name, version="1.0") for name in ("pg_trgm", "postgis", "postgis")]
    check_extensions(wanted, tmp_path.joinpath)
    (tmp_path / "pg_config").write_text(f"#!/bin/sh\necho {tmp_path}/share\n")
    (tmp_path / "pg_config").chmod(0o755)
    (tmp_path / "share" / "extension").mkdir(parents=True)
    (tmp_path / "share" / "extension" / "pg_trgm.control").touch()
    with pytest.raises(UsageError, match="not installed: postgis"):
        check_extensions(wanted, tmp_path.joinpath)
    check_extensions(wanted[:1], tmp_path.joinpath)
