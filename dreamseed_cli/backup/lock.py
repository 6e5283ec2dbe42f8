"""One run at a time: a second one is told at once who is at work, and ends with an exit code of its own."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final, TextIO

from dreamseed_cli.core.errors import DreamseedError
from dreamseed_cli.core.processes import ProcessIdentity, boot_id

_NAME: Final = "run.lock"


class AlreadyRunning(DreamseedError):
    """Another run is at work on this host (exit code 5)."""

    exit_code = 5
    kind = "already_running"


@contextmanager
def only_one(home: Path, what: str) -> Iterator[None]:
    """Hold the runs' lock; AlreadyRunning, at once, while another process holds it.

    The kernel lets go of it however its holder ends. The file says who that is: pid, start time, boot.
    """
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = home / _NAME
    with os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT, 0o600), "r+", encoding="utf-8") as file:
        _lock(file, path)
        me = ProcessIdentity.of(os.getpid())
        file.truncate(0)
        file.write(
            json.dumps(
                {"pid": os.getpid(), "started": me.started if me else 0, "boot": boot_id(), "what": what}
            )
        )
        file.flush()
        yield


def refuse_second(home: Path) -> None:
    """AlreadyRunning if another process holds the lock now. Whether this one may run, `only_one` decides."""
    path = home / _NAME
    with suppress(FileNotFoundError), path.open(encoding="utf-8") as file:
        _lock(file, path)


def _lock(file: TextIO, path: Path) -> None:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise AlreadyRunning(
            f"another run is at work: {_holder(file.read())}",
            place=str(path),
            remedy="Wait for it, or end it: what is not finished counts for nothing.",
        ) from error


def _holder(text: str) -> str:
    try:
        found = json.loads(text)
        return f"{found['what']}, process {found['pid']}"
    except (ValueError, KeyError, TypeError):
        return "it has only just begun"
