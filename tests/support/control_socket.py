"""What a running supervisor says, without a `dreamseed status` as a process for every look."""

from __future__ import annotations

from dreamseed_cli.core.errors import FailedError
from dreamseed_cli.core.paths import StateDir
from dreamseed_cli.supervisor.control import fetch_snapshot
from dreamseed_cli.supervisor.snapshot import StackSnapshot


def snapshot_of(state: StateDir) -> StackSnapshot | None:
    """What `dreamseed status` would show; None while no supervisor answers. Not for use in an event loop."""
    try:
        return fetch_snapshot(state)
    except FailedError:
        return None
