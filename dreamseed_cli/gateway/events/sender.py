"""Events to Kafka: an idempotent producer that keeps each user's order and tells what the brokers have."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import structlog
from confluent_kafka import KafkaError, Message, Producer

from dreamseed_cli.core.errors import DreamseedError, MissingError
from dreamseed_cli.gateway.events.outbox import OutboxRow
from dreamseed_cli.profile.schema import Kafka

_POLL_S = 0.2

_log = structlog.get_logger(__name__)


class KafkaAway(DreamseedError):
    """The brokers did not take an event: the same may go through later."""


def producer_settings(kafka: Kafka, environment: Mapping[str, str]) -> dict[str, Any]:
    """librdkafka's configuration. Raises MissingError if a variable that the profile names is not set."""
    settings: dict[str, Any] = {
        "bootstrap.servers": ",".join(kafka.brokers),
        "client.id": "dreamseed-relay",
        "security.protocol": kafka.security_protocol,
        "enable.idempotence": True,
        "acks": "all",
        # A message never times out: one that did, and was sent again, would come after its successors.
        "message.timeout.ms": 0,
        "linger.ms": 5,
        "compression.type": "lz4",
        # Java's: a user's events stay in one partition whoever else produces to the topic.
        "partitioner": "murmur2_random",
        "reconnect.backoff.max.ms": 2000,
        # Its own words go to stderr as they stand; what matters comes through `error_cb`.
        "log_level": 0,
    }
    if kafka.security_protocol == "sasl_ssl":
        settings["sasl.mechanism"] = kafka.sasl_mechanism
        settings["sasl.username"] = _secret(kafka.username_env, environment, "username_env")
        settings["sasl.password"] = _secret(kafka.password_env, environment, "password_env")
    if kafka.ca_file is not None:
        settings["ssl.ca.location"] = kafka.ca_file
    return settings


def _secret(variable: str | None, environment: Mapping[str, str], field: str) -> str:
    found = environment.get(variable) if variable else None
    if not found:
        raise MissingError(
            f"the environment variable {variable} is not set" if variable else "no variable is named",
            place=f"services.kafka.{field}",
            remedy="Name a variable there, and set it where dreamseed serve is started.",
        )
    return found


class Sender:
    """Make it, send() a batch, settle() until the brokers have it."""

    def __init__(self, kafka: Kafka) -> None:
        self._topic = kafka.topic
        self._settings = producer_settings(kafka, os.environ)
        self._producer = self._make()
        self._acknowledged: list[int] = []
        self._failure: KafkaError | None = None
        self._complaints: set[int] = set()

    def send(self, rows: Sequence[OutboxRow]) -> None:
        """Hand a batch over, in its order. There must be none under way."""
        for row in rows:
            self._producer.produce(
                self._topic,
                value=row.payload.encode(),
                key=row.key.encode() or None,
                headers={"event_id": row.event_id},
                on_delivery=partial(self._delivered, row.sequence),
            )

    async def settle(self) -> bool:
        """Wait a moment for what is under way; whether nothing is any more.

        Raises KafkaAway for what the brokers refused; it is to be sent again.
        """
        under_way = await asyncio.to_thread(self._producer.flush, _POLL_S)
        if self._acknowledged:
            self._complaints.clear()
        failure, self._failure = self._failure, None
        if failure is None:
            return under_way == 0
        if failure.fatal() or failure.code() == KafkaError._FATAL:  # noqa: SLF001 - so the library names it
            # Only a new producer goes on after this. What the old one had under way is sent again.
            self._producer.purge()
            self._producer = self._make()
        raise KafkaAway(
            failure.str(),
            place=f"topic {self._topic}",
            remedy="Nothing is lost. See that the topic exists and that this user may write to it.",
        )

    def take_acknowledged(self) -> list[int]:
        """The outbox's numbers of what the brokers have, each told once."""
        taken, self._acknowledged = self._acknowledged, []
        return taken

    def close(self) -> None:
        """Forget what is under way."""
        self._producer.purge()
        self._producer.flush(_POLL_S)

    def _make(self) -> Producer:
        return Producer({**self._settings, "error_cb": self._complain})

    def _delivered(self, sequence: int, error: KafkaError | None, _: Message) -> None:
        if error is None:
            self._acknowledged.append(sequence)
        else:
            self._failure = error

    def _complain(self, error: KafkaError) -> None:
        """The library goes on by itself; each kind of trouble is told once until brokers answer again."""
        if error.code() not in self._complaints:
            self._complaints.add(error.code())
            _log.warning("brokers", cause=error.str(), place=self._settings["bootstrap.servers"])
