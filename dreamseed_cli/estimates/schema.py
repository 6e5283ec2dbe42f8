"""One figure of the document as data, and the book of all of them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator

from dreamseed_cli.profile.part import Part

Better = Literal["higher", "lower", "equal"]
Value = float | tuple[float, float] | str
_CHECK = r"^(setting|price|(measured|computed):[a-z0-9-]+|arithmetic:[a-z0-9-]+)$"
Check = Annotated[str, Field(pattern=_CHECK)]


class NotComputable(Exception):
    """A rule lacks a figure; the message says which, without a full stop."""


class Estimate(Part):
    """One figure, or one row of a table with its headline as `value`."""

    id: Annotated[str, Field(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$")]
    section: Annotated[str, Field(pattern=r"^(Goal|[A-J][1-9]?)$")]
    """`B1` for §B1; `Goal` for what stands before §A."""
    quantity: Annotated[str, Field(min_length=1)]
    """What the figure is of, in words."""
    unit: str
    """Of `value`; empty for words and bare numbers."""
    value: Value
    """A number, a range [low, high], or words (settings only)."""
    check: Annotated[tuple[Check, ...], Field(min_length=1)]
    fields: dict[str, float] = Field(default_factory=dict)
    """Further figures of the same row, with their unit in the name."""
    better: Better | None = None
    """Which way a measurement beats the figure."""
    about: str | None = None
    """Id of the figure this one is checked with."""
    device: str | None = None
    """What the figure is about; results of devices without it in their name do not judge."""
    needs: Annotated[str, Field(min_length=1)] | None = None
    """What measuring it would take, where no instrument of this program does; without a full stop."""

    @field_validator("check", mode="before")
    @classmethod
    def _one_or_several(cls, given: object) -> object:
        # What this returns is judged by Python's strictness, to which a list is no tuple.
        return (given,) if isinstance(given, str) else tuple(given) if isinstance(given, list) else given

    @model_validator(mode="after")
    def _is_checkable(self) -> Self:
        if isinstance(self.value, tuple) and self.value[0] > self.value[1]:
            raise ValueError("the range's low end is above its high end")
        if isinstance(self.value, str) and self.check != ("setting",):
            raise ValueError("words can only be a setting")
        if self.result_key is not None and self.better is None:
            raise ValueError("a measured or computed figure needs 'better'")
        if self.needs is not None and self.measured_key is None:
            raise ValueError("'needs' is of measured figures only")
        return self

    @property
    def low(self) -> float:
        """The low end; NotComputable for words."""
        return self._ends()[0]

    @property
    def high(self) -> float:
        return self._ends()[1]

    @property
    def middle(self) -> float:
        return (self.low + self.high) / 2

    @property
    def measured_key(self) -> str | None:
        """The key of measurements that judge this figure."""
        return self._key("measured")

    @property
    def computed_key(self) -> str | None:
        """The key of computations by a model that judge it: nobody can measure next year's bill."""
        return self._key("computed")

    @property
    def result_key(self) -> str | None:
        """The key of its results, whichever they are."""
        return self.measured_key or self.computed_key

    @property
    def rules(self) -> tuple[str, ...]:
        """The arithmetic rules this figure must pass."""
        return tuple(check.partition(":")[2] for check in self.check if check.startswith("arithmetic:"))

    def field(self, name: str) -> float:
        """A further figure of the row."""
        if name not in self.fields:
            raise NotComputable(f"'{self.id}' has no field '{name}'")
        return self.fields[name]

    def _key(self, kind: str) -> str | None:
        return next((check.partition(":")[2] for check in self.check if check.startswith(f"{kind}:")), None)

    def _ends(self) -> tuple[float, float]:
        if isinstance(self.value, str):
            raise NotComputable(f"'{self.id}' is no number")
        return self.value if isinstance(self.value, tuple) else (self.value, self.value)


class Book(Part):
    """Every figure of one file, by its id."""

    estimate: tuple[Estimate, ...]

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        ids = [one.id for one in self.estimate]
        twice = sorted({name for name in ids if ids.count(name) > 1})
        if twice:
            raise ValueError(f"ids given twice: {', '.join(twice)}")
        lost = sorted({one.about for one in self.estimate if one.about} - set(ids))
        if lost:
            raise ValueError(f"'about' names no estimate: {', '.join(lost)}")
        return self

    def __iter__(self) -> Iterator[Estimate]:  # type: ignore[override]
        return iter(self.estimate)

    def get(self, estimate_id: str) -> Estimate:
        """The figure of this id; NotComputable if the file has none."""
        for one in self.estimate:
            if one.id == estimate_id:
                return one
        raise NotComputable(f"the file has no '{estimate_id}'")

    def number(self, estimate_id: str) -> float:
        """A figure as one number; of a range, its middle."""
        return self.get(estimate_id).middle

    def words(self, estimate_id: str) -> str:
        """A setting that is given in words."""
        value = self.get(estimate_id).value
        if not isinstance(value, str):
            raise NotComputable(f"'{estimate_id}' is a number, not words")
        return value

    def about(self, estimate: Estimate) -> Estimate:
        """The figure that an estimate is checked with."""
        if estimate.about is None:
            raise NotComputable(f"'{estimate.id}' names nothing in 'about'")
        return self.get(estimate.about)
