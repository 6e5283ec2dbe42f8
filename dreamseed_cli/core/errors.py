"""Errors that tell an operator where, why and what to do. One of them is one exit code."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar


class DreamseedError(Exception):
    """A failure with its place, its cause and its remedy.

    place: what to look at (a profile path, a file, an address, a command).
    cause: what is wrong, without a full stop.
    remedy: what to do about it, as an imperative sentence.
    """

    exit_code: ClassVar[int] = 4
    kind: ClassVar[str] = "failed"

    def __init__(self, cause: str, *, place: str = "", remedy: str = "") -> None:
        super().__init__(cause)
        self.cause = cause
        self.place = place
        self.remedy = remedy

    def __str__(self) -> str:
        text = f"at '{self.place}': {self.cause}" if self.place else self.cause
        end = "" if text.endswith("?") else "."
        return f"{text}{end} {self.remedy}" if self.remedy else text

    def causes(self) -> Sequence[DreamseedError]:
        """The single errors in this one: itself, unless it collects several."""
        return (self,)

    def to_data(self) -> dict[str, str]:
        """The error as it stands in the JSON envelope's `errors`."""
        return {
            "kind": self.kind,
            "place": self.place,
            "cause": self.cause,
            "remedy": self.remedy,
        }


class UsageError(DreamseedError):
    """Wrong usage or a wrong profile: nothing was started (exit code 2)."""

    exit_code = 2
    kind = "usage"


class MissingError(DreamseedError):
    """Something needed is not there: a binary, a server, a credential (exit code 3)."""

    exit_code = 3
    kind = "missing"


class FailedError(DreamseedError):
    """It failed while running (exit code 4)."""


class InterruptedByUser(DreamseedError):
    """Ctrl-C; everything has been cleaned up (exit code 130)."""

    exit_code = 130
    kind = "interrupted"


class ErrorGroup(DreamseedError):
    """Several errors at once, so that a profile with five mistakes takes one round, not five."""

    def __init__(self, errors: Sequence[DreamseedError]) -> None:
        super().__init__("; ".join(str(error) for error in errors))
        self.errors = tuple(errors)

    @property
    def exit_code(self) -> int:  # type: ignore[override]
        """The first member's: members of one group are of one kind."""
        return self.errors[0].exit_code

    def __str__(self) -> str:
        return "\n".join(str(error) for error in self.errors)

    def causes(self) -> Sequence[DreamseedError]:
        return self.errors
