"""docs/runbooks/deploy.md names every key of `[deploy]`, its default, and the targets that it changes."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from copy import deepcopy
from functools import cache
from pathlib import Path
from types import UnionType
from typing import Any, get_args

import pytest
from deploy_profiles import FALLBACK
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from dreamseed_cli.deploy.catalog import TARGETS
from dreamseed_cli.deploy.render import render
from dreamseed_cli.profile.deploy import Deploy
from dreamseed_cli.profile.load import load_profile
from dreamseed_cli.profile.schema import Profile

_PAGE = Path(__file__).parents[3] / "docs/runbooks/deploy.md"
_ROW = re.compile(r"^\| `([a-z0-9_.]+)` \| (.*?) \| (.*?) \| (.*?) \|$", re.MULTILINE)
_KEY = "A" * 43 + "="
_OTHERS: Mapping[str, Any] = {
    "domain": "learn.example",
    "cloudflare_plan": "free",
    "cloudflare_answers_per_10_s": 700,
    "cloud_run.project": "mine",
    "cloud_run.region": "us-central1",
    "cloud_run.service": "front",
    "cloud_run.image": "registry.example/front:1",
    "cloud_run.min_instances": 1,
    "cloud_run.max_instances": 3,
    "cloud_run.concurrency": 7,
    "cloud_run.timeout_s": 30,
    "cloud_run.cpu": 1,
    "cloud_run.memory_gib": 2,
    "cloud_run.fallback.url": "https://other.example/v1",
    "cloud_run.fallback.model": "another",
    "cloud_run.fallback.input_usd_per_mtok": 7.0,
    "cloud_run.fallback.output_usd_per_mtok": 7.0,
    "cloud_run.fallback.monthly_cap_usd": 7.0,
    "cloud_run.fallback.tokens_field": "max_completion_tokens",
    "way_in.kind": "wireguard",
    "way_in.name": "box.example",
    "way_in.cloud_side": "10.1.2.3/32",
    "way_in.box_side": "10.1.2.4/24",
    "way_in.port": 1234,
    "way_in.cloud_public_key": _KEY,
    "way_in.box_public_key": _KEY,
    "host.user": "kim",
    "host.install": "/srv/program",
    "host.state": "/var/lib/other",
    "host.config": "/etc/other",
    "host.lan": "10.0.0.0/8",
    "host.ssh_port": 2222,
    "host.metrics_port": 9999,
    "host.log_gib": 9,
    "database.memory_gib": 64.0,
    "database.cores": 8,
    "database.storage": "hdd",
    "database.disk_gib": 20,
    "database.connections": 50,
    "database.version": 17,
    "monitoring.docs_url": "https://docs.example",
}
"""Another value of each."""


def _keys(part: type[BaseModel], before: str = "") -> Iterator[tuple[str, FieldInfo]]:
    for name, field in part.model_fields.items():
        kinds = get_args(field.annotation) if isinstance(field.annotation, UnionType) else (field.annotation,)
        parts = [one for one in kinds if isinstance(one, type) and issubclass(one, BaseModel)]
        if parts:
            yield from _keys(parts[0], f"{before}{name}.")
        else:
            yield f"{before}{name}", field


_KEYS = dict(_keys(Deploy))
_ROWS = {key: (default, said, where) for key, default, said, where in _ROW.findall(_PAGE.read_text())}


def test_every_key_is_there() -> None:
    """With what it is, and no other."""
    assert set(_ROWS) == set(_KEYS) == set(_OTHERS)
    assert all(said for _, said, _ in _ROWS.values())


@pytest.mark.parametrize("key", _KEYS)
def test_the_default_is_the_programs(key: str) -> None:
    """`-`: there is none."""
    field = _KEYS[key]
    default = None if field.is_required() else field.default
    assert _ROWS[key][0] == ("-" if default is None else f"`{default}`")


@pytest.mark.parametrize("key", _KEYS)
def test_it_changes_the_targets_that_the_page_names(key: str) -> None:
    """A key that changes nothing has no business in the profile."""
    before, after = _before(_around(key)), _texts(_changed(key))
    files = {file for file in before.keys() | after.keys() if before.get(file) != after.get(file)}
    assert {target for target, _ in files} == set(re.findall(r"`([a-z-]+)`", _ROWS[key][2]))


_AROUND: Mapping[str, Mapping[str, Any]] = {
    "": {},
    "cloud_run.fallback.": {"cloud_run": {"fallback": FALLBACK}},
    "way_in.": {"way_in": {"kind": "wireguard"}},
}
"""What has to be there for a key that begins so to say anything."""


def _around(key: str) -> str:
    if key in ("way_in.kind", "way_in.name"):
        return ""
    return next((one for one in _AROUND if one and key.startswith(one)), "")


def _changed(key: str) -> dict[str, Any]:
    deploy = deepcopy(dict(_AROUND[_around(key)]))
    *folders, name = key.split(".")
    table = deploy
    for one in folders:
        table = table.setdefault(one, {})
    table[name] = _OTHERS[key]
    return deploy


@cache
def _before(around: str) -> dict[tuple[str, str], str]:
    return _texts(_AROUND[around])


def _texts(deploy: Mapping[str, Any]) -> dict[tuple[str, str], str]:
    profile = Profile.model_validate(
        load_profile("rtx5090x3").model_dump() | {"deploy": deploy}, strict=False
    )
    return {(one.target, str(one.path)): one.text for one in render(profile, TARGETS)}
