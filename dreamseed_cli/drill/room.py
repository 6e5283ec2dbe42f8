"""Whether a drill's copies have room: told before the first is begun, not when a disk of the box is full."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Final

from dreamseed_cli.backup.catalog import read_catalog
from dreamseed_cli.backup.progress import size_text
from dreamseed_cli.backup.settings import Settings
from dreamseed_cli.core.errors import UsageError
from dreamseed_cli.core.paths import nearest

_COPIES: Final = 3
"""Databases that lie there at once: a copy, its backup with WAL, and what is brought back."""
_RESERVE: Final = 2**30
"""Bytes that stay free: others write to the disk meanwhile."""


def check_room(settings: Settings, scratch: Path) -> None:
    """UsageError unless three of the newest backup's databases and a reserve fit there. Without a backup
    there is nothing to copy, which the drill itself tells.
    """
    store = settings.open()
    try:
        backups = read_catalog(store).backups
    finally:
        store.close()
    if not backups:
        return
    needed = _COPIES * backups[0].manifest.plain_bytes + _RESERVE
    free = shutil.disk_usage(nearest(scratch)).free
    if free < needed:
        raise UsageError(
            f"a drill's copies need {size_text(needed)}, three databases and 1 GiB to spare, and "
            f"{size_text(free)} are free",
            place=str(scratch),
            remedy="Make room, or give a folder on a larger disk: --scratch.",
        )
