"""Which processes a profile means, for every shipped profile and kind of engine."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from dreamseed_cli.core.paths import StateDir
from dreamseed_cli.gateway.settings import GatewaySettings
from dreamseed_cli.profile.load import load_profile, parse_profile, shipped_names
from dreamseed_cli.profile.schema import Profile
from dreamseed_cli.supervisor.stack import StackPlan, ports_needed
from dreamseed_cli.supervisor.stack import plan_stack as _plan_stack

_STATE = StateDir(Path("/state"))


def plan_stack(profile: Profile, state: StateDir, **rest: Any) -> StackPlan:
    """A plan with ports for the embedded services."""
    return _plan_stack(profile, state, valkey_ports=range(9000, 9006), **rest)


def _remote() -> Profile:
    engine = {"kind": "remote", "urls": ["https://a:1", "https://b:2"], "model": "m", "api_key_env": "KEY"}
    return parse_profile({"name": "far", "description": "x", "engine": engine}, source="test")


def _docker() -> Profile:
    profile = load_profile("rtx5090x3")
    engine = profile.engine.model_copy(update={"launcher": "docker"})
    return profile.model_copy(update={"engine": engine})


def _settings(plan: StackPlan) -> GatewaySettings:
    return GatewaySettings.model_validate_json(plan.files[Path("/state/gateway.json")])


@pytest.mark.parametrize("name", shipped_names())
def test_every_shipped_profile_has_a_plan(name: str) -> None:
    """Replicas r0, r1, ... on sockets of their own, and a gateway that knows each and holds none ready."""
    plan = plan_stack(load_profile(name), _STATE, model="/m")
    names = [f"r{index}" for index in range(len(plan.replicas))]
    assert [replica.name for replica in plan.replicas] == names
    assert len({str(replica.endpoint) for replica in plan.replicas}) == len(names)
    settings = _settings(plan)
    assert [target.name for target in settings.replicas] == names
    assert not any(target.ready for target in settings.replicas)
    assert settings == plan.gateway_settings


def test_each_replica_has_cards_of_its_own() -> None:
    """Three replicas on three cards; a tensor-parallel group takes neighbours."""
    assert [r.cards for r in plan_stack(load_profile("rtx5090x3"), _STATE).replicas] == [(0,), (1,), (2,)]
    grouped = plan_stack(load_profile("rtx5090x3-document"), _STATE)
    assert [r.cards for r in grouped.replicas] == [(0, 1, 2)]
    spec = grouped.replicas[0].spec
    assert spec
    assert spec.command.env["CUDA_VISIBLE_DEVICES"] == "0,1,2"


def test_a_prepared_model_takes_the_place_of_its_name() -> None:
    """vLLM gets the folder, clients keep the name."""
    (replica,) = plan_stack(load_profile("laptop"), _STATE, model="/models/small").replicas
    assert replica.spec
    assert "/models/small" in replica.spec.command.argv
    assert replica.target(ready=True).model == "smollm2-135m-instruct"


def test_emulated_engines_share_one_file_and_are_simulated() -> None:
    """The engine's file is its part of the profile; the gateway says `simulated`."""
    profile = load_profile("emulated-rtx5090x3")
    plan = plan_stack(profile, _STATE)
    assert json.loads(plan.files[Path("/state/engine.json")])["replicas"] == 3
    assert _settings(plan).simulated
    assert len(plan.replicas) == 3


def test_remote_engines_start_nothing() -> None:
    """They are addresses with the server's own model name; the key is named, never held."""
    plan = plan_stack(_remote(), _STATE)
    assert [str(replica.endpoint) for replica in plan.replicas] == ["https://a:1", "https://b:2"]
    assert all(replica.spec is None and replica.model == "m" for replica in plan.replicas)
    settings = _settings(plan)
    assert (settings.api_key_env, settings.usage_per_chunk, settings.max_model_len) == ("KEY", False, None)


def test_containers_get_loopback_ports_and_names() -> None:
    """A Unix socket does not cross into a container; its name allows to end it later."""
    profile = _docker()
    assert ports_needed(profile.engine) == 3
    assert ports_needed(load_profile("rtx5090x3").engine) == 0
    plan = plan_stack(profile, _STATE, free_ports=[7001, 7002, 7003])
    assert [str(r.endpoint) for r in plan.replicas] == [f"http://127.0.0.1:{7001 + i}" for i in range(3)]
    names = [r.spec.container for r in plan.replicas if r.spec and r.spec.container]
    assert [name.rpartition("-")[2] for name in names] == ["r0", "r1", "r2"]
    assert all(name in r.spec.command.argv for name, r in zip(names, plan.replicas, strict=True) if r.spec)


def test_two_state_folders_never_share_a_container() -> None:
    """Ending one stack's orphans must not remove the other's containers."""
    plans = [plan_stack(_docker(), StateDir(Path(root)), free_ports=[1, 2, 3]) for root in ("/a", "/b")]
    first, second = ({r.spec.container for r in plan.replicas if r.spec} for plan in plans)
    assert not first & second


def test_the_bound_of_a_stop_covers_drain_and_engines() -> None:
    """`dreamseed stop` waits at least as long as the supervisor may take."""
    profile = load_profile("laptop")
    plan = plan_stack(profile, _STATE)
    (replica,) = plan.replicas
    assert replica.spec
    assert plan.gateway.grace_s > profile.gateway.drain_timeout_s
    assert plan.stop_bound_s > plan.gateway.grace_s + replica.spec.grace_s
