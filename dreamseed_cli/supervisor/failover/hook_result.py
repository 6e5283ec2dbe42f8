"""How a hook ended, as plain data."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class HookResult:
    """How a hook ended.

    exit_code: None where none was told: nothing ran, or it was ended before its time. dry: it was only
    logged. cause: why it is not ok. last_lines: the end of its output.
    """

    hook: str
    argv: tuple[str, ...]
    ok: bool
    seconds: float
    exit_code: int | None
    last_lines: tuple[str, ...] = ()
    dry: bool = False
    cause: str = ""
    ended_at: float = 0.0
    """Seconds since the epoch."""

    @property
    def words(self) -> str:
        """What to tell people: the cause and the last line."""
        last = f" ({self.last_lines[-1]})" if self.last_lines else ""
        return f"the {self.hook} hook {self.cause}{last}" if self.cause else ""
