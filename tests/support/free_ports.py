"""Ports for what listens later, or never."""

from __future__ import annotations

import os
import socket
from contextlib import suppress
from itertools import count
from pathlib import Path

_FROM = 15_000
# From here on the system gives ports to whoever asks for any: to the tests beside these, among others.
_TO = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text(encoding="ascii").split()[0])
# Every process of the tests begins somewhere else, and gives none of its ports twice.
_steps = count(os.getpid() * 7919)


def free_ports(number: int) -> list[int]:
    """Loopback ports nobody listens on, and which nobody is given meanwhile."""
    found: list[int] = []
    while len(found) < number:
        port = _FROM + next(_steps) % (_TO - _FROM)
        with suppress(OSError), socket.create_server(("127.0.0.1", port)):
            found.append(port)
    return found


def free_port() -> int:
    """One of them."""
    return free_ports(1)[0]
