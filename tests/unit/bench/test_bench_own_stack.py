"""Which profile a running stack has, as far as it can be told."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from stack_snapshots import stack_snapshot

from dreamseed_cli.bench.own_stack import _shipped_profile, _under_test
from dreamseed_cli.core.paths import StateDir
from dreamseed_cli.core.result import Provenance
from dreamseed_cli.profile.load import load_profile
from dreamseed_cli.supervisor.snapshot import ReplicaSnapshot, StackSnapshot


def _snapshot(profile: str, served_name: str, replicas: int) -> StackSnapshot:
    return stack_snapshot(
        profile=profile,
        served_name=served_name,
        provenance=Provenance.SIMULATED,
        replicas=tuple(
            ReplicaSnapshot(f"r{index}", "ready", "", "", 0.0, "unix:/s") for index in range(replicas)
        ),
    )


@pytest.mark.parametrize("replicas", [3, 1])
def test_the_shipped_profile_with_the_cards_that_run(replicas: int) -> None:
    """`serve --gpus` may have made it smaller."""
    found = _shipped_profile(_snapshot("emulated-rtx5090x3", "emulated-14b", replicas))
    assert found is not None
    assert found.engine == load_profile("emulated-rtx5090x3").engine.model_copy(update={"replicas": replicas})
    assert found.box.gpus == replicas


@pytest.mark.parametrize(
    ("profile", "served_name", "replicas"),
    [("my-own", "m", 1), ("emulated-rtx5090x3", "another-model", 3), ("laptop", "smollm2-135m-instruct", 2)],
)
def test_what_does_not_fit_is_not_guessed(profile: str, served_name: str, replicas: int) -> None:
    """A profile of one's own, another model under the same name, more replicas than it can have."""
    assert _shipped_profile(_snapshot(profile, served_name, replicas)) is None


def test_a_drained_replica_takes_no_requests(tmp_path: Path) -> None:
    """It runs, and is none of those whose speed a bench of the gateway would measure."""
    snapshot = _snapshot("emulated-rtx5090x3", "emulated-14b", 2)
    first, second = snapshot.replicas
    found = _under_test(
        replace(
            snapshot,
            gateway=replace(snapshot.gateway, address="127.0.0.1:1"),
            replicas=(first, replace(second, drained=True)),
        ),
        None,
        StateDir(tmp_path),
        own=False,
    )
    assert found.away == ("r1",)
