"""A password that only this stack needs to know: made once, kept in a file of its owner alone."""

from __future__ import annotations

import os
import secrets
from pathlib import Path


def ensure_password(file: Path) -> str:
    """The password in `file`, which is made if it is not there; never shorter than 32 characters."""
    try:
        found = file.read_text(encoding="ascii").strip()
    except (FileNotFoundError, UnicodeDecodeError):
        found = ""
    if len(found) >= 32:
        return found
    made = secrets.token_urlsafe(32)
    write_private(file, made + "\n")
    return made


def write_private(file: Path, text: str) -> None:
    """Replace a file by one that is whole and readable by its owner only, from its first byte on."""
    new = file.with_name(f".{file.name}.new")
    new.unlink(missing_ok=True)
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
        stream.write(text)
        stream.flush()
        os.fsync(descriptor)
    new.replace(file)
