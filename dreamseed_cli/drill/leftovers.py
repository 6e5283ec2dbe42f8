"""What a drill that was killed left behind, servers of its copies and its folder: the next removes it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from dreamseed_cli.core.processes import ProcessIdentity, boot_id
from dreamseed_cli.services.leftovers import end_leftovers

_PREFIX: Final = "dreamseed-drill-"
_OWNER: Final = "owner.json"


@contextmanager
def scratch_folder(base: Path) -> Iterator[Path]:
    """A new folder below `base` that goes at the end, whatever happens, with every server in it."""
    base.mkdir(mode=0o700, parents=True, exist_ok=True)
    clear(base)
    folder = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=base))
    me = ProcessIdentity.of(os.getpid())
    owner = {"pid": os.getpid(), "started": me.started if me else 0, "boot": boot_id()}
    (folder / _OWNER).write_text(json.dumps(owner), encoding="utf-8")
    try:
        yield folder
    finally:
        remove(folder)


def clear(base: Path) -> list[Path]:
    """Remove the folders of drills that are dead; which."""
    dead = [folder for folder in sorted(base.glob(f"{_PREFIX}*")) if not _lives(folder)]
    for folder in dead:
        remove(folder)
    return dead


def remove(folder: Path) -> None:
    """End the servers that work in it, and delete it. FailedError if one does not end."""
    for version in folder.glob("**/PG_VERSION"):
        if (version.parent / "global").is_dir():
            end_leftovers(version.parent, "postgres", ask=signal.SIGINT)
    shutil.rmtree(folder, ignore_errors=True)


def _lives(folder: Path) -> bool:
    try:
        owner = json.loads((folder / _OWNER).read_text(encoding="utf-8"))
        return owner["boot"] == boot_id() and ProcessIdentity(owner["pid"], owner["started"]).alive()
    except (OSError, ValueError, KeyError, TypeError):
        return False
