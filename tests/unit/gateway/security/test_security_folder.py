"""The folder of certificates: nothing overwritten, nothing half-made."""

from __future__ import annotations

import os
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from dreamseed_cli.core.errors import MissingError, UsageError
from dreamseed_cli.gateway.security.expiry import Condition, survey
from dreamseed_cli.gateway.security.folder import CertificateFolder, server_names
from dreamseed_cli.gateway.security.tokens import ServiceTokens

NOW = datetime.now(UTC).replace(microsecond=0)


@pytest.fixture
def folder(tmp_path: Path) -> CertificateFolder:
    """One that does not exist yet."""
    return CertificateFolder(tmp_path / "certs")


def _contents(folder: CertificateFolder) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.root.iterdir()} if folder.root.exists() else {}


def _conditions(folder: CertificateFolder, now: datetime = NOW) -> dict[str, Condition]:
    return {entry.file.name: entry.condition for entry in survey(folder, now)}


def test_everything_is_made_at_once_and_only_its_owner_reads_the_keys(folder: CertificateFolder) -> None:
    """The authority, the server's and the clients' pairs fit together; the process's umask opens nothing."""
    before = os.umask(0)
    try:
        made = folder.create(["gpu.test"], ["front", "bench"], NOW, 100, renew=False)
    finally:
        os.umask(before)
    assert [path.name for path in made] == ["ca.crt", "server.crt", "client-front.crt", "client-bench.crt"]
    authority = folder.authority.load().certificate
    for pair in (folder.server, folder.client("front"), folder.client("bench")):
        pair.load().certificate.verify_directly_issued_by(authority)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in folder.root.iterdir()}
    assert {mode for name, mode in modes.items() if name.endswith(".key")} == {0o600}
    assert stat.S_IMODE(folder.root.stat().st_mode) == 0o700


def test_a_second_run_keeps_the_authority_and_overwrites_nothing(folder: CertificateFolder) -> None:
    """A client is added; what exists is refused, and then nothing else is written either."""
    folder.create(["gpu.test"], [], NOW, 100, renew=False)
    authority = folder.authority.certificate.read_bytes()
    assert folder.create([], ["front"], NOW, 100, renew=False) == [folder.client("front").certificate]
    before = _contents(folder)
    for names, clients in ((["gpu.test"], ["new"]), (["gpu.test"], []), ([], ["new", "front"])):
        with pytest.raises(UsageError, match="exists already"):
            folder.create(names, clients, NOW, 100, renew=False)
        assert _contents(folder) == before
    assert before["ca.crt"] == authority


def test_a_wrong_name_leaves_no_trace(folder: CertificateFolder) -> None:
    """Not even an authority."""
    with pytest.raises(UsageError):
        folder.create(["not:a:name"], [], NOW, 100, renew=False)
    with pytest.raises(UsageError):
        folder.create(["gpu.test"], ["../x"], NOW, 100, renew=False)
    assert _contents(folder) == {}


def test_a_renewal_keeps_authority_and_names(folder: CertificateFolder) -> None:
    """The server gets a new key; with names it gets those instead. Clients stay as they are."""
    folder.create(["gpu.test", "100.64.1.2"], ["front"], NOW, 100, renew=False)
    before = _contents(folder)
    assert folder.create([], [], NOW, 100, renew=True) == [folder.server.certificate]
    after = _contents(folder)
    assert {name for name in after if after[name] != before[name]} == {"server.crt", "server.key"}
    assert set(server_names(folder.server.certificate)) >= {"gpu.test", "100.64.1.2"}
    folder.create(["other.test"], [], NOW, 100, renew=True)
    assert "gpu.test" not in server_names(folder.server.certificate)


def test_a_renewal_of_a_client_alone_leaves_the_server(folder: CertificateFolder) -> None:
    """Who names a client means that client."""
    folder.create(["gpu.test"], ["front"], NOW, 100, renew=False)
    server = folder.server.certificate.read_bytes()
    folder.create([], ["front"], NOW, 100, renew=True)
    assert folder.server.certificate.read_bytes() == server


@pytest.mark.parametrize("missing", ["ca.key", "ca.crt"])
def test_an_authority_whose_half_is_elsewhere_is_not_replaced(
    folder: CertificateFolder, missing: str
) -> None:
    """A key kept on another disk is asked for; what it signed goes on being good."""
    folder.create(["gpu.test"], [], NOW, 100, renew=False)
    (folder.root / missing).unlink()
    before = _contents(folder)
    with pytest.raises(MissingError) as caught:
        folder.create([], [], NOW, 100, renew=True)
    assert caught.value.place == str(folder.root / missing)
    assert _contents(folder) == before


def test_a_disk_that_fails_midway_leaves_whole_files(
    folder: CertificateFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No draft stays, and a run after it mends what was begun."""
    folder.create(["gpu.test"], [], NOW, 100, renew=False)
    whole = _contents(folder)
    real, calls = os.fsync, iter(range(100))

    def failing(descriptor: int) -> None:
        if next(calls) == 2:  # the certificate's, after the key's and its folder's
            raise OSError(28, "No space left on device")
        real(descriptor)

    monkeypatch.setattr(os, "fsync", failing)
    with pytest.raises(OSError, match="No space left"):
        folder.create([], [], NOW, 100, renew=True)
    monkeypatch.undo()
    assert set(_contents(folder)) == set(whole)
    assert _conditions(folder)["server.crt"] is Condition.BROKEN
    folder.create([], [], NOW, 100, renew=True)
    assert set(_conditions(folder).values()) == {Condition.GOOD}


def test_tokens_are_added_to_what_is_there(folder: CertificateFolder) -> None:
    """Each under its label and date; those before stay."""
    file = folder.add_token("front", NOW)
    first = file.read_text().splitlines()[-1]
    file.write_text(file.read_text().rstrip("\n"))
    folder.add_token("bench", NOW)
    lines = file.read_text().splitlines()
    assert [lines[0], lines[2]] == [f"# front, {NOW:%Y-%m-%d}", f"# bench, {NOW:%Y-%m-%d}"]
    tokens = ServiceTokens(file)
    assert tokens.knows(first)
    assert tokens.knows(lines[3])
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_a_token_file_open_to_others_is_not_added_to(folder: CertificateFolder) -> None:
    """What leaked already should not be joined by another."""
    folder.add_token("front", NOW).chmod(0o644)
    with pytest.raises(UsageError, match="open to others"):
        folder.add_token("bench", NOW)


@pytest.mark.parametrize(
    ("days", "condition"),
    [(86, Condition.GOOD), (87, Condition.DUE), (101, Condition.EXPIRED)],
)
def test_what_is_due(folder: CertificateFolder, days: int, condition: Condition) -> None:
    """Two weeks before its end a certificate is due, after it it has expired."""
    folder.create(["gpu.test"], [], NOW, 100, renew=False)
    later = NOW + timedelta(days=days)
    assert _conditions(folder, later) == {"ca.crt": Condition.GOOD, "server.crt": condition}
    entry = survey(folder, later)[1]
    assert entry.days_left == 100 - days
    assert (entry.kind, entry.names[0]) == ("server", "gpu.test")


def test_what_cannot_serve_is_broken_and_what_was_moved_is_not(folder: CertificateFolder) -> None:
    """A server without its key, garbage, a key of another; the authority's and a client's key may be away."""
    folder.create(["gpu.test"], ["front", "bench"], NOW, 100, renew=False)
    folder.authority.key.unlink()
    folder.client("front").key.unlink()
    assert _conditions(folder) == {
        "ca.crt": Condition.KEY_ELSEWHERE,
        "server.crt": Condition.GOOD,
        "client-front.crt": Condition.KEY_ELSEWHERE,
        "client-bench.crt": Condition.GOOD,
    }
    folder.client("bench").key.replace(folder.server.key)
    folder.client("bench").certificate.write_text("garbage")
    conditions = _conditions(folder)
    assert conditions["server.crt"] is conditions["client-bench.crt"] is Condition.BROKEN
    folder.server.key.unlink()
    assert survey(folder, NOW)[1].problem == "server.key is not there"


def test_where_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The option, else the variable, else the user's configuration folder."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "xdg"))
    monkeypatch.delenv("DREAMSEED_CERTS_DIR", raising=False)
    assert CertificateFolder.locate().root == tmp_path / "xdg" / "dreamseed" / "certs"
    monkeypatch.setenv("DREAMSEED_CERTS_DIR", str(tmp_path / "chosen"))
    assert CertificateFolder.locate().root == tmp_path / "chosen"
    assert CertificateFolder.locate(tmp_path / "given").root == tmp_path / "given"
