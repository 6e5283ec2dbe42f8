"""Recovery must not make a tablespace: on the old host its folder is the live database's own.

A backup of a cluster with tablespaces is refused, but one can be made after it. Replaying that links
`pg_tblspc/OID` to the folder named in the WAL, and recovery then writes old pages there. Before that it sets
the folder's mode, to the one that its own data folder has: so that has the one of the old host's meanwhile.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from dreamseed_cli.backup.store.files import os_errors
from dreamseed_cli.backup.unpack import was_open_to_group
from dreamseed_cli.core.errors import FailedError

LINKS: Final = "pg_tblspc"
_SHUT: Final = 0o500
"""The server may look, and make no link: it runs without rights over modes (see services.root)."""
_OPEN: Final = 0o700
_GROUP: Final = 0o750
"""Of a cluster made with `initdb --allow-group-access`, whose files its group may read."""
_MET: Final = re.compile(
    r"WAL redo at ([0-9A-F]+/[0-9A-F]+) for Tablespace/CREATE: [0-9]+ \"(.*)\"$", re.MULTILINE
)


class TablespaceMade(FailedError):
    """The WAL to replay makes a tablespace, which could lie in a live database's own folder."""

    kind = "tablespace_made"


def shut(data: Path) -> None:
    """No tablespace can be made from now on. OSError's own, as a store's error."""
    group = was_open_to_group(data)
    with os_errors(str(data)):
        (data / LINKS).chmod(_SHUT)
        if group:
            data.chmod(_GROUP)


def unshut(data: Path) -> None:
    """They can be made again: recovery is over."""
    with os_errors(str(data)):
        data.chmod(_OPEN)
        (data / LINKS).chmod(_OPEN)


def made_in(log: str, data: Path) -> TablespaceMade | None:
    """What a server's log says of a tablespace that it could not make; None: nothing."""
    met = _MET.search(log)
    if met is None:
        return None
    at, place = met.groups()
    return TablespaceMade(
        f"a tablespace was made in {place} after this backup (at {at}), and replaying that could write into "
        "a live database's folder",
        place=str(data),
        remedy=f"Restore to before it, --lsn {at} --exclusive, or restore a logical backup made since.",
    )
