"""What there is to say of each card, as plain data for people and machines."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from dreamseed_cli.supervisor.gpu.ladder import Card
from dreamseed_cli.supervisor.gpu.reading import CardReading


@dataclass(frozen=True, slots=True)
class CardSnapshot:
    """One card of ours. Figures are measured, and None where the card does not tell."""

    index: int
    name: str
    state: str
    reason: str
    since: float
    """Seconds since the epoch."""
    detail: str = ""
    advice: str = ""
    uuid: str = ""
    read_at: float | None = None
    """When the figures were read, in seconds since the epoch."""
    utilisation: float | None = None
    memory_used_bytes: int | None = None
    memory_total_bytes: int | None = None
    power_w: float | None = None
    power_limit_w: float | None = None
    temperature_c: int | None = None
    hot: bool = False
    """Whether its temperature has reached the profile's `hot_c`."""
    throttle: tuple[str, ...] | None = None
    ecc_uncorrected: int | None = None
    recovery_action: str | None = None
    pids: tuple[int, ...] | None = None


def card_snapshot(
    card: Card, reading: CardReading | None, *, since: float, read_at: float | None, hot_c: int
) -> CardSnapshot:
    """since, read_at: seconds since the epoch."""
    figures: dict[str, Any] = {"name": ""} if reading is None else asdict(reading)
    temperature = figures.get("temperature_c")
    return CardSnapshot(
        **{**figures, "index": card.index},
        state=card.state.value,
        reason=card.reason.value,
        since=since,
        detail=card.detail,
        advice=card.advice,
        read_at=read_at,
        hot=temperature is not None and temperature >= hot_c,
    )
