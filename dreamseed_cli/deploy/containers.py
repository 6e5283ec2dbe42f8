"""Which of the profile's services stand on this box in containers: Kafka, Valkey. Pure."""

from __future__ import annotations

from typing import Final

from dreamseed_cli.core.address import is_loopback
from dreamseed_cli.profile.schema import Profile

KAFKA_PORTS: Final = (9092, 9095, 9098)
VALKEY_PORTS: Final = (7000, 7001, 7002)


def kafka_here(profile: Profile) -> bool:
    """Whether the brokers are external, and of this box: embedded ones are none, others run elsewhere."""
    kafka = profile.services.kafka
    return kafka.mode == "external" and _of_this_box(kafka.brokers)


def valkey_here(profile: Profile) -> bool:
    """The same of the cache's nodes."""
    redis = profile.services.redis
    return redis.mode == "external" and _of_this_box(redis.nodes)


def strangers(addresses: tuple[str, ...], ports: tuple[int, ...]) -> tuple[str, ...]:
    """Which of these HOST:PORT no container listens on."""
    return tuple(one for one in addresses if one.rpartition(":")[2] not in map(str, ports))


def _of_this_box(addresses: tuple[str, ...]) -> bool:
    return all(is_loopback(one.rpartition(":")[0].strip("[]")) for one in addresses)
