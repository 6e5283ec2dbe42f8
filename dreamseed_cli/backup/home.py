"""Where this user's backups keep their keys, lock and records; quick to load."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import platformdirs


def backup_home(environment: Mapping[str, str]) -> Path:
    """$DREAMSEED_BACKUP_DIR, else `backup` in the user's data folder (XDG): not where the database lies."""
    chosen = environment.get("DREAMSEED_BACKUP_DIR")
    return Path(chosen).expanduser() if chosen else platformdirs.user_data_path("dreamseed") / "backup"
