"""What a measurement ran on, in the words that results are stamped with."""

from __future__ import annotations

import os
import platform
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from dreamseed_cli.core import nvml
from dreamseed_cli.estimates.results import Stamp
from dreamseed_cli.profile.schema import Profile

_CPUINFO = Path("/proc/cpuinfo")


def this_device(profile: Profile | None) -> str:
    """The cards of this machine that a stack of this profile computes on, else its processor and cores.

    An emulated engine computes on the processor whatever cards there are. None: somebody else's server, of
    whose machine nothing is known: what asks it is described.
    """
    if profile is not None and profile.card_engine is not None:
        return device(nvml.look().names[: profile.box.gpus])
    return device()


def device(cards: Sequence[str] = ()) -> str:
    """`3 x NVIDIA GeForce RTX 5090` for cards of these names; without any `AMD EPYC 7B13, 2 cores`."""
    counted = [f"{count} x {name}" if count > 1 else name for name, count in Counter(cards).items()]
    return Stamp(gpu=", ".join(counted) or None, cpu=processor(), cores=os.cpu_count()).name


def processor() -> str:
    """The processor's name."""
    try:
        lines = _CPUINFO.read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, "") or platform.processor() or platform.machine()
