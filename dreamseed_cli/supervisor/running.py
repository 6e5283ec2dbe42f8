"""Who serves on a state folder, for the commands that talk to a running stack."""

from __future__ import annotations

from pydantic import ValidationError

from dreamseed_cli.core.errors import FailedError, MissingError
from dreamseed_cli.core.paths import StateDir
from dreamseed_cli.gateway.settings import GatewaySettings
from dreamseed_cli.supervisor.state import SupervisorRecord, gateway_file, read_supervisor


def nothing_runs(state: StateDir) -> MissingError:
    """What to raise where a running stack is needed."""
    return MissingError(
        "nothing runs here", place=str(state.root), remedy="Start the stack with: dreamseed serve."
    )


def require_running(state: StateDir) -> SupervisorRecord:
    """The running supervisor's record. MissingError if nothing runs."""
    record = read_supervisor(state)
    if record is None:
        raise nothing_runs(state)
    if not record.alive():
        raise MissingError(
            f"the supervisor (pid {record.identity.pid}) was killed",
            place=str(state.root),
            remedy="What it left may still serve: dreamseed status. `dreamseed serve` goes on with it.",
        )
    return record


def gateway_settings(state: StateDir) -> GatewaySettings | None:
    """What the supervisor told its gateway last; the file outlives both. None where there is none to read."""
    try:
        return GatewaySettings.model_validate_json(gateway_file(state).read_bytes())
    except (OSError, ValidationError):
        return None


def gateway_address(state: StateDir) -> str:
    """HOST:PORT of the running stack's gateway. MissingError if nothing runs, FailedError if not yet."""
    record = require_running(state)
    if record.gateway is None:
        raise FailedError(
            "the stack is starting: its gateway does not listen yet",
            place=str(state.root),
            remedy="See what it waits for with: dreamseed status.",
        )
    return record.gateway
