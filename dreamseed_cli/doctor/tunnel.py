"""The way in from the cloud (§D2), as the program that keeps it tells."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

from dreamseed_cli.core.address import is_loopback
from dreamseed_cli.deploy.facts import gateway_name
from dreamseed_cli.doctor.finding import Finding, off, ok, problem, warning
from dreamseed_cli.doctor.program import told
from dreamseed_cli.profile.schema import Gateway, Profile

_AREA = "around"
_RENDER = "dreamseed deploy render way-in: how it is set up."
_INTERFACE = "wg0"
_INTERFACES = Path("/sys/class/net")
_FRESH_S = 180
"""WireGuard gives a session up then (REJECT_AFTER_TIME), and the cloud's side keeps it alive (deploy)."""


def tunnel(profile: Profile) -> Iterator[Finding]:
    """Where the profile names the box in one; for Cloudflare it need not: its follows from the domain."""
    way = profile.deploy.way_in
    if way.name is None and way.kind != "cloudflare":
        yield off(_AREA, "tunnel", "the profile names none (deploy.way_in.name)")
        return
    looks = {
        "tailscale": lambda name: _tailscale(name, profile.gateway),
        "cloudflare": _cloudflared,
        "wireguard": _wireguard,
    }
    yield looks[way.kind](gateway_name(profile))


def _tailscale(name: str, gateway: Gateway) -> Finding:
    if shutil.which("tailscale") is None:
        return problem(_AREA, "tunnel", "tailscale is not installed", _RENDER)
    try:
        state = json.loads(told("tailscale", "status", "--json")).get("BackendState", "unknown")
    except ValueError:
        state = "unknown"
    if state != "Running":
        return problem(_AREA, "tunnel", f"tailscale is {state}", "sudo tailscale up.")
    if is_loopback(gateway.host) and _passes_on(gateway.port) is False:
        said = f"tailscale runs, and passes nobody on to port {gateway.port}"
        serve = f"sudo tailscale serve --bg --tcp={gateway.port} tcp://127.0.0.1:{gateway.port}."
        return problem(_AREA, "tunnel", said, serve)
    return ok(_AREA, "tunnel", f"{name}, running")


def _passes_on(port: int) -> bool | None:
    """Whether `tailscale serve` forwards this port of the box's name; None: it does not tell."""
    try:
        ports = json.loads(told("tailscale", "serve", "status", "--json")).get("TCP") or {}
    except (ValueError, AttributeError):
        return None
    return "TCPForward" in ports.get(str(port), {})


def _cloudflared(name: str) -> Finding:
    """Whether systemd runs it: it tells nobody on the box whether it is connected."""
    if shutil.which("cloudflared") is None:
        return problem(_AREA, "tunnel", "cloudflared is not installed", _RENDER)
    state = told("systemctl", "is-active", "cloudflared")
    if not state:
        return off(_AREA, "tunnel", f"{name}: cloudflared is not looked at where systemd does not run it")
    if state == "active":
        return ok(_AREA, "tunnel", f"{name}, cloudflared runs")
    return problem(
        _AREA,
        "tunnel",
        f"cloudflared is {state}",
        "journalctl -u cloudflared; systemctl restart cloudflared.",
    )


def _wireguard(name: str) -> Finding:
    """By the age of the latest handshake: an interface that is up says nothing of the other side."""
    if shutil.which("wg") is None:
        return problem(_AREA, "tunnel", "wg is not installed", f"Install wireguard-tools. {_RENDER}")
    if not (_INTERFACES / _INTERFACE).exists():
        return problem(
            _AREA,
            "tunnel",
            f"{_INTERFACE} is not up",
            f"systemctl enable --now wg-quick@{_INTERFACE}. {_RENDER}",
        )
    said = told("wg", "show", _INTERFACE, "latest-handshakes")
    times = [int(line.split()[-1]) for line in said.splitlines() if line.split()[-1].isdigit()]
    if not times:
        return _no_peer()
    latest = max(times)
    if latest == 0:
        said, keys = "its peer has never answered", "compare the keys and the port of both sides."
        return problem(_AREA, "tunnel", f"{_INTERFACE}: {said}", f"sudo wg show {_INTERFACE}; {keys}")
    age_s = max(0, int(time.time()) - latest)
    said = f"latest handshake {age_s:,} s ago"
    if age_s <= _FRESH_S:
        return ok(_AREA, "tunnel", f"{name}, {said}")
    return problem(
        _AREA,
        "tunnel",
        f"{_INTERFACE}: {said}",
        "Is the instance in the cloud up, and this box's UDP port open?",
    )


def _no_peer() -> Finding:
    """`wg show` tells root alone of them."""
    if os.geteuid() != 0:
        return off(_AREA, "tunnel", f"{_INTERFACE} is up; only root is told more: sudo wg show {_INTERFACE}")
    return warning(_AREA, "tunnel", f"{_INTERFACE} tells of no peer", f"See wg show {_INTERFACE}.")
