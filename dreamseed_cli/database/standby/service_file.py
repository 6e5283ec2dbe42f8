"""libpq's service file: the one place that says which server clients connect to.

libpq reads it anew for every connection (libpq, "The Connection Service File"), so that a pool turns to
another server as soon as its old connections break, without a restart and without code of ours.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from psycopg.conninfo import conninfo_to_dict

from dreamseed_cli.core.errors import UsageError
from dreamseed_cli.core.files import write_atomically
from dreamseed_cli.database.standby.watch import Mode

_MARK: Final = "# dreamseed: "
_LONGEST: Final = 1000
"""Bytes of a line: libpq takes 1,023."""


@dataclass(frozen=True, slots=True)
class Pointed:
    """mode: where clients are sent; None: nowhere, or by a file that somebody else wrote. system: the
    identifier of their cluster, as the primary told it once; empty: it never did.
    """

    mode: Mode | None
    system: str


@dataclass(frozen=True, slots=True)
class ServiceFile:
    """path: holds what the connection strings hold, passwords too: only its owner may read it."""

    path: Path
    service: str

    def read(self) -> Pointed:
        """Where it sends clients, and of which cluster they are, from one look: a person's command may write
        it at any moment.
        """
        found = self._marked()
        try:
            mode = Mode(found["mode"])
        except (ValueError, KeyError):
            mode = None
        return Pointed(mode, str(found.get("system", "")))

    def mode(self) -> Mode | None:
        """Where it sends clients."""
        return self.read().mode

    def point(self, mode: Mode, dsn: str, now: datetime, system: str = "") -> None:
        """Send clients to `dsn`. system: the cluster's identifier; what is remembered stays without one.

        UsageError if the string holds what a service file cannot.
        """
        about = {"mode": mode.value, "at": now.isoformat(timespec="seconds")}
        mark = json.dumps({**about, "system": system or self.read().system})
        lines = [f"{_MARK}{mark}", f"[{self.service}]", *_lines(dsn)]
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_atomically(self.path, "".join(f"{line}\n" for line in lines).encode())

    def _marked(self) -> Mapping[str, Any]:
        try:
            first = self.path.read_text(encoding="utf-8").partition("\n")[0]
            found = json.loads(first.removeprefix(_MARK))
        except (OSError, ValueError):
            return {}
        return found if isinstance(found, dict) else {}

    def dsn(self) -> str:
        """What clients connect with, having $PGSERVICEFILE."""
        return f"service={self.service}"


def _lines(dsn: str) -> list[str]:
    lines = []
    for name, value in conninfo_to_dict(dsn).items():
        text = f"{name}={value}"
        # libpq cuts white space off both ends, and has no quotes.
        if name == "service" or text != text.strip() or "\n" in text or len(text.encode()) > _LONGEST:
            raise UsageError(
                f"its '{name}' cannot stand in a service file",
                place="connection string",
                remedy="Leave it out; a password may lie in a file that passfile= names.",
            )
        lines.append(text)
    return lines
