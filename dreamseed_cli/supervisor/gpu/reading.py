"""What one look at the cards told: figures a card, or the named problem that stood in the way.

Light on purpose: the child process that talks to NVML imports it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

THROTTLE_REASONS: Mapping[int, str] = {
    0x2: "applications_clocks",
    0x4: "power_cap",
    0x8: "hw_slowdown",
    0x10: "sync_boost",
    0x20: "sw_thermal",
    0x40: "hw_thermal",
    0x80: "power_brake",
    0x100: "display_clock",
    0x200: "board_limit",
    0x400: "reliability",
}
"""NVML's nvmlClocksEventReasons bits. Not among them is 0x1: an idle card is not throttled."""

RECOVERY_ACTIONS: Mapping[int, str] = {
    0: "none",
    1: "gpu_reset",
    2: "node_reboot",
    3: "drain_p2p",
    4: "drain_and_reset",
    5: "recover_imex_domain",
    6: "bus_reset",
    7: "system_reboot",
}
"""NVML's nvmlDeviceGpuRecoveryAction_t, as the field NVML_FI_DEV_GET_GPU_RECOVERY_ACTION gives it."""
NO_ACTION = "none"
REBOOTS = frozenset({"node_reboot", "system_reboot"})
RESETS = frozenset({"gpu_reset", "drain_and_reset", "bus_reset"})


@dataclass(frozen=True, slots=True)
class CardReading:
    """One card's figures. None where a card does not tell."""

    index: int
    """Its place in NVML's count, which is PCI order. It moves when NVML starts anew without a lost card."""
    uuid: str
    """Stays its own for ever; empty where a card does not tell."""
    name: str
    utilisation: float | None = None
    """The share of the last sample period in which a kernel ran, 0 to 1."""
    memory_used_bytes: int | None = None
    """Without what the driver reserves for itself, where the driver tells them apart."""
    memory_total_bytes: int | None = None
    power_w: float | None = None
    power_limit_w: float | None = None
    temperature_c: int | None = None
    throttle: tuple[str, ...] | None = None
    """Why its clocks are held down; empty: they are not."""
    ecc_uncorrected: int | None = None
    """Memory errors that could not be corrected, since the driver was loaded."""
    recovery_action: str | None = None
    """What NVML says is needed to make the card whole, `none` where nothing is."""
    pids: tuple[int, ...] | None = None
    """The processes that use it, for computing or for graphics."""


class Loss(StrEnum):
    """Why a card gives no figures although NVML answers."""

    LOST = "lost"
    """It fell off the bus, or NVML cannot reach it (NVML_ERROR_GPU_IS_LOST)."""
    NOT_FOUND = "not_found"
    """NVML no longer lists it."""
    RESET_REQUIRED = "reset_required"
    """The driver refuses all work on it before a reset (NVML_ERROR_RESET_REQUIRED)."""


@dataclass(frozen=True, slots=True)
class LostCard:
    """A card that is known and cannot be read."""

    index: int
    uuid: str
    loss: Loss
    detail: str = ""


class Problem(StrEnum):
    """What stood in the way of a whole poll."""

    DRIVER_MISSING = "driver_missing"
    NO_CARDS = "no_cards"
    HANG = "hang"
    """A call did not return in time; the process that made it was killed."""
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Poll:
    """What one look told. With a problem there are no cards, lost or not."""

    cards: tuple[CardReading, ...] = ()
    lost: tuple[LostCard, ...] = ()
    problem: Problem | None = None
    detail: str = ""
    at_card: int | None = None
    """The index of the card that was being asked when it hung, None if it was none or all of them ..."""
    at_uuid: str = ""
    """... and its uuid, where that was known."""


@dataclass(frozen=True, slots=True)
class Skip:
    """Cards that are not to be touched, since NVML hangs at them."""

    uuids: frozenset[str] = frozenset()
    indices: frozenset[int] = frozenset()
    """Where they are: already to open a card or to ask for its uuid may hang ..."""
    of: int = 0
    """... which holds while NVML counts so many cards. With fewer, those after a lost one have moved up."""


@dataclass(frozen=True, slots=True)
class XidEvent:
    """NVML reported a critical Xid. index: the card's, None if NVML does not say."""

    xid: int
    index: int | None
    uuid: str = ""


def poll_from(document: Mapping[str, Any]) -> Poll:
    """A poll as the child wrote it: the inverse of `dataclasses.asdict` through JSON."""
    problem = document["problem"]
    return Poll(
        cards=tuple(_card(card) for card in document["cards"]),
        lost=tuple(LostCard(**{**card, "loss": Loss(card["loss"])}) for card in document["lost"]),
        problem=None if problem is None else Problem(problem),
        detail=document["detail"],
    )


def _card(values: Mapping[str, Any]) -> CardReading:
    lists = {name: tuple(values[name]) for name in ("throttle", "pids") if values[name] is not None}
    return CardReading(**{**values, **lists})
