"""Files that are there whole or not at all."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from dreamseed_cli.core.errors import FailedError


def write_atomically(path: Path, content: bytes, *, mode: int = 0o600) -> None:
    """Replace a file so that a reader, or a crash at any moment, finds the old one or the new one whole.

    It is on disk before it has its name, and never open to more than `mode`.
    """
    draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(file.fileno(), mode)
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)
    sync_folder(path.parent)


def make_readable(folder: Path) -> None:
    """Make a folder, and those above it that are not there, for all to read whatever the umask: what comes
    into it is for programs of other users.
    """
    missing = [one for one in (folder, *folder.parents) if not one.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    for one in missing:
        one.chmod(0o755)


def cannot_write(path: Path, error: OSError, also: str = "") -> FailedError:
    """What to raise where a file of `--out` cannot be written.

    path: told if the error names none. also: the remedy's second sentence.
    """
    return FailedError(
        f"cannot be written: {error.strerror or error}",
        place=str(error.filename or path),
        remedy=f"Free space or choose another folder with --out.{also and f' {also}'}",
    )


def sync_folder(folder: Path) -> None:
    """Make the names in it durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
