"""Which settings a running stack takes without a restart. Pure; whatever is not named here needs one."""

from __future__ import annotations

from dreamseed_cli.profile.schema import Gateway, Profile


def with_live(fixed: Profile, live: Profile) -> Profile:
    """The profile `fixed` with what can change while it runs taken from `live`."""
    return fixed.model_copy(
        update={
            "gateway": with_live_gateway(fixed.gateway, live.gateway),
            "supervision": live.supervision,
            "prices": live.prices,  # nothing of the stack reads these
            "costs": live.costs,
            "backup": live.backup,
            "ups": live.ups,
            "drill": live.drill,
            "deploy": live.deploy,
        }
    )


def with_live_gateway(fixed: Gateway, live: Gateway) -> Gateway:
    """The same for the gateway: rules for calls to come, none that its sockets or stores were made with."""
    remembered = {"cache_s": fixed.accounts.cache_s, "stale_s": fixed.accounts.stale_s}
    return fixed.model_copy(
        update={
            "admission": live.admission,
            "generation": live.generation,
            "accounts": live.accounts.model_copy(update=remembered),
            "cache": fixed.cache.model_copy(update={"ttl_s": live.cache.ttl_s}),
            "default_timeout_s": live.default_timeout_s,
            "drain_timeout_s": live.drain_timeout_s,
        }
    )
