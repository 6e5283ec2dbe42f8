"""One card of ours, as its care keeps it: its place on the ladder, and what was last read of it."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from dreamseed_cli.supervisor.gpu.ladder import OUT_OF_USE, Card, Event, FaultKind, FaultSeen, Read
from dreamseed_cli.supervisor.gpu.reading import CardReading, Loss, LostCard


@dataclass(slots=True)
class Watched:
    """A card, its last figures and its turn: whoever acts on the card holds `busy`."""

    card: Card
    uuid: str = ""
    reading: CardReading | None = None
    read_at: float | None = None
    """Monotonic seconds."""
    busy: asyncio.Lock = field(default_factory=asyncio.Lock)
    ours: frozenset[int] = frozenset()
    """The pids of our processes on it, before they were last ended."""

    @property
    def out_of_use(self) -> bool:
        return self.card.state in OUT_OF_USE

    @property
    def given_up(self) -> bool:
        """NVML hangs at it, and nothing of ours needs it: it is not read any more."""
        return self.out_of_use and self.card.hung

    def take(self, told: CardReading | LostCard, now: float) -> list[Event]:
        """Keep what was read; what it means for the ladder, in order."""
        if isinstance(told, LostCard):
            return [lost_fault(told)]
        before = self.reading
        self.reading, self.read_at, self.uuid = told, now, told.uuid
        events: list[Event] = [Read(recovery_action=told.recovery_action)]
        rise = ecc_rise(before, told)
        if rise > 0:
            detail = f"{rise} more uncorrectable memory errors, {told.ecc_uncorrected} in all"
            events.append(FaultSeen(detail, FaultKind.ECC))
        return events


def ecc_rise(before: CardReading | None, now: CardReading) -> int:
    """Uncorrectable errors since the reading before. Those of earlier runs are no fault of today."""
    if before is None or before.ecc_uncorrected is None or now.ecc_uncorrected is None:
        return 0
    return now.ecc_uncorrected - before.ecc_uncorrected


def lost_fault(lost: LostCard) -> FaultSeen:
    """The fault that an unreadable card is."""
    if lost.loss is Loss.RESET_REQUIRED:
        return FaultSeen("the driver refuses work on it before a reset", FaultKind.RESET_REQUIRED)
    return FaultSeen(lost.detail or lost.loss.value, FaultKind.LOST)
