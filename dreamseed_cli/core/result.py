"""What a command returns: data for machines, a view for people, and whether its target was met."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from dreamseed_cli.core.errors import InterruptedByUser

if TYPE_CHECKING:
    from rich.console import RenderableType


class Provenance(StrEnum):
    """How a figure came about. A simulated figure is never shown as a measured one."""

    MEASURED = "measured"
    SIMULATED = "simulated"
    COMPUTED = "computed"
    DOCUMENT = "document"


@dataclass(frozen=True, slots=True)
class Figure:
    """One number as it is shown: value, unit and provenance travel together."""

    value: float
    unit: str
    provenance: Provenance

    def to_data(self) -> dict[str, Any]:
        return {"value": self.value, "unit": self.unit, "provenance": self.provenance.value}

    def __str__(self) -> str:
        digits = 0 if abs(self.value) >= 100 else 1 if abs(self.value) >= 10 else 2
        return f"{self.value:,.{digits}f} {self.unit} ({self.provenance.value})"


@dataclass(frozen=True, slots=True)
class Result:
    """The outcome of one command.

    data: JSON-able, the `data` of the envelope.
    view: Rich renderables, printed in order for people; empty prints nothing.
    target_met: False makes the exit code 1 (done, and a target was missed).
    interrupted: Ctrl-C ended it early, and this is what there was by then (exit code 130).
    """

    data: Mapping[str, Any]
    view: Sequence[RenderableType] = field(default=())
    target_met: bool = True
    interrupted: bool = False

    @property
    def exit_code(self) -> int:
        if self.interrupted:
            return InterruptedByUser.exit_code
        return 0 if self.target_met else 1
