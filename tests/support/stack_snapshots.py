"""What a supervisor tells of its stack at one moment, made up."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from dreamseed_cli.core.result import Provenance
from dreamseed_cli.supervisor.snapshot import GatewaySnapshot, StackSnapshot

_SERVING = StackSnapshot(
    profile="p",
    why="",
    served_name="m",
    provenance=Provenance.MEASURED,
    pid=1,
    started_at=1000.0,
    taken_at=1001.0,
    activity="serving",
    gateway=GatewaySnapshot("serving", "h:1"),
    replicas=(),
)


def stack_snapshot(**parts: Any) -> StackSnapshot:
    """A stack that serves without replicas, services and cards, measured; but for these parts."""
    return replace(_SERVING, **parts)
