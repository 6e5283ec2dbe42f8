"""The fields of a `config.json`: read as what they must be, or refused with their name and place."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from dreamseed_cli.core.errors import UsageError

TAKE_A_FILE = "Give its figures in a file of models: dreamseed plan --models FILE."


@dataclass(frozen=True, slots=True)
class Fields:
    """One table of a configuration. defaults: what it may leave out, by the model's family."""

    values: Mapping[str, Any]
    place: str
    defaults: Mapping[str, int] = field(default_factory=dict)

    def number(self, key: str, default: int | None = None, *, least: int = 1) -> int:
        """A whole number of at least `least`; UsageError if it is none, or missing without a default."""
        value = self.values.get(key)
        if value is None:
            value = self.defaults.get(key, default)
        if not isinstance(value, int) or isinstance(value, bool) or value < least:
            wanted = "a positive whole number" if least else "a whole number"
            cause = "is missing" if value is None else f"is {value!r}, not {wanted}"
            remedy = "Take the config.json the model came with."
            raise UsageError(f"{key} {cause}", place=self.place, remedy=remedy)
        return value

    def given(self, key: str) -> Any:
        """Whatever stands there; None if nothing does."""
        return self.values.get(key)

    def flag(self, key: str, default: bool = False) -> bool:
        """Whether it says `true`."""
        value = self.values.get(key)
        return default if value is None else value is True

    def names(self, key: str) -> list[str] | None:
        """A list of words; None where there is none."""
        value = self.values.get(key)
        return [str(one) for one in value] if isinstance(value, list) else None

    def numbers(self, key: str) -> list[int]:
        """A list of whole numbers; empty where there is none."""
        value = self.values.get(key)
        return [one for one in value if isinstance(one, int)] if isinstance(value, list) else []

    def refuse(self, cause: str, remedy: str = TAKE_A_FILE) -> UsageError:
        """The error of a model that is not computed."""
        return UsageError(cause, place=self.place, remedy=remedy)
