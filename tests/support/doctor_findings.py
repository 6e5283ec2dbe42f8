"""What the looks of `dreamseed doctor` are tried with: profiles, programs that say what they are told."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from dreamseed_cli.doctor.finding import Finding
from dreamseed_cli.profile.load import load_profile
from dreamseed_cli.profile.schema import Profile


def with_parts(base: str = "laptop", **parts: Any) -> Profile:
    """A shipped profile with some parts of it replaced."""
    return Profile.model_validate(load_profile(base).model_dump() | parts, strict=False)


def levels_of(found: Iterable[Finding]) -> dict[str, str]:
    """Each finding's name and level."""
    return {one.name: one.level.value for one in found}


def program(folder: Path, name: str, said: str) -> None:
    """An executable that writes `said` to stdout."""
    path = folder / name
    path.write_text(f"#!/bin/sh\ncat <<'END'\n{said}\nEND\n")
    path.chmod(0o755)
