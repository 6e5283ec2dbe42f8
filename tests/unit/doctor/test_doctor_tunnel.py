"""What `dreamseed doctor` says of the way in, as the programs that keep it tell."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
from doctor_findings import levels_of, program, with_parts

from dreamseed_cli.doctor import tunnel


@pytest.mark.parametrize(
    ("told", "level"),
    [
        ('{"BackendState": "Running", "TCP": {"50051": {"TCPForward": "127.0.0.1:50051"}}}', "ok"),
        ('{"BackendState": "Stopped"}', "problem"),
        ("x", "problem"),
    ],
)
def test_a_tunnel_that_is_down_is_a_problem(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, told: str, level: str
) -> None:
    """As tailscale itself tells it."""
    profile = with_parts(deploy={"way_in": {"name": "gpu.mine.ts.net"}})
    monkeypatch.setenv("PATH", str(tmp_path))
    assert levels_of(tunnel.tunnel(profile)) == {"tunnel": "problem"}
    program(tmp_path, "tailscale", told)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    assert levels_of(tunnel.tunnel(profile)) == {"tunnel": level}


@pytest.mark.parametrize(
    ("serve", "host", "level"),
    [
        ('{"TCP": {"50051": {"TCPForward": "127.0.0.1:50051"}}}', "127.0.0.1", "ok"),
        ('{"TCP": {"443": {"HTTPS": true}}}', "127.0.0.1", "problem"),
        ("{}", "127.0.0.1", "problem"),
        ("{}", "100.64.1.2", "ok"),
        ("words of an older one", "127.0.0.1", "ok"),
    ],
)
def test_a_tunnel_that_leads_nowhere_is_a_problem(programs: Path, serve: str, host: str, level: str) -> None:
    """A gateway on loopback is reached only through what `tailscale serve` passes on."""
    says = f"case $1 in serve) echo '{serve}' ;; *) echo '{{\"BackendState\": \"Running\"}}' ;; esac"
    script = programs / "tailscale"
    script.write_text(f"#!/bin/sh\n{says}\n")
    script.chmod(0o755)
    base = with_parts(deploy={"way_in": {"name": "gpu.mine.ts.net"}})
    profile = base.model_copy(update={"gateway": base.gateway.model_copy(update={"host": host})})
    assert levels_of(tunnel.tunnel(profile)) == {"tunnel": level}


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that is all of PATH beside the system's, and the network's interfaces beside it."""
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin")
    monkeypatch.setattr(tunnel, "_INTERFACES", tmp_path / "net")
    return tmp_path


@pytest.mark.parametrize(
    ("state", "level"), [("active", "ok"), ("failed", "problem"), ("inactive", "problem"), ("", "off")]
)
@pytest.mark.parametrize("name", ["gpu.example.net", None])
def test_cloudflares_is_looked_at_through_systemd(
    programs: Path, state: str, level: str, name: str | None
) -> None:
    """Where systemd answers; its name follows from the domain, if none is given."""
    profile = with_parts(deploy={"way_in": {"kind": "cloudflare", "name": name}})
    program(programs, "systemctl", state)
    assert levels_of(tunnel.tunnel(profile)) == {"tunnel": "problem"}
    program(programs, "cloudflared", "")
    assert levels_of(tunnel.tunnel(profile)) == {"tunnel": level}


@pytest.mark.parametrize(
    ("ages_s", "level", "said"),
    [
        ([20], "ok", "latest handshake"),
        ([5000, 20], "ok", "latest handshake"),
        ([5000], "problem", "s ago"),
        ([None], "problem", "never"),
        ([], "warning", "no peer"),
    ],
)
def test_wireguards_is_as_well_as_its_latest_handshake(
    monkeypatch: pytest.MonkeyPatch, programs: Path, ages_s: list[int | None], level: str, said: str
) -> None:
    """`wg show wg0 latest-handshakes`: 0 is a peer that never answered; nothing, one who may not ask."""
    profile = with_parts(deploy={"way_in": {"kind": "wireguard", "name": "box.example.net"}})
    now = int(time.time())
    lines = [f"key{i}=\t{0 if age is None else now - age}" for i, age in enumerate(ages_s)]
    assert "not installed" in next(iter(tunnel.tunnel(profile))).said
    program(programs, "wg", "\n".join(lines))
    assert "not up" in next(iter(tunnel.tunnel(profile))).said
    (programs / "net" / "wg0").mkdir(parents=True)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    (found,) = tunnel.tunnel(profile)
    assert (found.level.value, said in found.said) == (level, True)
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    (found,) = tunnel.tunnel(profile)
    assert found.level.value == ("off" if level == "warning" else level)
