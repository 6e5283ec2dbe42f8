"""What differs between two versions of the same settings, field by field. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from dreamseed_cli.profile.part import Part


@dataclass(frozen=True, slots=True)
class SettingChange:
    """One field, by its path in the profile (`gateway.admission.share_batch`); values are JSON-able."""

    path: str
    before: Any
    after: Any

    def __str__(self) -> str:
        return f"{self.path}: {self.before} -> {self.after}"


def differences(before: Part, after: Part) -> tuple[SettingChange, ...]:
    """Every field that differs, in the order of the schema; a list counts as one value."""
    return tuple(_tables("", before.model_dump(mode="json"), after.model_dump(mode="json")))


def _tables(path: str, before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[SettingChange]:
    for name in dict.fromkeys((*before, *after)):
        old, new = before.get(name), after.get(name)
        if isinstance(old, Mapping) and isinstance(new, Mapping):
            yield from _tables(f"{path}{name}.", old, new)
        elif old != new:
            yield SettingChange(f"{path}{name}", old, new)
