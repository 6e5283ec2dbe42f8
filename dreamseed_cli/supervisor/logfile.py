"""The children's log files: bounded in size, and their last lines."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

LOG_LIMIT_BYTES = 32 * 1024 * 1024
_TAIL_BYTES = 128 * 1024
_NOISE = re.compile(
    r"nanobind: (leaked \d+ .*!|this is likely caused by a reference counting issue in the binding code\.)"
    r"| - leaked (instance|type|function) .*"
    r"| - \.\.\. skipped remainder"
    r"|See https://nanobind\.readthedocs\.io/\S*"
)
"""What nanobind (xgrammar's bindings in vLLM) prints as a process ends, for whatever reason: it would push
the reason out of the last lines."""
_TERMINAL_CODES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


def bound_log(path: Path, limit_bytes: int = LOG_LIMIT_BYTES) -> bool:
    """Once a log is over the limit, keep its content as `NAME.log.1` and empty it; whether that was done.

    The file itself stays: its writer appends to it and goes on at its new end. On a full disk nothing is
    kept: the service needs the space more than its old log.
    """
    try:
        if path.stat().st_size <= limit_bytes:
            return False
    except FileNotFoundError:
        return False
    kept = path.with_name(f"{path.name}.1")
    try:
        shutil.copyfile(path, kept)
    except OSError:
        kept.unlink(missing_ok=True)
    os.truncate(path, 0)
    return True


def last_lines(path: Path, count: int, *, since_byte: int = 0, until_byte: int | None = None) -> list[str]:
    """Up to `count` last lines that say something, read from the file's end only: no empty ones, and not what
    libraries say of themselves at every end.

    since_byte: what stands before it belongs to an earlier run (ignored once the log was emptied).
    until_byte: what stands behind it is left out (None: nothing is).
    """
    try:
        with path.open("rb") as stream:
            size = stream.seek(0, os.SEEK_END)
            size = size if until_byte is None else min(size, until_byte)
            start = max(size - _TAIL_BYTES, since_byte if since_byte <= size else 0)
            stream.seek(start)
            text = stream.read(size - start).decode("utf-8", errors="replace")
    except FileNotFoundError:
        return []
    lines = [clean_line(line) for line in text.split("\n")]
    return [line for line in lines if says_something(line)][-count:] if count > 0 else []


def says_something(line: str) -> bool:
    """Whether a clean line is worth an operator's look."""
    return bool(line) and _NOISE.fullmatch(line) is None


def clean_line(line: str) -> str:
    """A line as it can be shown: without colour codes and what a progress bar overwrote."""
    return _TERMINAL_CODES.sub("", line.rstrip().rsplit("\r", 1)[-1])
