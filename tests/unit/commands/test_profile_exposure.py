"""`dreamseed profile check` on a profile that opens the gateway to the network."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from dreamseed_cli.app import main
from dreamseed_cli.profile.load import profile_path


def _check(path: Path) -> int:
    with pytest.raises(SystemExit) as ended:
        main(["profile", "check", str(path), "--json"])
    return int(ended.value.code or 0)


def _save(path: Path, source: str, gateway: str) -> Path:
    text = profile_path(source).read_text(encoding="utf-8")
    assert "[gateway]" in text
    path.write_text(text.replace("[gateway]", f"[gateway]\n{gateway}", 1), encoding="utf-8")
    return path


def test_the_documents_insecure_port_is_found(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """§D1: named with its place and the way out; exit code 2."""
    assert _check(_save(tmp_path / "open.toml", "laptop", 'host = "0.0.0.0"')) == 2
    (error,) = json.loads(capsys.readouterr().out)["errors"]
    assert error["place"] == "laptop: gateway.host"
    assert "without TLS" in error["cause"]
    assert "dreamseed certs create" in error["remedy"]


def test_with_tls_it_passes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Users' API keys in PostgreSQL are who may then come in."""
    tls = 'host = "0.0.0.0"\nsecurity.tls = { certificate = "server.crt", key = "server.key" }'
    assert _check(_save(tmp_path / "tls.toml", "laptop", tls)) == 0
    assert json.loads(capsys.readouterr().out)["ok"] is True
