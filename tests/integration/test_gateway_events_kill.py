"""Whatever is killed at whatever moment, every event arrives, and each counts once."""

from __future__ import annotations

import random
import subprocess
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import event_writer
import psycopg
from event_harness import PARTITIONS, TOPIC, Published, RelayProcess, read_topic, relay, relay_settings
from real_services import MockKafka, RunningPostgres, postgres

from dreamseed_cli.database.migrate import migrate
from dreamseed_cli.gateway.settings import ServiceAddresses

_FAULTS = 24
_SEED = 20251110


class Writer:
    """The process that stands for the gateway, and what it said."""

    def __init__(self, services: ServiceAddresses, folder: Path) -> None:
        self._services = services
        self._said = folder / "writer.out"
        self._log = folder / "writer.log"
        self.kills = 0
        self.process = self.launch(10**6)

    def launch(self, count: int) -> subprocess.Popen[bytes]:
        with self._said.open("ab") as output, self._log.open("ab") as log:
            argv = [sys.executable, event_writer.__file__, self._services.model_dump_json(), str(count)]
            return subprocess.Popen(argv, stdout=output, stderr=log)

    def restart(self) -> None:
        self.kill()
        self.process = self.launch(10**6)

    def kill(self) -> None:
        self.kills += 1
        self.process.kill()
        self.process.wait()

    def said(self, what: str) -> list[tuple[str, str]]:
        """The (event id, user) of `begun` or `ended`, in order."""
        lines = (line.split() for line in self._said.read_text().splitlines())
        return [(event_id, user) for kind, event_id, user in lines if kind == what]

    def goes_on(self, by: int) -> None:
        """Wait until it has acknowledged so many more events."""
        enough = len(self.said("ended")) + by
        _until(lambda: len(self.said("ended")) >= enough, self._log.read_text)


@contextmanager
def _writer(services: ServiceAddresses, folder: Path) -> Iterator[Writer]:
    writer = Writer(services, folder)
    try:
        yield writer
    finally:
        writer.kill()


def test_nothing_is_lost_and_nothing_counts_twice(kafka: MockKafka) -> None:
    """Gateway, relay and PostgreSQL killed with -9, brokers down and leaders moved, all at random: every
    acknowledged event is in Kafka, every begun request has one end, and a user's events keep their order.
    """
    kafka.create_topic(TOPIC, PARTITIONS)
    with tempfile.TemporaryDirectory(prefix="ds-ev-") as name, postgres(Path(name)) as server:
        folder, dsn = Path(name), server.new_database()
        chance = random.Random(_SEED)  # noqa: S311 - no secret
        migrate(dsn)
        services = ServiceAddresses(postgres_dsn=dsn, journal=str(folder / "journal"))
        with relay(folder, relay_settings(dsn, kafka)) as relaying, _writer(services, folder) as writer:
            _torment(chance, writer, relaying, server, kafka)
            writer.kill()
            assert writer.launch(0).wait(60) == 0
            _until(lambda: _all_published(dsn), relaying.log.read_text)
        _check(writer, read_topic(kafka), _outcomes(dsn))


def _torment(
    chance: random.Random, writer: Writer, relaying: RelayProcess, server: RunningPostgres, kafka: MockKafka
) -> None:
    def kill_postgres() -> None:
        server.kill()
        writer.goes_on(chance.randrange(100))
        server.start()

    def broker_down() -> None:
        broker = chance.choice([1, 2, 3])
        kafka.set_down(broker)
        writer.goes_on(chance.randrange(200))
        kafka.set_up(broker)

    def move_leader() -> None:
        kafka.move_leader(TOPIC, chance.randrange(PARTITIONS), chance.choice([1, 2, 3]))

    faults: list[Callable[[], None]] = [
        writer.restart,
        relaying.restart,
        kill_postgres,
        broker_down,
        move_leader,
    ]
    round_of_all = [fault for fault in faults for _ in range(_FAULTS // len(faults) + 1)]
    chance.shuffle(round_of_all)
    for fault in round_of_all:
        writer.goes_on(chance.randrange(1, 250))
        fault()


def _check(writer: Writer, published: list[Published], stored: dict[str, str]) -> None:
    first: dict[str, Published] = {}
    for message in published:
        assert message.payload["event_id"] == message.event_id
        assert message.payload["schema_version"] == 1
        assert message.key == message.payload["user_id"]
        # At least once; what comes again is the same.
        assert first.setdefault(message.event_id, message).payload == message.payload
    begun, ended = writer.said("begun"), writer.said("ended")
    assert len(begun) > 1000
    assert len({event_id for event_id, _ in begun}) == len(begun)
    assert {event_id for event_id, _ in begun} <= set(first)
    # A writer that is killed between a call and its word about it: one request each time at most.
    assert len(set(first) - {event_id for event_id, _ in begun}) <= writer.kills
    assert stored == {event_id: message.payload["outcome"] for event_id, message in first.items()}
    reasons = Counter(first[event_id].payload["reason"] for event_id, _ in ended)
    assert reasons == {None: len(ended)}
    lost = [message for message in first.values() if message.payload["reason"] == "gateway_lost"]
    assert 0 < len(lost) <= 8 * writer.kills
    assert {message.payload["outcome"] for message in lost} == {"failed"}
    _check_order(ended, list(first))


def _check_order(ended: list[tuple[str, str]], arrived: list[str]) -> None:
    place = {event_id: number for number, event_id in enumerate(arrived)}
    of_user = defaultdict(list)
    for event_id, user in ended:
        of_user[user].append(place[event_id])
    assert all(places == sorted(places) for places in of_user.values())


def _all_published(dsn: str) -> bool:
    with psycopg.connect(dsn) as connection:
        row = connection.execute("SELECT count(*) FROM outbox WHERE published_at IS NULL").fetchone()
    return row == (0,)


def _outcomes(dsn: str) -> dict[str, str]:
    with psycopg.connect(dsn) as connection:
        return dict(connection.execute("SELECT event_id, outcome FROM requests").fetchall())


def _until(condition: Callable[[], bool], explain: Callable[[], str]) -> None:
    deadline = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < deadline, explain()
        time.sleep(0.02)
