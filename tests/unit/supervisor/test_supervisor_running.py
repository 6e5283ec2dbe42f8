"""Finding the running stack's gateway."""

import os
from dataclasses import replace
from pathlib import Path

import pytest

from dreamseed_cli.core.errors import FailedError, MissingError
from dreamseed_cli.core.paths import StateDir
from dreamseed_cli.core.processes import ProcessIdentity, boot_id
from dreamseed_cli.supervisor.running import gateway_address
from dreamseed_cli.supervisor.state import SupervisorRecord, write_supervisor


@pytest.fixture
def state(tmp_path: Path) -> StateDir:
    """An empty state folder."""
    state = StateDir(tmp_path / "s")
    state.create()
    return state


@pytest.fixture
def record() -> SupervisorRecord:
    """A supervisor that lives: this process."""
    identity = ProcessIdentity.of(os.getpid())
    assert identity is not None
    return SupervisorRecord(
        identity=identity, boot_id=boot_id(), started_at=0.0, profile="p", version="0", stop_bound_s=1.0
    )


def test_the_address_is_the_recorded_one(state: StateDir, record: SupervisorRecord) -> None:
    """Of a supervisor that lives."""
    write_supervisor(state, replace(record, gateway="127.0.0.1:5"))
    assert gateway_address(state) == "127.0.0.1:5"


def test_without_a_stack_something_is_missing(state: StateDir) -> None:
    """The remedy starts one."""
    with pytest.raises(MissingError, match="dreamseed serve"):
        gateway_address(state)


def test_a_dead_supervisors_address_is_not_used(state: StateDir, record: SupervisorRecord) -> None:
    """Somebody else may listen there by now; or its own gateway, which serves on."""
    stranger = ProcessIdentity(record.identity.pid, record.identity.started - 100)
    write_supervisor(state, replace(record, identity=stranger, gateway="127.0.0.1:5"))
    with pytest.raises(MissingError, match=r"was killed.*may still serve"):
        gateway_address(state)


def test_a_stack_that_is_starting_says_so(state: StateDir, record: SupervisorRecord) -> None:
    """Try again: status tells what it waits for."""
    write_supervisor(state, record)
    with pytest.raises(FailedError, match="starting"):
        gateway_address(state)
