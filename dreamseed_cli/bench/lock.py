"""One bench at a time: two would measure each other, and share what they start."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dreamseed_cli.core.errors import UsageError

_FILE = "bench.lock"


@contextmanager
def only_bench(folder: Path) -> Iterator[None]:
    """Hold the folder's lock, which the kernel drops with its holder.

    UsageError, at once, while another process holds it, or if the folder cannot be written.
    """
    remedy = "Choose another with --state-dir or DREAMSEED_STATE_DIR."
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        stream = (folder / _FILE).open("a")
    except OSError as error:
        raise UsageError(
            f"the state folder cannot be written: {error.strerror}", place=str(folder), remedy=remedy
        ) from error
    with stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UsageError(
                "another bench measures from here, and each would measure the other",
                place=str(folder),
                remedy="Wait for it; or give this one a folder of its own with --state-dir.",
            ) from error
        yield
