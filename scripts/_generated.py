"""What the generators of `make docs` have in common: they write, or say what is stale."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from pathlib import Path

_ROOT = Path(__file__).resolve().parent.parent


def write_or_check(description: str | None, files: Callable[[], Mapping[str, str]]) -> int:
    """Write every text to its path below the repository; with --check compare: 1 if one is stale."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--check", action="store_true", help="compare instead of writing")
    check, stale = parser.parse_args().check, False
    for name, text in files().items():
        path = _ROOT / name
        if check:
            current = path.exists() and path.read_text(encoding="utf-8") == text
            print(f"{name} is current" if current else f"{name} is stale: run make docs")
            stale |= not current
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return int(stale)
