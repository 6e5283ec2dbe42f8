"""From the outbox to real brokers' protocol: at least once, in order, over everybody's failures."""

from __future__ import annotations

import json
import signal
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest
from event_harness import (
    PARTITIONS,
    TOPIC,
    RelayProcess,
    read_topic,
    record,
    relay,
    relay_settings,
)
from real_services import MockKafka, postgres

from dreamseed_cli.database.migrate import migrate
from dreamseed_cli.gateway.events.lines import ended_line
from dreamseed_cli.gateway.events.store import RequestStore


@pytest.fixture
def dsn(postgres_dsn: str) -> str:
    """A database with the schema."""
    migrate(postgres_dsn)
    return postgres_dsn


@pytest.fixture
def folder() -> Iterator[Path]:
    """Where a relay's files are."""
    with tempfile.TemporaryDirectory(prefix="ds-re-") as name:
        yield Path(name)


@pytest.fixture
def topic(kafka: MockKafka) -> MockKafka:
    """Three brokers with the topic."""
    kafka.create_topic(TOPIC, PARTITIONS)
    return kafka


async def put(dsn: str, *names: str, users: int = 4) -> None:
    """Events into the outbox, for some users in turn."""
    store = RequestStore(dsn, keep_events=True)
    for start in range(0, len(names), 500):
        batch = [
            ended_line(record(name, user_id=f"user-{number % users}"))[10:-1]
            for number, name in enumerate(names[start : start + 500])
        ]
        await store.insert(batch)
    await store.close()


def waiting(dsn: str) -> int:
    """How many events are not published."""
    with psycopg.connect(dsn) as connection:
        row = connection.execute("SELECT count(*) FROM outbox WHERE published_at IS NULL").fetchone()
    assert row is not None
    return int(row[0])


def until(condition: Callable[[], bool], *relays: RelayProcess) -> None:
    """Wait for it, at most half a minute."""
    deadline = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < deadline, "\n".join(each.log.read_text() for each in relays)
        time.sleep(0.02)


async def test_events_arrive_once_in_each_users_order(dsn: str, topic: MockKafka, folder: Path) -> None:
    """Key, header and payload; nothing twice while nothing fails; the relay says nothing but its start."""
    names = [f"e{number:05d}" for number in range(3000)]
    await put(dsn, *names)
    with relay(folder, relay_settings(dsn, topic)) as running:
        until(lambda: waiting(dsn) == 0, running)
        said = running.log.read_text()
    published = read_topic(topic)
    assert sorted(message.event_id for message in published) == names
    orders = defaultdict(list)
    for message in published:
        assert message.payload["event_id"] == message.event_id
        orders[message.key].append(message.event_id)
    assert len(orders) == 4
    assert all(order == sorted(order) for order in orders.values())
    assert [json.loads(line)["event"] for line in said.splitlines()] == ["relay runs"]


async def test_brokers_that_are_away_are_waited_for(dsn: str, topic: MockKafka, folder: Path) -> None:
    """All three down: nothing is marked; up again: everything goes out, without a restart."""
    with relay(folder, relay_settings(dsn, topic)) as running:
        await put(dsn, "e1")
        until(lambda: waiting(dsn) == 0, running)
        for broker in (1, 2, 3):
            topic.set_down(broker)
        await put(dsn, "e2", "e3")
        until(lambda: "brokers" in _events(running), running)
        assert waiting(dsn) == 2
        for broker in (1, 2, 3):
            topic.set_up(broker)
        until(lambda: waiting(dsn) == 0, running)
    assert {message.event_id for message in read_topic(topic)} == {"e1", "e2", "e3"}


async def test_only_one_relay_publishes_and_the_next_takes_over(
    dsn: str, topic: MockKafka, folder: Path
) -> None:
    """The second waits until the first is killed."""
    (folder / "second").mkdir()
    with relay(folder, relay_settings(dsn, topic)) as first:
        await put(dsn, "e1")
        until(lambda: waiting(dsn) == 0, first)
        with relay(folder / "second", relay_settings(dsn, topic)) as second:
            until(lambda: "another relay leads: this one waits" in _events(second), second)
            await put(dsn, "e2")
            until(lambda: waiting(dsn) == 0, first)
            assert "relay leads" not in _events(second)
            first.kill()
            await put(dsn, "e3")
            until(lambda: waiting(dsn) == 0, second)
            assert "relay leads" in _events(second)


async def test_it_goes_on_after_postgresql(topic: MockKafka, folder: Path) -> None:
    """Not there at the start, without its schema, killed and restarted: the relay outlives it all."""
    with postgres(folder) as server:
        dsn = server.new_database()
        server.kill()
        with relay(folder, relay_settings(dsn, topic)) as running:
            until(lambda: "waits" in _events(running), running)
            server.start()
            until(lambda: "dreamseed db migrate" in running.log.read_text(), running)
            migrate(dsn)
            await put(dsn, "e1")
            until(lambda: waiting(dsn) == 0, running)
            server.kill()
            server.start()
            await put(dsn, "e2")
            until(lambda: waiting(dsn) == 0, running)
            assert running.process.poll() is None
    assert {message.event_id for message in read_topic(topic)} == {"e1", "e2"}


@pytest.mark.parametrize("brokers_up", [True, False])
async def test_sigterm_ends_it_in_order(dsn: str, topic: MockKafka, folder: Path, brokers_up: bool) -> None:
    """Exit code 0, also while the brokers are away; what they do not have stays unmarked."""
    with relay(folder, relay_settings(dsn, topic)) as running:
        await put(dsn, "e1")
        until(lambda: waiting(dsn) == 0, running)
        if not brokers_up:
            for broker in (1, 2, 3):
                topic.set_down(broker)
            await put(dsn, "e2")
            until(lambda: "brokers" in _events(running), running)
        running.process.send_signal(signal.SIGTERM)
        assert running.process.wait(60) == 0
    assert waiting(dsn) == (0 if brokers_up else 1)


async def test_it_deletes_what_was_published_a_week_ago(dsn: str, topic: MockKafka, folder: Path) -> None:
    """Never what still waits, however old it is."""
    await put(dsn, "new")
    with relay(folder, relay_settings(dsn, topic)) as running:
        until(lambda: waiting(dsn) == 0, running)
    await put(dsn, "old", "waits")
    with psycopg.connect(dsn) as connection:
        connection.execute("UPDATE outbox SET created_at = now() - interval '9 days' WHERE event_id <> 'new'")
        connection.execute(
            "UPDATE outbox SET published_at = now() - interval '8 days' WHERE event_id = 'old'"
        )
    with relay(folder, relay_settings(dsn, topic)) as running:
        until(lambda: _left(dsn) == {"new", "waits"}, running)


def _left(dsn: str) -> set[str]:
    with psycopg.connect(dsn) as connection:
        return {row[0] for row in connection.execute("SELECT event_id FROM outbox").fetchall()}


def _events(running: RelayProcess) -> list[str]:
    return [json.loads(line)["event"] for line in running.log.read_text().splitlines()]
