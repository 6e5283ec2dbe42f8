"""What differs between two profiles, and what of it a running stack takes."""

from __future__ import annotations

from typing import Any

from dreamseed_cli.profile.difference import SettingChange, differences
from dreamseed_cli.profile.live import with_live, with_live_gateway
from dreamseed_cli.profile.load import load_profile, parse_profile
from dreamseed_cli.profile.schema import Accounts, Cache, Gateway, Profile


def _profile(**changes: Any) -> Profile:
    base = load_profile("emulated-rtx5090x3").model_dump(mode="json")
    for path, value in changes.items():
        *tables, name = path.split("__")
        table = base
        for step in tables:
            table = table[step]
        table[name] = value
    return parse_profile(base, source="test")


def test_differences_are_named_by_their_paths() -> None:
    """Field by field, in tables of tables; a list is one value."""
    before = _profile()
    after = _profile(gateway__admission__share_batch=0.2, failover__urls=["https://a"], box__gpus=2)
    assert differences(before, after) == (
        SettingChange("box.gpus", before.box.gpus, 2),
        SettingChange("gateway.admission.share_batch", 0.05, 0.2),
        SettingChange("failover.urls", [], ["https://a"]),
    )
    assert differences(before, before) == ()


def test_a_table_that_appears_is_one_change() -> None:
    """Nothing to compare it with."""
    tls = {"certificate": "c", "key": "k"}
    (change,) = differences(_profile(), _profile(gateway__security__tls=tls))
    assert change.path == "gateway.security.tls"
    assert change.before is None


def test_of_the_gateway_its_rules_are_taken() -> None:
    """What its sockets, stores and memories were made with stays."""
    fixed = Gateway(port=1, accounts=Accounts(cache_s=1.0, stale_s=2.0), cache=Cache(enabled=False))
    live = Gateway(
        port=2,
        drain_timeout_s=5.0,
        default_timeout_s=6.0,
        accounts=Accounts(cache_s=3.0, above_tier="refuse"),
        cache=Cache(ttl_s=7),
    )
    assert with_live_gateway(fixed, live) == Gateway(
        port=1,
        drain_timeout_s=5.0,
        default_timeout_s=6.0,
        accounts=Accounts(cache_s=1.0, stale_s=2.0, above_tier="refuse"),
        cache=Cache(enabled=False, ttl_s=7),
    )


def test_of_the_profile_the_rules_of_supervision_are_taken() -> None:
    """The engine stays; the cards' ladders and the help from elsewhere may be in the middle of something."""
    old = _profile()
    new = _profile(engine__seed=9, gpu__hot_c=80, supervision__most_failures=2, failover__below=0.25)
    running = with_live(old, new)
    assert running.engine == old.engine
    assert (running.gpu, running.supervision, running.failover) == (old.gpu, new.supervision, old.failover)
