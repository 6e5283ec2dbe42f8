"""What a shutdown has done so far, on disk before the next step: a watcher that dies goes on where it was."""

from __future__ import annotations

import fcntl
import os
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import TypeVar

import msgspec

from dreamseed_cli.core.errors import FailedError
from dreamseed_cli.core.files import write_atomically
from dreamseed_cli.core.paths import StateDir
from dreamseed_cli.core.processes import boot_id
from dreamseed_cli.ups.best_effort import BestEffort
from dreamseed_cli.ups.policy import Power

T = TypeVar("T")
_RECENT = 5
OUTAGE_LASTS_S = 120.0
"""How long an outage is believed in that nobody has watched since: a watcher that dies is back in seconds."""
_PASSABLE = 0o711
"""Its owner's, and anybody may open a file in it whose name and rights let them."""


class StepState(StrEnum):
    """How a step ended."""

    DONE = "done"
    FORCED = "forced"
    """Its time was up: it was cut short, or killed."""
    FAILED = "failed"
    SKIPPED = "skipped"
    """There was nothing to do, or no time for it."""


class StepRecord(msgspec.Struct, frozen=True):
    """One step that is over."""

    name: str
    state: StepState
    took_s: float
    box_s: float
    detail: str = ""


class Shutdown(msgspec.Struct):
    """One shutdown, real or rehearsed. Times are seconds since the epoch."""

    id: str
    boot: str
    reason: str
    began_at: float
    host: bool = False
    """Whether it ends the host, too: one that does not is a rehearsal or a dry run."""
    whole: bool = True
    """Whether a stack ran and every step had its whole time: its length says how long the next one takes."""
    steps: list[StepRecord] = msgspec.field(default_factory=list)
    committed: bool = False
    cancelled: bool = False
    finished_at: float | None = None

    @classmethod
    def begin(cls, reason: str, *, host: bool = False) -> Shutdown:
        return cls(uuid.uuid4().hex[:12], boot_id(), reason, time.time(), host)

    @property
    def took_s(self) -> float:
        """All its steps together."""
        return sum(step.took_s for step in self.steps)

    def done(self, name: str) -> bool:
        return any(step.name == name for step in self.steps)


@dataclass(frozen=True, slots=True)
class UpsFolder:
    """The watcher's files in the state folder. What it cannot write is told by the log, and is no error."""

    root: Path
    effort: BestEffort = field(default_factory=BestEffort, repr=False, compare=False)

    @classmethod
    def of(cls, state: StateDir) -> UpsFolder:
        """It is made by the first that writes into it."""
        return cls(state.root / "ups")

    def save(self, shutdown: Shutdown) -> None:
        """The one that is under way."""
        self._replace(self.current, msgspec.json.encode(shutdown), mode=0o644)  # `serve` reads it

    def unfinished(self) -> Shutdown | None:
        """One of this boot that was past the point of no return when its watcher died."""
        try:
            found = msgspec.json.decode(self.effort.read(self.current), type=Shutdown)
        except msgspec.DecodeError:
            return None
        return found if found.committed and found.boot == boot_id() and found.finished_at is None else None

    def under_way(self) -> Shutdown | None:
        """One that a stack would run into if it started now. A rehearsal whose process died ends nothing."""
        unfinished = self.unfinished()
        return unfinished if unfinished is not None and (unfinished.host or self._watched()) else None

    def _watched(self) -> bool:
        """Whether a watcher or rehearsal is at work, as far as this user may know."""
        try:
            with self.only_watcher():
                return False
        except FailedError:
            return True
        except OSError:
            return False

    def finish(self, shutdown: Shutdown) -> None:
        """It is over: it goes to the history."""
        shutdown.finished_at = time.time()
        self.save(shutdown)
        with self.effort.write(self._history):
            append_line(self._history, msgspec.json.encode(shutdown))

    def history(self) -> list[Shutdown]:
        """Those that are over, the newest last."""
        return read_lines(self._history, Shutdown)

    def measured_s(self) -> float | None:
        """The longest of the last few that ran to their end over a running stack; None: never measured, or
        the disk does not tell.
        """
        history = decode_lines(self.effort.read(self._history), Shutdown)
        ended = [one.took_s for one in history if one.whole and not one.cancelled]
        return max(ended[-_RECENT:], default=None)

    def keep_power(self, power: Power) -> None:
        """What is known of an outage, for a watcher that has to go on blind after this one died."""
        self._replace(self._power, msgspec.json.encode((boot_id(), time.monotonic(), power)))

    def last_outage(self, within_s: float = OUTAGE_LASTS_S) -> Power | None:
        """The one that a watcher of this boot saw last, if it saw no end of it and did so not longer ago."""
        try:
            boot, kept_at, power = msgspec.json.decode(
                self.effort.read(self._power), type=tuple[str, float, Power]
            )
        except msgspec.DecodeError:
            return None
        if boot != boot_id() or not power.on_battery or power.seen is None:
            return None
        # While the UPS was silent it was the watcher that knew, by counting down.
        known_at = kept_at if power.blind_since is not None else power.seen.at
        return power if time.monotonic() - known_at <= within_s else None

    def keep_limits(self, limits: Mapping[str, int] | None) -> None:
        """The cards' power limits that are to be given back, in milliwatts by UUID; None: they have been."""
        if limits is None:
            with self.effort.write(self._limits):
                self._limits.unlink(missing_ok=True)
        else:
            self._replace(self._limits, msgspec.json.encode(limits))

    def limits(self) -> dict[str, int] | None:
        """None: there are none to give back."""
        try:
            return msgspec.json.decode(self.effort.read(self._limits), type=dict[str, int])
        except msgspec.DecodeError:
            return None

    @contextmanager
    def only_watcher(self) -> Iterator[None]:
        """Hold the folder; FailedError if another watcher or rehearsal does. The kernel drops a dead one's.

        The folder itself is locked: that takes nothing from the disk, which may be full or read-only.
        """
        make_folder(self.root)
        held = os.open(self.root, os.O_RDONLY | os.O_DIRECTORY)
        try:
            try:
                fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                # Not a usage error: once that one has ended, systemd's next start succeeds.
                raise FailedError(
                    "another watcher or rehearsal is at work here",
                    place=str(self.root),
                    remedy="End it first, or give this one another --state-dir.",
                ) from None
            yield
        finally:
            os.close(held)

    @property
    def textfile(self) -> Path:
        """How the UPS stands, for `dreamseed metrics`."""
        return self.root / "ups.prom"

    @property
    def power_log(self) -> Path:
        """Outages and energy, one JSON document a line."""
        return self.root / "power.jsonl"

    @property
    def current(self) -> Path:
        """The shutdown that is under way, or the last one."""
        return self.root / "shutdown.json"

    def _replace(self, path: Path, content: bytes, mode: int = 0o600) -> None:
        with self.effort.write(path):
            make_folder(self.root)
            write_atomically(path, content, mode=mode)

    @property
    def _history(self) -> Path:
        return self.root / "shutdowns.jsonl"

    @property
    def _power(self) -> Path:
        return self.root / "power.json"

    @property
    def _limits(self) -> Path:
        return self.root / "power-limits.json"


def make_folder(folder: Path) -> None:
    """The watcher's folder, also one that was closed: it may be root's, and `dreamseed metrics`, which reads
    the textfile in it, runs as the stack's user. OSError if it cannot be made.
    """
    folder.mkdir(mode=_PASSABLE, parents=True, exist_ok=True)
    found = folder.stat()
    if found.st_mode & _PASSABLE != _PASSABLE and found.st_uid == os.geteuid():
        with suppress(OSError):  # a disk that is read-only: nothing could be written for others either
            folder.chmod(_PASSABLE)


def append_line(path: Path, line: bytes) -> None:
    """Add a line, readable by all: `ups status` and `cost-sim` of the stack's user read what root's watcher
    recorded. A crash may cut the last one, which readers leave out.
    """
    make_folder(path.parent)
    path.touch(mode=0o644)
    with path.open("ab") as file:
        file.write(line + b"\n")


def read_lines(path: Path, kind: type[T]) -> list[T]:
    """The lines that are whole; none if there is no file."""
    try:
        return decode_lines(path.read_bytes(), kind)
    except FileNotFoundError:
        return []


def decode_lines(content: bytes, kind: type[T]) -> list[T]:
    """The lines that are whole."""
    found = []
    for line in content.splitlines():
        try:
            found.append(msgspec.json.decode(line, type=kind))
        except msgspec.DecodeError:
            continue
    return found
