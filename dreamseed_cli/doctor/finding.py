"""What a look at one thing gave."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any


class Level(StrEnum):
    """How bad. OFF: this profile does without, so there is nothing to look at."""

    OK = "ok"
    OFF = "off"
    WARNING = "warning"
    PROBLEM = "problem"


@dataclass(frozen=True, slots=True)
class Finding:
    """area: what it belongs to. said: what was found. remedy: what to do; empty where nothing is."""

    area: str
    name: str
    level: Level
    said: str
    remedy: str = ""

    def to_data(self) -> dict[str, Any]:
        return asdict(self)


def ok(area: str, name: str, said: str) -> Finding:
    """Fine as it is."""
    return Finding(area, name, Level.OK, said)


def off(area: str, name: str, said: str) -> Finding:
    """Not part of this profile."""
    return Finding(area, name, Level.OFF, said)


def warning(area: str, name: str, said: str, remedy: str) -> Finding:
    """It works, and somebody should look."""
    return Finding(area, name, Level.WARNING, said, remedy)


def problem(area: str, name: str, said: str, remedy: str) -> Finding:
    """It does not work, or data is at risk."""
    return Finding(area, name, Level.PROBLEM, said, remedy)
