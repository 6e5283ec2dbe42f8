"""Which profile fits this machine: the embedded default, or the GPU profile for the cards that NVML sees."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from dreamseed_cli.core import nvml
from dreamseed_cli.core.errors import FailedError
from dreamseed_cli.profile.load import EMBEDDED_DEFAULT, load_profile, with_gpus
from dreamseed_cli.profile.schema import Profile


@dataclass(frozen=True, slots=True)
class Choice:
    """A profile and, in one sentence, why it was taken."""

    profile: Profile
    why: str
    source: str = ""
    """The name or path it was read from."""
    gpus: int | None = None
    """How many cards it was made for, if not as many as it says."""

    def read_again(self) -> Profile:
        """The same choice as its file is now. Raises UsageError or ErrorGroup with every mistake."""
        profile = load_profile(self.source)
        return profile if self.gpus is None else with_gpus(profile, self.gpus)


def visible_cards(within_s: float = nvml.WITHIN_S) -> tuple[str, ...]:
    """The names of the NVIDIA cards that NVML sees; empty without a card or a driver.

    Raises FailedError where there is a driver that fails or hangs: what cards there are is not known then.
    """
    seen = nvml.look(within_s)
    if seen.fault:
        remedy = "Try nvidia-smi, see docs/runbooks/gpu.md. With --profile the driver is not asked."
        raise FailedError(seen.fault, place="NVML", remedy=remedy)
    return seen.names


def choose_profile(
    requested: str | None, gpus: int | None = None, cards: Callable[[], Sequence[str]] = visible_cards
) -> Choice:
    """The profile to run: what was asked for, else $DREAMSEED_PROFILE, else what fits the `cards` here.

    Only the last asks for them. Raises FailedError where that fails.
    """
    named = os.environ.get("DREAMSEED_PROFILE")
    if requested:
        choice = Choice(load_profile(requested), "asked for with --profile", requested)
    elif named:
        choice = Choice(load_profile(named), "named by $DREAMSEED_PROFILE", named)
    else:
        choice = _fitting(cards())
    if gpus is None:
        return choice
    why = f"{choice.why}; --gpus {gpus}"
    return replace(choice, profile=with_gpus(choice.profile, gpus), why=why, gpus=gpus)


def _fitting(cards: Sequence[str]) -> Choice:
    if not cards:
        return Choice(load_profile(EMBEDDED_DEFAULT), "NVML sees no card on this machine", EMBEDDED_DEFAULT)
    seen = f"NVML sees {len(cards)} x {cards[0]}"
    if len(cards) == 1:
        return Choice(load_profile("rtx5090x1"), seen, "rtx5090x1")
    profile = load_profile("rtx5090x3")
    if len(cards) < profile.box.gpus:
        fitted = with_gpus(profile, len(cards))
        return Choice(fitted, f"{seen}, so one replica on each", "rtx5090x3", len(cards))
    return Choice(profile, seen, "rtx5090x3")
