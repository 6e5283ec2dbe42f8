"""What the tests of events share: a relay process, a reader of Kafka, and records."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, TopicPartition
from real_services import MockKafka

from dreamseed_cli.gateway.events.command import relay_command
from dreamseed_cli.gateway.events.record import Outcome, RequestRecord
from dreamseed_cli.gateway.events.settings import RelaySettings
from dreamseed_cli.profile.schema import Kafka

TOPIC = "events"
PARTITIONS = 3


def record(event_id: str, **fields: Any) -> RequestRecord:
    """A finished request."""
    given: Mapping[str, Any] = {
        "request_id": f"of-{event_id}",
        "user_id": "user-1",
        "outcome": Outcome.FINISHED,
        "arrived_at": 1_762_732_800.25,
        "duration_s": 0.5,
        "priority": "standard",
        "workload": "question",
        "model": "m",
        "prompt_tokens": 3,
        "completion_tokens": 7,
    }
    return RequestRecord(event_id=event_id, **{**given, **fields})


def relay_settings(dsn: str, kafka: MockKafka) -> RelaySettings:
    """A relay from this database to these brokers."""
    return RelaySettings(
        postgres_dsn=dsn,
        kafka=Kafka(mode="external", brokers=tuple(kafka.brokers.split(",")), topic=TOPIC),
    )


class RelayProcess:
    """A relay that can be killed and started again."""

    def __init__(self, folder: Path, settings: RelaySettings) -> None:
        self._config = folder / "relay.json"
        self._config.write_text(settings.model_dump_json())
        self.log = folder / "relay.log"
        self.process = self._launch()

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def restart(self) -> None:
        self.kill()
        self.process = self._launch()

    def _launch(self) -> subprocess.Popen[bytes]:
        with self.log.open("ab") as output:
            return subprocess.Popen(relay_command(self._config).argv, stdout=output, stderr=output)


@contextmanager
def relay(folder: Path, settings: RelaySettings) -> Iterator[RelayProcess]:
    """A running relay."""
    running = RelayProcess(folder, settings)
    try:
        yield running
    finally:
        running.kill()


class Published(msgspec.Struct, frozen=True):
    """One message as a consumer gets it."""

    event_id: str
    """From the header."""
    key: str
    payload: dict[str, Any]


def read_topic(kafka: MockKafka) -> list[Published]:
    """Everything in the topic: partition after partition, each in its order."""
    consumer = Consumer(
        {
            "bootstrap.servers": kafka.brokers,
            "group.id": "test",
            "enable.partition.eof": True,
            "enable.auto.commit": False,
        }
    )
    found: dict[int, list[Published]] = {partition: [] for partition in range(PARTITIONS)}
    consumer.assign([TopicPartition(TOPIC, partition, OFFSET_BEGINNING) for partition in found])
    try:
        _read_all(consumer, found)
    finally:
        consumer.close()
    return [message for messages in found.values() for message in messages]


def _read_all(consumer: Consumer, found: dict[int, list[Published]]) -> None:
    ended: set[int] = set()
    deadline = time.monotonic() + 90
    while len(ended) < len(found):
        assert time.monotonic() < deadline, "the topic could not be read"
        message = consumer.poll(0.2)
        if message is None:
            continue
        partition, error = message.partition(), message.error()
        assert partition is not None
        if error is None:
            headers = dict(message.headers() or [])
            found[partition].append(
                Published(
                    headers["event_id"].decode(),
                    (message.key() or b"").decode(),
                    msgspec.json.decode(message.value() or b""),
                )
            )
        elif error.code() == KafkaError._PARTITION_EOF:
            ended.add(partition)
