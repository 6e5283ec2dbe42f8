"""Measurement records: JSON files that benchmarks write, read back as the newest result for each key.

The published shape (docs/runbooks/estimates.md):

    {"date": "2026-11-25T01:02:08+00:00", "device": "NVIDIA GeForce RTX 5090", "profile": "rtx5090x1",
     "measurements": [{"key": "throughput-7b-tok-s", "value": 712.4, "unit": "tok/s",
                       "provenance": "measured", "low": 701.0, "high": 724.9, "n": 5}]}

A file may hold anything else beside these. `device` may also be the table that benchmarks stamp (`gpu` or
`cpu`, `cores`, and the `date` where none stands above).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from dreamseed_cli.core.errors import UsageError
from dreamseed_cli.profile.part import Part


class Measurement(Part):
    """One result, in its unit: low to high is its 95 % interval or spread; n what it was taken of: runs, or
    the requests of one run.
    """

    key: str
    value: float
    unit: str
    provenance: Literal["measured", "simulated", "computed"]
    low: float | None = None
    high: float | None = None
    n: int | None = None


class Stamp(BaseModel):
    """The machine as benchmarks stamp it."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    gpu: str | None = None
    cpu: str | None = None
    cores: int | None = None
    date: str | None = None

    @property
    def name(self) -> str:
        cores = f", {self.cores} cores" if self.cores else ""
        return self.gpu or f"{self.cpu or 'unknown machine'}{cores}"


class Record(BaseModel):
    """One file of results; further keys are its own."""

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)

    measurements: tuple[Measurement, ...]
    device: str | Stamp
    date: str | None = None
    profile: str | None = None

    @model_validator(mode="after")
    def _is_dated(self) -> Self:
        self.moment  # noqa: B018 - raises ValueError where there is none
        return self

    @property
    def moment(self) -> datetime:
        """When it was measured; a date without a time zone is UTC."""
        text = self.date or (self.device.date if isinstance(self.device, Stamp) else None)
        if text is None:
            raise ValueError("there is no date")
        moment = datetime.fromisoformat(text)
        return moment if moment.tzinfo else moment.replace(tzinfo=UTC)

    @property
    def device_name(self) -> str:
        return self.device if isinstance(self.device, str) else self.device.name


@dataclass(frozen=True, slots=True)
class Found:
    """A measurement with where, when and with which profile it was taken."""

    measurement: Measurement
    device: str
    date: datetime
    profile: str | None
    file: str


@dataclass(frozen=True, slots=True)
class Results:
    """The newest of every key, device and provenance.

    skipped: files that could not be read as records, and why. reports: files without `measurements`, which
    answer other questions than the document's figures.
    """

    found: tuple[Found, ...] = ()
    skipped: tuple[tuple[str, str], ...] = ()
    reports: tuple[str, ...] = ()

    def of(self, key: str) -> list[Found]:
        """Every device's newest results for a key, newest first."""
        ours = [one for one in self.found if one.measurement.key == key]
        return sorted(ours, key=lambda one: one.date, reverse=True)


def record_data(
    found: Sequence[Measurement], *, date: str, device: str, profile: str | None, data: Mapping[str, Any]
) -> dict[str, Any]:
    """A file of results as `read_results` reads it: the record's own keys, and `data` beside them."""
    return {
        "date": date,
        "device": device,
        "profile": profile,
        "measurements": [one.model_dump(mode="json", exclude_none=True) for one in found],
        **data,
    }


def read_results(folder: Path) -> Results:
    """Every record in a folder's JSON files, and in the runs that `bench --out` wrote below it.

    UsageError if there is no such folder.
    """
    if not folder.is_dir():
        raise UsageError("there is no such folder", place=str(folder), remedy="Check --results.")
    found: list[Found] = []
    skipped: list[tuple[str, str]] = []
    reports: list[str] = []
    for path in sorted([*folder.glob("*.json"), *folder.glob("*/result.json")]):
        name = str(path.relative_to(folder))
        try:
            found += _entries(path, name)
        except ValidationError as error:
            if any((one["type"], one["loc"]) == ("missing", ("measurements",)) for one in error.errors()):
                reports.append(name)
                continue
            first = error.errors()[0]
            place = ".".join(str(step) for step in first["loc"])
            reason = first["msg"].removeprefix("Value error, ")
            skipped.append((name, f"{place}: {reason}" if place else reason))
        except OSError as error:
            skipped.append((name, error.strerror or str(error)))
    return Results(tuple(newest(found)), tuple(skipped), tuple(reports))


def newest(found: Iterable[Found]) -> list[Found]:
    """The newest of every key, device and provenance: a later simulation does not hide a measurement."""
    latest: dict[tuple[str, str, str], Found] = {}
    for one in found:
        place = (one.measurement.key, one.device, one.measurement.provenance)
        if place not in latest or latest[place].date < one.date:
            latest[place] = one
    return list(latest.values())


def _entries(path: Path, name: str) -> list[Found]:
    record = Record.model_validate_json(path.read_bytes())
    return [
        Found(one, record.device_name, record.moment, record.profile, name) for one in record.measurements
    ]
