"""Profiles whose rendered files are looked at: the shipped ones, and every way in with every kind of plan."""

from __future__ import annotations

from itertools import product
from typing import Any

from dreamseed_cli.profile.load import load_profile, shipped_names
from dreamseed_cli.profile.schema import Profile

ON_THIS_BOX = {
    "kafka": {"mode": "external", "brokers": ("127.0.0.1:9092", "127.0.0.1:9095")},
    "redis": {"mode": "external", "nodes": ("127.0.0.1:7000",), "password_env": "REDIS_PASSWORD"},
}
"""Services that a profile has in compose.yaml's containers."""
FALLBACK = {
    "url": "https://api.openai.com/v1",
    "model": "gpt-4o-mini",
    "input_usd_per_mtok": 0.15,
    "output_usd_per_mtok": 0.6,
    "monthly_cap_usd": 50.0,
}
"""§H2's, as a profile names it."""


def deploy_profiles() -> dict[str, Profile]:
    """By a name for the test: the shipped ones, and the document's box in other surroundings.

    No shipped profile sets `deploy.way_in`; `whole` has all that may stand around a box.
    """
    found = {name: load_profile(name) for name in shipped_names()}
    document = found["rtx5090x3"].model_dump()
    for way, plan in product(("tailscale", "cloudflare", "wireguard"), ("free", "pro")):
        deploy = {"way_in": {"kind": way}, "cloudflare_plan": plan}
        found[f"{way}-{plan}"] = Profile.model_validate(document | {"deploy": deploy}, strict=False)
    found["whole"] = _whole(document)
    return found


def _whole(document: dict[str, Any]) -> Profile:
    standby = {"mode": "external", "standby": {"service_file": "/srv/clients/database.service"}}
    services = document["services"] | {"postgres": standby} | ON_THIS_BOX
    box = document["box"] | {"gpu_power_limit_w": 450.0}
    around = {"services": services, "ups": {"source": "apcupsd"}, "box": box}
    deploy = {"host": {"lan": "fd00:1::/64"}, "cloud_run": {"fallback": FALLBACK}}
    return Profile.model_validate(document | around | {"deploy": deploy}, strict=False)
