"""What an operator is told of the services: what each mode means, and what is missing without one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from dreamseed_cli.profile.schema import Profile


@dataclass(frozen=True, slots=True)
class Standing:
    """A service without a process to watch: off, or embedded in another one. means: a sentence."""

    name: str
    mode: str
    state: str
    means: str


def without(name: str, profile: Profile | None = None) -> str:
    """What is missing while a service is configured and not ready."""
    if name == "postgres":
        unknown = profile.gateway.accounts.unknown_user_tier if profile else "free"
        policy = "unknown ones are refused" if unknown == "refuse" else f"unknown ones count as '{unknown}'"
        return f"known users are served from memory, {policy}; events wait on this disk"
    if name == "relay":
        return "events wait in PostgreSQL's outbox, none is lost"
    if name.startswith("valkey-"):
        return "a third of the answer cache is away"
    return "no answer cache: every request is generated"


def standings(profile: Profile) -> Iterator[Standing]:
    """The services that nothing is started for and nothing is asked of, each with what that means."""
    services = profile.services
    if services.postgres.mode == "off":
        yield Standing("postgres", "off", "off", _without_accounts(profile))
    if services.redis.mode == "off":
        yield Standing("redis", "off", "off", "there is no answer cache: every request is generated")
    if services.kafka.mode != "external":
        yield _events(services.postgres.mode, services.kafka.mode)


def _without_accounts(profile: Profile) -> str:
    unknown = profile.gateway.accounts.unknown_user_tier
    policy = f"every user_id has the limits of '{unknown}' and the priority that it asks for"
    if unknown == "refuse":
        policy = "every user_id is refused"
    return f"there are no accounts ({policy}), requests are not recorded, no events are kept"


def _events(postgres: str, kafka: str) -> Standing:
    if postgres == "off":
        return Standing(
            "kafka", kafka, "off", "no events are kept: they would be in PostgreSQL, which is off"
        )
    if kafka == "off":
        return Standing("kafka", kafka, "off", "requests are recorded in PostgreSQL, no events are kept")
    means = "events stay in PostgreSQL's outbox: read them with `dreamseed events tail`"
    return Standing("kafka", kafka, "outbox", means)
