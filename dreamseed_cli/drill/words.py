"""A drill's times in words, for the terminal and the page. Pure."""

from __future__ import annotations

from datetime import datetime

from dreamseed_cli.drill.timeline import Outcome

CHIPS = {Outcome.PASSED: "valid", Outcome.MISSED: "missed", Outcome.FAILED: "invalid"}
"""The page's styles of an outcome."""


def duration(seconds: float | None) -> str:
    """`41.3 s`, `12 min 5 s`, `1 h 3 min`; `never` for None."""
    if seconds is None:
        return "never"
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s" if rest else f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if minutes else f"{hours} h"


def moment(at: datetime) -> str:
    """In UTC, to the second."""
    return f"{at:%Y-%m-%d %H:%M:%S}"
