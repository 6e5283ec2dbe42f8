"""Optional parts of the installation, and how a missing one is installed. They are pyproject's extras."""

from __future__ import annotations

import importlib.metadata
from typing import Literal

Extra = Literal["cpu", "embedded", "gpu"]
_SETUP = {"cpu": "DREAMSEED_ENGINE=cpu make setup", "gpu": "DREAMSEED_ENGINE=gpu make setup"}


def how_to_install(extra: Extra) -> str:
    """A remedy that works: this package is in no registry, so `pip install 'dreamseed[...]'` finds nothing.

    From a registry vLLM's CPU build would get PyTorch's CUDA build beside it, which only the lock prevents.
    """
    checkout = f"In a checkout run: {_SETUP.get(extra, 'make setup')}."
    if extra == "cpu":
        return f"{checkout} Elsewhere, name engines that run: engine.kind = 'remote'."
    return f"{checkout} Elsewhere: pip install {' '.join(_pins(extra))} into dreamseed's environment."


def _pins(extra: str) -> list[str]:
    """What the extra stands for, from this package's own metadata."""
    wanted = importlib.metadata.requires("dreamseed") or []
    return [one.partition(";")[0].strip() for one in wanted if one.endswith(f"extra == '{extra}'")]
