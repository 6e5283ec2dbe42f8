"""`dreamseed certs`: what it makes, shows, and never prints."""

from __future__ import annotations

import io
import json
import tomllib
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from rich.console import Console

from dreamseed_cli.commands.certs import certs_app
from dreamseed_cli.core.errors import MissingError, UsageError
from dreamseed_cli.core.result import Result
from dreamseed_cli.gateway.address import listen_address
from dreamseed_cli.gateway.security.folder import CertificateFolder
from dreamseed_cli.gateway.security.server import load_bundle
from dreamseed_cli.profile.schema import Gateway


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> CertificateFolder:
    """The folder that the commands take without --dir."""
    monkeypatch.setenv("DREAMSEED_CERTS_DIR", str(tmp_path / "certs"))
    return CertificateFolder(tmp_path / "certs")


def _run(*arguments: str) -> Result:
    outcome = certs_app(args=list(arguments), standalone_mode=False)
    assert isinstance(outcome, Result)
    json.dumps(outcome.data)
    return outcome


def _printed(result: Result) -> str:
    console = Console(width=200, file=io.StringIO(), record=True)
    for item in result.view:
        console.print(item)
    return console.export_text()


def test_create_prints_lines_that_a_gateway_beyond_loopback_starts_with(folder: CertificateFolder) -> None:
    """As they stand, in a profile: the address is allowed and the files are right."""
    _run("token")
    for clients in ((), ("--client", "front")):
        created = _run("create", "--name", "gpu.test", "--name", "100.64.1.2", "--renew", *clients)
        profile = tomllib.loads(created.data["profile"])
        gateway = Gateway.model_validate({"host": "100.64.1.2", **profile["gateway"]})
        assert listen_address("100.64.1.2", 1, gateway.security) == "100.64.1.2:1"
        assert gateway.security.tls is not None
        load_bundle(gateway.security.tls)
        assert gateway.security.service_tokens_file == str(folder.tokens)
        assert gateway.security.tls.require_client_certificate is bool(clients)
    printed = _printed(created)
    assert "[gateway.security.tls]" in printed
    assert "gpu.test" in printed


def test_create_needs_a_name() -> None:
    """It does not guess one."""
    with pytest.raises(UsageError, match="nothing was named"):
        certs_app(args=["create"], standalone_mode=False)


def test_create_twice_needs_renew(folder: CertificateFolder) -> None:
    """And a renewal needs no name."""
    _run("create", "--name", "gpu.test", "--days", "30")
    with pytest.raises(UsageError, match="exists already"):
        certs_app(args=["create", "--name", "gpu.test"], standalone_mode=False)
    renewed = _run("create", "--renew")
    assert renewed.data["made"] == [str(folder.server.certificate)]
    assert renewed.data["certificates"][1]["days_left"] in {396, 397}


def test_show_says_what_each_is_and_for_how_long() -> None:
    """As data and as a table."""
    _run("create", "--name", "gpu.test", "--client", "front")
    shown = _run("show")
    assert shown.exit_code == 0
    kinds = {Path(entry["file"]).name: entry["kind"] for entry in shown.data["certificates"]}
    assert kinds == {"ca.crt": "authority", "server.crt": "server", "client-front.crt": "client"}
    printed = _printed(shown)
    for part in ("gpu.test", "client-front.crt", "dreamseed private authority", "good"):
        assert part in printed


@pytest.mark.parametrize("days", [13, -1])
def test_show_exits_with_1_when_one_is_due_or_expired(folder: CertificateFolder, days: int) -> None:
    """A cron job notices."""
    now = datetime.now(UTC)
    folder.create(["gpu.test"], [], now - timedelta(days=10), 10 + days, renew=False)
    shown = _run("show")
    assert shown.exit_code == 1
    assert shown.data["certificates"][1]["condition"] == ("expired" if days < 0 else "due for renewal")


def test_show_without_certificates_is_something_missing() -> None:
    """With the way to some."""
    with pytest.raises(MissingError, match="no certificates are here"):
        certs_app(args=["show"], standalone_mode=False)


def test_a_token_is_written_and_never_printed(folder: CertificateFolder) -> None:
    """Neither for people nor as JSON; the label is beside it."""
    made = _run("token", "--label", "front in seoul")
    comment, token = folder.tokens.read_text().splitlines()
    assert comment.startswith("# front in seoul, ")
    assert token not in _printed(made)
    assert token not in json.dumps(made.data)
    with pytest.raises(UsageError, match="one line"):
        certs_app(args=["token", "--label", "a\nb"], standalone_mode=False)


def test_no_key_is_printed(folder: CertificateFolder) -> None:
    """Neither for people nor as JSON."""
    created = _run("create", "--name", "gpu.test")
    body = folder.server.key.read_text().splitlines()[1]
    assert body not in _printed(created)
    assert body not in json.dumps(created.data)
