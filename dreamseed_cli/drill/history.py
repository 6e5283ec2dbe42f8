"""The drills of this host: kept one file each, read with their signatures, and their trend."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from pydantic import ValidationError

from dreamseed_cli.core.errors import DreamseedError, FailedError
from dreamseed_cli.core.files import write_atomically
from dreamseed_cli.core.paths import StateDir
from dreamseed_cli.drill.chain import ChainBroken, Link, breaks, last
from dreamseed_cli.drill.record import DrillRecord, SignedDrill
from dreamseed_cli.drill.signing import DrillKey, opened

_Kept = TypeVar("_Kept", DrillRecord, SignedDrill)

_KEY = "signing.key"
_BEGUN = "begun"
"""The drill that is under way, as the failure that it is unless it ends."""

_NEWEST = "newest"
"""The mark of the newest drill, which nothing follows that could miss it."""
_GONE = (
    "Look for the files in a backup of the state folder. To begin anew, move the whole folder away; keep it."
)


@dataclass(frozen=True, slots=True)
class History:
    """records: oldest first, those whose signature holds. errors: the others, each named, and drills that are
    gone.
    """

    records: tuple[DrillRecord, ...] = ()
    errors: tuple[DreamseedError, ...] = ()

    def of(self, scenario: str) -> tuple[DrillRecord, ...]:
        return tuple(record for record in self.records if record.scenario == scenario)


@dataclass(frozen=True, slots=True)
class Trend:
    """The newest drill of a scenario against the median of those before it, in seconds; None: unknown."""

    scenario: str
    drills: int
    passed: int
    rpo_s: float | None
    rto_s: float | None
    rpo_before_s: float | None
    rto_before_s: float | None


@dataclass(slots=True)
class _Read:
    """The files, oldest first. signatures: of those that do not hold, too."""

    records: list[DrillRecord] = field(default_factory=list)
    errors: list[DreamseedError] = field(default_factory=list)
    links: list[Link] = field(default_factory=list)
    signatures: set[str] = field(default_factory=set)


@dataclass(frozen=True, slots=True)
class Folder:
    """Where a host keeps its drills."""

    root: Path

    @classmethod
    def of(cls, state: StateDir) -> Folder:
        return cls(state.root / "drills")

    def begin(self, record: DrillRecord) -> None:
        """Note a drill that begins, as the failure that it is if nobody is left to record its end."""
        self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_atomically(self.root / _BEGUN, record.model_dump_json().encode())

    def settle(self) -> DrillRecord | None:
        """Keep the drill that began and was killed, which is returned; None: all came to an end. Only while
        none is under way: that one is no failure yet.
        """
        path = self.root / _BEGUN
        if not path.exists():
            return None
        record = _parse(path, DrillRecord)
        if (self.root / f"{record.id}.json").exists():  # it was killed right after it was kept
            path.unlink()
            return None
        return self.add(record)

    def add(self, record: DrillRecord) -> DrillRecord:
        """Keep it, signed, after the one kept before it, which it then names."""
        self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
        key = DrillKey.load(self.root / _KEY)
        previous = last(self._read(key).links, self._newest(key))
        record = record.model_copy(update={"previous": previous})
        signed = key.sign(record)
        path = self.root / f"{record.id}.json"
        write_atomically(path, signed.model_dump_json(indent=2).encode() + b"\n")
        write_atomically(self.root / _NEWEST, key.mark(signed.signature).encode())
        (self.root / _BEGUN).unlink(missing_ok=True)
        return record

    def read(self) -> History:
        """All drills; one that was changed or replaced, or that another host signed, is an error beside the
        others, and so is one that is gone.
        """
        if not any(self.root.glob("*.json")) and not (self.root / _NEWEST).exists():
            return History()
        key = DrillKey.load(self.root / _KEY)
        found = self._read(key)
        broken = [
            ChainBroken(text, place=str(self.root), remedy=_GONE)
            for text in breaks(found.links, found.signatures, self._newest(key))
        ]
        return History(tuple(found.records), (*found.errors, *broken))

    def _read(self, key: DrillKey) -> _Read:
        found = _Read()
        for path in sorted(self.root.glob("*.json")):
            try:
                signed = _parse(path, SignedDrill)
                found.signatures.add(signed.signature)
                record = opened(signed, key.public, str(path))
                _check_name(record, path)
            except DreamseedError as error:
                found.errors.append(error)
                continue
            found.records.append(record)
            found.links.append(Link(record.id, signed.signature, record.previous))
        found.records.sort(key=lambda one: one.began)
        return found

    def _newest(self, key: DrillKey) -> str | None:
        """The signature of the newest; None: no mark of ours says it."""
        try:
            return key.marked((self.root / _NEWEST).read_text(encoding="utf-8", errors="replace"))
        except FileNotFoundError:
            return None


def trends(records: Sequence[DrillRecord]) -> list[Trend]:
    """One for each scenario that was rehearsed. Pure."""
    found = []
    for scenario in sorted({record.scenario for record in records}):
        mine = [record for record in records if record.scenario == scenario]
        newest, before = mine[-1], mine[:-1]
        found.append(
            Trend(
                scenario=scenario,
                drills=len(mine),
                passed=sum(record.passed for record in mine),
                rpo_s=newest.rpo_s,
                rto_s=newest.rto_s,
                rpo_before_s=_median([one.rpo_s for one in before]),
                rto_before_s=_median([one.rto_s for one in before]),
            )
        )
    return found


def _median(values: Sequence[float | None]) -> float | None:
    known = sorted(value for value in values if value is not None)
    middle = len(known) // 2
    if not known:
        return None
    return known[middle] if len(known) % 2 else (known[middle - 1] + known[middle]) / 2


def _check_name(record: DrillRecord, path: Path) -> None:
    if record.id != path.stem:
        raise ChainBroken(
            f"this is the record of another drill, {record.id}", place=str(path), remedy="Move it away."
        )


def _parse(path: Path, kind: type[_Kept]) -> _Kept:
    try:
        return kind.model_validate_json(path.read_bytes())
    except ValidationError as error:
        raise FailedError("this is no record of a drill", place=str(path), remedy="Move it away.") from error
