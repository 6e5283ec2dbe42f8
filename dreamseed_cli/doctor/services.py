"""External services, asked by this program itself where no stack runs that would tell of them."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator

from dreamseed_cli.core.errors import DreamseedError
from dreamseed_cli.core.paths import StateDir
from dreamseed_cli.doctor.finding import Finding, off, ok, problem, warning
from dreamseed_cli.gateway.settings import ServiceAddresses
from dreamseed_cli.profile.schema import Profile
from dreamseed_cli.supervisor.running import require_running

_AREA = "stack"
_BROKERS_WITHIN_S = 2.5


def redis(profile: Profile, state: StateDir) -> Iterator[Finding]:
    """Whether the cluster answers and serves."""
    from dreamseed_cli.supervisor.elsewhere import ExternalRedis

    told = profile.services.redis
    if told.mode != "external" or _runs(state):
        return
    if told.password_env and not os.environ.get(told.password_env):
        yield _no_password(told.password_env, "Redis Cluster")
        return
    addresses = ServiceAddresses(
        redis_nodes=told.nodes,
        redis_password_env=told.password_env,
        redis_tls=told.tls,
        journal=str(state.root),
    )
    remedy = "services.redis in the profile; valkey-cli --cluster check NODE. Without it nothing is cached."
    try:
        obstacle = asyncio.run(ExternalRedis(addresses).probe())
    except DreamseedError as error:
        yield problem(_AREA, "Redis Cluster", f"no answer: {error.cause}", remedy)
        return
    if obstacle is not None:
        yield problem(_AREA, "Redis Cluster", obstacle, remedy)
    else:
        yield ok(_AREA, "Redis Cluster", f"{', '.join(told.nodes)}: it serves")


def brokers(profile: Profile, state: StateDir) -> Iterator[Finding]:
    """Whether the brokers answer, and whether they have the topic."""
    from confluent_kafka import KafkaError, KafkaException, Producer

    from dreamseed_cli.gateway.events.sender import producer_settings

    told = profile.services.kafka
    if told.mode != "external" or _runs(state):
        return
    for variable in (told.username_env, told.password_env):
        if variable and not os.environ.get(variable):
            yield _no_password(variable, "brokers")
            return
    client = Producer({**producer_settings(told, os.environ), "error_cb": lambda _: None})
    try:
        found = client.list_topics(timeout=_BROKERS_WITHIN_S)
    except KafkaException as error:
        reason = error.args[0].str() if isinstance(error.args[0], KafkaError) else str(error)
        said = f"{', '.join(told.brokers)}: {reason}"
        yield problem(
            _AREA,
            "brokers",
            said,
            "services.kafka in the profile. Until they answer, events wait in PostgreSQL.",
        )
        return
    if told.topic in found.topics:
        yield ok(_AREA, "brokers", f"{len(found.brokers)} answer, and have the topic {told.topic}")
    else:
        said = f"{len(found.brokers)} answer, none has the topic {told.topic}"
        yield warning(_AREA, "brokers", said, "Make it, unless the brokers make topics by themselves.")


def _runs(state: StateDir) -> bool:
    """A running stack tells of its services itself (stack.stack)."""
    try:
        require_running(state)
    except DreamseedError:
        return False
    return True


def _no_password(variable: str, name: str) -> Finding:
    """That the variable is missing is told already, by what `serve` needs."""
    return off(_AREA, name, f"not asked: {variable} is not set here")
