"""A source of a test's own, and what a run needs around it: no server, a local store."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from dreamseed_cli.backup.keys import NewKeys, write_identity, write_recipients
from dreamseed_cli.backup.manifest import Producer, WalSpan
from dreamseed_cli.backup.names import Kind
from dreamseed_cli.backup.pipeline import Uploader
from dreamseed_cli.backup.run import Wish
from dreamseed_cli.backup.settings import Settings
from dreamseed_cli.backup.source import Produced
from dreamseed_cli.profile.backup import Backup

KEYS = NewKeys.create()
START = datetime(2025, 11, 10, 3, tzinfo=UTC)
_WAL = WalSpan(
    timeline=1,
    start_lsn="0/2000028",
    stop_lsn="0/2000100",
    checkpoint_lsn="0/2000060",
    segment_bytes=16 << 20,
)


@dataclass
class PlayedSource:
    """Streams the chunks it is given. before: what happens when it is asked for a backup."""

    chunks: Sequence[bytes] = (b"some rows", b"more rows")
    before: Callable[[], None] = lambda: None
    kind: Kind = Kind.LOGICAL
    system: str = "7421907384612345678"

    def system_identifier(self) -> str:
        return self.system

    def expected_bytes(self) -> int | None:
        return sum(len(chunk) for chunk in self.chunks)

    def produce(self, uploader: Uploader) -> Produced:
        self.before()
        stream = uploader.stream("played", iter(self.chunks))
        return Produced(
            system_identifier=self.system,
            cluster="main",
            server="18.0",
            server_version_num=180000,
            producers=(Producer(name="played", version="1", exit_code=0),),
            streams=(stream,),
            wal=_WAL if self.kind is Kind.PHYSICAL else None,
        )


@dataclass
class Clock:
    """A clock that a test sets."""

    now: datetime = START
    seconds: float = 0.0
    step_s: float = field(default=1.0)

    def moment(self) -> datetime:
        return self.now

    def monotonic(self) -> float:
        self.seconds += self.step_s
        return self.seconds

    def pass_days(self, days: float) -> None:
        self.now += timedelta(days=days)


def wish(clock: Clock | None = None, *, pin: bool = False) -> Wish:
    """How a test's run is wanted."""
    clock = clock or Clock()
    return Wish(KEYS.recipients, threads=1, pin=pin, now=clock.moment, seconds=clock.monotonic)


def settings(home: Path, table: Backup | None = None) -> Settings:
    """A host on which `backup init` was done."""
    made = Settings(table or Backup(), home)
    home.mkdir(exist_ok=True)
    write_identity(made.key_file, KEYS.daily)
    write_recipients(made.recipients_file, KEYS.recipients)
    made.open(create=True).close()
    return made
