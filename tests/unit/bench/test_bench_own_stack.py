"""Which profile a running stack has, as far as it can be told."""

from __future__ import annotations

from typing import Any

import pytest

from dreamseed_cli.bench.own_stack import _shipped_profile
from dreamseed_cli.core.result import Provenance
from dreamseed_cli.profile.load import load_profile
from dreamseed_cli.supervisor.snapshot import GatewaySnapshot, ReplicaSnapshot, StackSnapshot


def _snapshot(profile: str, served_name: str, replicas: int) -> StackSnapshot:
    told: dict[str, Any] = {"pid": 1, "started_at": 0.0, "taken_at": 1.0, "activity": "serving", "why": ""}
    return StackSnapshot(
        profile=profile,
        served_name=served_name,
        provenance=Provenance.SIMULATED,
        gateway=GatewaySnapshot("serving", "h:1"),
        replicas=tuple(
            ReplicaSnapshot(f"r{index}", "ready", "", "", 0.0, "unix:/s") for index in range(replicas)
        ),
        **told,
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
