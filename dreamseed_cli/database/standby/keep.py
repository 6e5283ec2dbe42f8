"""`dreamseed db watch`: asks both servers again and again, and sends clients where the state machine says."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from dreamseed_cli.core.waiting import set_within
from dreamseed_cli.database.standby.pair import Pair
from dreamseed_cli.database.standby.seen import Prober
from dreamseed_cli.database.standby.service_file import ServiceFile
from dreamseed_cli.database.standby.watch import Mode, Patience, Sight, Watch
from dreamseed_cli.profile.standby import Standby

_GAP_PROBES: Final = 6
"""A round takes one probe and its wait, two at most; three lost rounds are a pause of ours."""


@dataclass(frozen=True, slots=True)
class Turn:
    """What somebody should hear of. mode: where clients are sent now. split: two servers take writes.
    broken_off: a failback ended before it turned the clients, which go to a server that refuses writes.
    stranded: why clients have no database; empty: they have one. unwritten: why the service file could not
    be written; empty: it says what it should.
    """

    at: datetime
    mode: Mode
    split: bool
    sight: Sight
    broken_off: bool = False
    stranded: str = ""
    unwritten: str = ""

    def __str__(self) -> str:
        primary, replica = self.sight.primary, self.sight.replica
        cause = f" ({primary.cause})" if primary.cause else ""
        text = (
            f"clients go to the {self.mode}; the primary is {primary.role}{cause}, the replica {replica.role}"
        )
        if self.split:
            other = "replica" if self.mode is Mode.PRIMARY else "old primary"
            text += f"; BOTH TAKE WRITES: stop the {other} now (docs/runbooks/db.md)"
        if self.broken_off:
            text += "; A FAILBACK BROKE OFF, nobody can write: run dreamseed db failback again"
        if self.stranded:
            text += f"; CLIENTS HAVE NO DATABASE: {self.stranded} (docs/runbooks/db.md)"
        if self.unwritten:
            text += f"; THE SERVICE FILE CANNOT BE WRITTEN, clients stay where it says: {self.unwritten}"
        return text


def patience_of(settings: Standby) -> Patience:
    """The profile's."""
    gap_s = _GAP_PROBES * settings.probe_s
    return Patience(settings.down_s, settings.back_s, settings.most_back_s, gap_s)


async def keep(
    pair: Pair,
    file: ServiceFile,
    settings: Standby,
    stopping: asyncio.Event,
    tell: Callable[[Turn], None],
    clock: Callable[[], float] = time.monotonic,
) -> Watch:
    """Go on until `stopping` is set. tell: hears the first look and every change.

    What `promote` and `failback` write into the file meanwhile is taken over from there.
    """
    probers = [Prober(dsn, settings.probe_s, pair.look) for dsn in (pair.primary, pair.replica)]
    patience = patience_of(settings)
    written = file.read()
    watch = Watch(patience, written.mode or Mode.PRIMARY, written.system)
    told: tuple[Mode, bool, bool, str, str] | None = None
    while True:
        primary, replica = await asyncio.gather(*(prober.look() for prober in probers))
        written, unwritten = file.read(), ""
        sight, now = Sight(primary, replica), datetime.now(UTC)
        if written.mode is not None and written.mode is not watch.mode:
            # A person's command: what was just seen may be from before it.
            watch = Watch(patience, written.mode, watch.system)
        elif watch.see(sight, clock()) is not written.mode or watch.system != written.system:
            unwritten = _point(file, watch, pair, now)
        found = (watch.mode, watch.split, watch.broken_off, watch.stranded, unwritten)
        if found != told:
            told = found
            tell(Turn(now, found[0], found[1], sight, *found[2:]))
        if await set_within(stopping, settings.probe_s):
            return watch


def _point(file: ServiceFile, watch: Watch, pair: Pair, now: datetime) -> str:
    """Send clients where they belong; why that cannot be: a full disk ends no watch, it is tried again."""
    try:
        dsn = pair.primary if watch.mode is Mode.PRIMARY else pair.replica
        file.point(watch.mode, dsn, now, watch.system)
    except OSError as error:
        return error.strerror or str(error)
    return ""
