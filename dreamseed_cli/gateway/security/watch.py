"""Whether files changed, by what the file system says of them; nothing is read."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

Signature = tuple[tuple[int, int, int, int] | None, ...]


def signature(paths: Sequence[Path]) -> Signature:
    """What a change of any file changes: inode, size, and the times of content and mode; None: not there.

    Take it before reading: a change while one reads is then a change at the next look.
    """
    return tuple(_of(path) for path in paths)


def _of(path: Path) -> tuple[int, int, int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns
