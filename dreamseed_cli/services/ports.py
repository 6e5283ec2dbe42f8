"""Loopback ports of the embedded services: chosen once, remembered, chosen anew when one is taken."""

from __future__ import annotations

import json
import socket
from contextlib import ExitStack
from pathlib import Path


def remembered_ports(file: Path, count: int, *, ours: bool = False) -> tuple[int, ...]:
    """`count` ports that are free now: those in `file` if all of them are, else new ones, written there.

    ours: whoever holds those in `file` now is ours, and will be gone before they are used. The file's folder
    must exist. A file that cannot be read is as good as none.
    """
    known = _read(file)
    if len(known) == count and (ours or all(_is_free(port) for port in known)):
        return known
    chosen = free_ports(count)
    file.write_text(json.dumps(chosen) + "\n", encoding="ascii")
    return chosen


def _read(file: Path) -> tuple[int, ...]:
    try:
        found = json.loads(file.read_text(encoding="ascii"))
    except (OSError, ValueError):
        return ()
    whole = isinstance(found, list) and all(isinstance(port, int) and 0 < port < 65536 for port in found)
    return tuple(found) if whole and len(set(found)) == len(found) else ()


def _is_free(port: int) -> bool:
    try:
        socket.create_server(("127.0.0.1", port)).close()
    except OSError:
        return False
    return True


def free_ports(count: int) -> tuple[int, ...]:
    """Loopback ports that are free now; held together, so that no two are the same."""
    with ExitStack() as stack:
        servers = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return tuple(server.getsockname()[1] for server in servers)
