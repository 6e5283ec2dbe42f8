"""TOML files as data, their faults as errors that name the file."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

from dreamseed_cli.core.errors import UsageError


def read_toml(path: Path) -> dict[str, Any]:
    """What a TOML file holds. UsageError if it cannot be read, or is none."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"not valid TOML: {error}", place=str(path), remedy="Mend the file.") from error
    except OSError as error:
        remedy = "Name a file that is there."
        raise UsageError(f"cannot be read: {error.strerror}", place=str(path), remedy=remedy) from error
