"""What a scenario plays on: settings to read, a folder of its own, and where it says what it found."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, Protocol

from dreamseed_cli.backup import ending
from dreamseed_cli.backup.settings import Settings
from dreamseed_cli.drill.extrapolate import Sizes
from dreamseed_cli.drill.timeline import Check, Event, Heartbeat, Step
from dreamseed_cli.profile.drill import ScenarioName
from dreamseed_cli.profile.standby import Standby

_MILLI: Final = 1000


@dataclass(frozen=True, slots=True)
class Clock:
    """The time, as it is passed in. now: UTC. seconds: of a clock that nobody sets."""

    now: Callable[[], datetime] = lambda: datetime.now(UTC)
    seconds: Callable[[], float] = time.monotonic


@dataclass(frozen=True, slots=True)
class Pace:
    """Seconds. archive_s: the longest to wait until what was written before the loss is archived.

    surprise_s: the loss comes at a random moment within so long after that: one schedule's round, so that no
    moment is favoured. look_s: between two looks into the store. beat_s: between two heartbeats.
    """

    archive_s: float = 960.0
    surprise_s: float = 300.0
    look_s: float = 5.0
    beat_s: float = 1.0


@dataclass(frozen=True, slots=True)
class Wish:
    """What a drill works with.

    settings, key_file: of the real backups. dsn: the live database's; None: from a host that holds only the
    key. profile_words, profile_file: `--profile` for commands that a drill runs, and the file it names.
    """

    settings: Settings
    key_file: Path
    dsn: str | None = None
    profile_words: tuple[str, ...] = ()
    profile_file: Path | None = None
    pace: Pace = Pace()
    standby: Standby = field(default_factory=Standby)


@dataclass(slots=True)
class Stage:
    """One drill under way. scratch: its own folder, which goes with all that works in it."""

    id: str
    wish: Wish
    scratch: Path
    clock: Clock = field(default_factory=Clock)
    say: Callable[[str], None] = lambda _: None
    events: list[Event] = field(default_factory=list)
    checks: list[Check] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    recovered: Heartbeat | None = None
    backup_id: str = ""
    database_bytes: int = 0
    sizes: Sizes | None = None
    began_s: float = 0.0

    def __post_init__(self) -> None:
        self.began_s = self.clock.seconds()

    def mark(self, step: Step, detail: str = "") -> Event:
        """Something happened now."""
        event = Event(self.clock.seconds() - self.began_s, self.clock.now(), step, detail)
        self.events.append(event)
        self.say(f"{event.at_s:7.1f} s  {step}{f': {detail}' if detail else ''}")
        return event

    def check(self, name: str, passed: bool | None, detail: str) -> None:
        """Something was compared."""
        self.checks.append(Check(name, passed, detail))

    def prove(self, moments: Sequence[Heartbeat | None]) -> None:
        """The newest of what was recovered for sure."""
        known = [moment for moment in moments if moment is not None]
        self.recovered = max(known, key=lambda moment: moment.at, default=None)

    def surprise(self) -> None:
        """Let some time pass, nobody knows how much."""
        most_s = self.wish.pace.surprise_s
        if most_s:
            self.say(f"the loss comes at a moment nobody chose, {most_s:.0f} s from now at most")
        ending.pause(secrets.randbelow(int(most_s * _MILLI) + 1) / _MILLI)


class Scenario(Protocol):
    """One disaster. It raises a DreamseedError if there is no way back; what it marked until then stays."""

    @property
    def name(self) -> ScenarioName: ...

    @property
    def title(self) -> str:
        """What is lost, in a few words."""

    def play(self, stage: Stage) -> None: ...
