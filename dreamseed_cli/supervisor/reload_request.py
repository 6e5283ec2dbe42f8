"""Asking the running supervisor for a reload, and waiting for what comes of it."""

from __future__ import annotations

import signal
import time

from dreamseed_cli.core.errors import DreamseedError, ErrorGroup, FailedError, MissingError, UsageError
from dreamseed_cli.core.paths import StateDir
from dreamseed_cli.core.processes import signal_all
from dreamseed_cli.supervisor.control import fetch_snapshot
from dreamseed_cli.supervisor.running import nothing_runs
from dreamseed_cli.supervisor.snapshot import ReloadOutcome
from dreamseed_cli.supervisor.state import read_supervisor

_POLL_S = 0.1
_BOUND_S = 20.0
_KINDS = {kind.kind: kind for kind in (UsageError, MissingError, FailedError)}


def request_reload(state: StateDir) -> ReloadOutcome:
    """Send SIGHUP to the supervisor that is proven to run here, and wait for the outcome.

    MissingError if nothing runs. FailedError if nothing comes of it within 20 s.
    """
    record = read_supervisor(state)
    if record is None or not record.alive():
        raise nothing_runs(state)
    before = fetch_snapshot(state).reload
    signal_all([record.identity], signal.SIGHUP)
    deadline = time.monotonic() + _BOUND_S
    while time.monotonic() < deadline and record.identity.alive():
        outcome = fetch_snapshot(state).reload
        if outcome is not None and outcome != before:
            return outcome
        time.sleep(_POLL_S)
    raise FailedError(
        f"the supervisor (pid {record.identity.pid}) has not reloaded within {_BOUND_S:.0f} s",
        place=str(state.root),
        remedy="See what it does with: dreamseed logs supervisor.",
    )


def outcome_error(outcome: ReloadOutcome) -> DreamseedError | None:
    """The mistakes for which nothing was taken, as an error to raise; None if there are none."""
    errors = [
        _KINDS.get(error["kind"], FailedError)(error["cause"], place=error["place"], remedy=error["remedy"])
        for error in outcome.errors
    ]
    if not errors:
        return None
    return errors[0] if len(errors) == 1 else ErrorGroup(errors)
