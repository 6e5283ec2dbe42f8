"""From the journal into the real PostgreSQL: everything once, whatever PostgreSQL does meanwhile."""

from __future__ import annotations

import asyncio
import json
import os
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import psycopg
import pytest
from event_harness import record
from gateway_harness import until
from psycopg import sql
from psycopg.rows import dict_row
from real_services import RunningPostgres, postgres

from dreamseed_cli.core.errors import MissingError
from dreamseed_cli.database.migrate import migrate
from dreamseed_cli.gateway.events.connection import connect, time_box
from dreamseed_cli.gateway.events.files import read_checkpoint, segment_sizes
from dreamseed_cli.gateway.events.log import EventLog
from dreamseed_cli.gateway.events.record import Outcome
from dreamseed_cli.gateway.metrics import GatewayMetrics
from dreamseed_cli.gateway.settings import ServiceAddresses


@pytest.fixture
def dsn(postgres_dsn: str) -> str:
    """A database with the schema."""
    migrate(postgres_dsn)
    return postgres_dsn


@pytest.fixture
def own_postgres() -> Iterator[RunningPostgres]:
    """A server that the test may break."""
    with tempfile.TemporaryDirectory(prefix="ds-pg-") as folder, postgres(Path(folder)) as server:
        yield server


def addresses(dsn: str | None, folder: Path, **fields: Any) -> ServiceAddresses:
    """PostgreSQL, and a journal below `folder`."""
    return ServiceAddresses(postgres_dsn=dsn, journal=str(folder / "journal"), **fields)


class Opened(EventLog):
    """An event log with its metrics at hand."""

    def __init__(self, services: ServiceAddresses, **bounds: int) -> None:
        self.metrics = GatewayMetrics()
        super().__init__(services, self.metrics, simulated=False, **bounds)

    def start(self, number: int = 0, user_id: str = "user-1") -> str:
        """Begin a request."""
        return self.begin(
            request_id=f"req-{number}",
            user_id=user_id,
            priority="premium",
            workload="feedback",
            model="m",
            arrived_at=1_762_732_800.25,
        )

    def complete(self, count: int, **fields: Any) -> list[str]:
        """Begin and end so many requests; their event ids."""
        made = [self.start(number) for number in range(count)]
        for event_id in made:
            self.end(record(event_id, **fields))
        return made

    def kafka_state(self) -> float | None:
        """Whether the relay gets on."""
        return self.metrics.registry.get_sample_value("dreamseed_dependency_state", {"dependency": "kafka"})

    def figure(self, name: str) -> float:
        """A metric's value."""
        found = self.metrics.registry.get_sample_value(name)
        assert found is not None
        return found


@asynccontextmanager
async def opened(services: ServiceAddresses, **bounds: int) -> AsyncIterator[Opened]:
    """An open event log; closed with a short wait at the end."""
    log = Opened(services, **bounds)
    await log.open()
    try:
        yield log
    finally:
        await log.close(1.0)


def rows(dsn: str, table: str) -> list[dict[str, Any]]:
    """A table's rows, in the order of their events."""
    order = "sequence" if table == "outbox" else "event_id"
    with psycopg.connect(dsn, row_factory=dict_row) as connection:
        query = sql.SQL("SELECT * FROM {} ORDER BY {}").format(sql.Identifier(table), sql.Identifier(order))
        return connection.execute(query).fetchall()


def ids(dsn: str, table: str = "outbox") -> list[str]:
    """Its event ids, in that order."""
    return [row["event_id"] for row in rows(dsn, table)]


async def arrive(dsn: str, expected: list[str], table: str = "outbox") -> None:
    """Wait until the table holds these events in this order, and no others."""

    async def are_there() -> bool:
        return await asyncio.to_thread(ids, dsn, table) == expected

    await until(are_there)


async def test_a_request_becomes_a_row_and_an_event(dsn: str, tmp_path: Path) -> None:
    """Every field arrives; the event's JSON has all of them, with the schema's version."""
    async with opened(addresses(dsn, tmp_path)) as log:
        event_id = log.start()
        given = record(
            event_id,
            user_id="학생-1",
            outcome=Outcome.FAILED,
            reason="engine",
            replica="r0",
            queue_s=0.25,
            ttft_s=0.125,
            finish_reason="length",
            simulated=True,
        )
        log.end(given)
        await arrive(dsn, [event_id])
    (request,), (event,) = rows(dsn, "requests"), rows(dsn, "outbox")
    payload = json.loads(event["payload"])
    assert request.pop("arrived_at").timestamp() == payload.pop("arrived_at") == 1_762_732_800.25
    assert payload.pop("schema_version") == 1
    assert request == payload
    assert (request["source"], request["count"]) == ("gateway", 1)
    assert request["user_id"] == event["key"] == "학생-1"
    assert (request["outcome"], request["reason"], request["cache_hit"]) == ("failed", "engine", False)
    assert event["published_at"] is None


async def test_a_rejected_request_is_recorded_without_having_begun(dsn: str, tmp_path: Path) -> None:
    """Only its end is written."""
    async with opened(addresses(dsn, tmp_path)) as log:
        event_id = log.new_id()
        log.end(record(event_id, outcome=Outcome.REJECTED, reason="queue_full"))
        await arrive(dsn, [event_id])
    assert [row["reason"] for row in rows(dsn, "requests")] == ["queue_full"]


async def test_a_flood_of_refusals_is_recorded_as_few(dsn: str, tmp_path: Path) -> None:
    """Their numbers add up, also where the gateway ends in the middle of it."""
    async with opened(addresses(dsn, tmp_path)) as log:
        for _ in range(500):
            log.refuse(record(log.new_id(), outcome=Outcome.REJECTED, reason="unauthenticated"))
    counts = [row["count"] for row in rows(dsn, "requests")]
    assert sum(counts) == 500
    assert len(counts) < 100
    assert counts == [json.loads(row["payload"])["count"] for row in rows(dsn, "outbox")]


async def test_a_journal_of_before_there_were_sources_is_recorded(dsn: str, tmp_path: Path) -> None:
    """Its requests were one each, and the gateway's."""
    async with opened(addresses(dsn, tmp_path)) as log:
        event_id = log.new_id()
        older = msgspec.to_builtins(record(event_id))
        del older["source"], older["count"]
        assert log._store is not None
        await log._store.insert([msgspec.json.encode(older)])
    (request,) = rows(dsn, "requests")
    assert (request["event_id"], request["source"], request["count"]) == (event_id, "gateway", 1)


async def test_events_can_be_off_while_requests_are_recorded(dsn: str, tmp_path: Path) -> None:
    """keep_events=False: the outbox stays empty."""
    async with opened(addresses(dsn, tmp_path, keep_events=False)) as log:
        made = log.complete(3)
        await arrive(dsn, made, "requests")
    assert ids(dsn) == []


async def test_without_postgresql_nothing_is_written(tmp_path: Path) -> None:
    """There would be no place for it to go."""
    async with opened(addresses(None, tmp_path)) as log:
        log.complete(3)
    assert not await asyncio.to_thread((tmp_path / "journal").exists)


async def test_a_variable_that_is_not_set_is_told(tmp_path: Path) -> None:
    """The gateway does not start without the connection string it was promised."""
    log = Opened(addresses(None, tmp_path, postgres_dsn_env="DREAMSEED_TEST_UNSET"))
    with pytest.raises(MissingError, match="DREAMSEED_TEST_UNSET"):
        await log.open()
    await log.close()


async def test_a_stopped_postgresql_holds_nobody_up(own_postgres: RunningPostgres, tmp_path: Path) -> None:
    """SIGSTOP in mid-work: requests begin and end meanwhile, the gateway even closes, and nothing is lost."""
    dsn = own_postgres.new_database()
    migrate(dsn)
    services = addresses(dsn, tmp_path)
    async with opened(services) as log:
        made = log.complete(10)
        await arrive(dsn, made)
        own_postgres.pause()
        made += log.complete(5000)
        await until(lambda: log.figure("dreamseed_journal_bytes") > 0)
    # Closed with PostgreSQL still stopped: the rest stays in the journal.
    own_postgres.resume()
    async with opened(services) as log:
        await arrive(dsn, made)
    assert ids(dsn, "requests") == sorted(made)


async def test_a_statement_that_hangs_is_cut(own_postgres: RunningPostgres) -> None:
    """The server is stopped and answers nothing, not even a cancellation: the statement fails on our side."""
    connection = await connect(own_postgres.new_database())
    own_postgres.pause()
    with pytest.raises(psycopg.OperationalError), time_box(connection, 0.1):
        await connection.execute("SELECT 1")
    await connection.close()


async def test_a_lock_that_somebody_holds_is_waited_for(dsn: str, tmp_path: Path) -> None:
    """Maintenance on the table: what was written meanwhile is stored after it."""
    async with opened(addresses(dsn, tmp_path)) as log:
        with psycopg.connect(dsn) as blocker:
            blocker.execute("LOCK TABLE requests IN ACCESS EXCLUSIVE MODE")
            made = log.complete(5)
            await until(lambda: log.figure("dreamseed_journal_bytes") > 0)
        await arrive(dsn, made)


async def test_postgresql_comes_later_and_goes_in_between(
    own_postgres: RunningPostgres, tmp_path: Path
) -> None:
    """Away at the start, then there, killed with -9, and there again."""
    dsn = own_postgres.new_database()
    migrate(dsn)
    own_postgres.kill()
    async with opened(addresses(dsn, tmp_path)) as log:
        made = log.complete(100)
        own_postgres.start()
        await arrive(dsn, made)
        own_postgres.kill()
        made += log.complete(100)
        own_postgres.start()
        await arrive(dsn, made)


async def test_a_missing_schema_is_waited_for(
    postgres_dsn: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The log says once how to get it; after the migration everything arrives."""
    async with opened(addresses(postgres_dsn, tmp_path)) as log:
        made = log.complete(3)
        said = ""

        def told() -> bool:
            nonlocal said
            said += capsys.readouterr().out
            return "dreamseed db migrate" in said

        await until(told)
        await asyncio.to_thread(migrate, postgres_dsn)
        await arrive(postgres_dsn, made)
    assert (said + capsys.readouterr().out).count("dreamseed db migrate") == 1


async def test_records_that_postgresql_cannot_take_block_no_other(dsn: str, tmp_path: Path) -> None:
    """NUL is replaced; an id too long for an index and a count too large are set aside, and counted."""
    # Random, since an index entry is compressed before it is measured.
    long_id = os.urandom(10_000).hex()
    async with opened(addresses(dsn, tmp_path)) as log:
        before = log.complete(3)
        with_nul = log.start(user_id="a\0b\\u0000")
        log.end(record(with_nul, user_id="a\0b\\u0000", request_id="\\\0"))
        too_long = log.start(user_id=long_id)
        log.end(record(too_long, user_id=long_id))
        too_many = log.start()
        log.end(record(too_many, prompt_tokens=2**40))
        after = log.complete(3)
        await arrive(dsn, [*before, with_nul, *after])
        assert log.figure("dreamseed_events_refused_total") == 2
        assert log.figure("dreamseed_events_lost_total") == 0
        await until(lambda: log.figure("dreamseed_journal_bytes") == 0)
    (row,) = [row for row in rows(dsn, "requests") if row["event_id"] == with_nul]
    assert (row["user_id"], row["request_id"]) == ("a\ufffdb\\u0000", "\\\ufffd")
    aside = [json.loads(line) for line in (tmp_path / "journal" / "refused.jsonl").read_text().splitlines()]
    assert [each["record"]["event_id"] for each in aside] == [too_long, too_many]
    assert "index row" in aside[0]["cause"]


async def test_what_a_dead_gateway_left_open_has_failed(dsn: str, tmp_path: Path) -> None:
    """Its requests become `gateway_lost`, once, also when the next gateway dies over it again."""
    services = addresses(dsn, tmp_path)
    async with opened(services) as log:
        ended = log.complete(1)
        left = log.start(7)
    told = [*ended, left]
    for _ in range(2):
        async with opened(services) as log:
            await arrive(dsn, told)
            told += log.complete(1)
            await arrive(dsn, told)
    (row,) = [row for row in rows(dsn, "requests") if row["event_id"] == left]
    assert (row["outcome"], row["reason"], row["request_id"]) == ("failed", "gateway_lost", "req-7")


async def test_storing_again_brings_no_second_event(dsn: str, tmp_path: Path) -> None:
    """A lost checkpoint makes the journal go in again; even an event that was pruned stays gone."""
    services = addresses(dsn, tmp_path)
    async with opened(services) as log:
        made = log.complete(4)
        await arrive(dsn, made)
    (tmp_path / "journal" / "checkpoint").unlink()
    with psycopg.connect(dsn) as connection:
        connection.execute("DELETE FROM outbox WHERE event_id = %s", (made[0],))
    async with opened(services) as log:
        made += log.complete(1)
        await arrive(dsn, made[1:])
    assert ids(dsn, "requests") == made


async def test_an_end_that_is_told_twice_counts_once(dsn: str, tmp_path: Path) -> None:
    """The first one stands."""
    async with opened(addresses(dsn, tmp_path)) as log:
        event_id = log.start()
        log.end(record(event_id))
        log.end(record(event_id, outcome=Outcome.CANCELLED))
        last = log.complete(1)
        await arrive(dsn, [event_id, *last])
    assert [row["outcome"] for row in rows(dsn, "requests")] == ["finished", "finished"]


async def test_the_disk_gets_its_room_back(dsn: str, tmp_path: Path) -> None:
    """Drained segments are deleted, and what waits is told in bytes."""
    async with opened(addresses(dsn, tmp_path), segment_bytes=20_000) as log:
        made = log.complete(500)
        await arrive(dsn, made)
        await until(lambda: log.figure("dreamseed_journal_bytes") == 0)
    folder = tmp_path / "journal"
    assert len(segment_sizes(folder)) == 1
    assert read_checkpoint(folder).segment == min(segment_sizes(folder)) > 5


async def test_a_journal_has_one_gateway_at_a_time(dsn: str, tmp_path: Path) -> None:
    """The next one waits for the one that is just ending."""
    services = addresses(dsn, tmp_path)
    first, second = Opened(services), Opened(services)
    await first.open()
    opening = asyncio.create_task(second.open())
    made = first.complete(1)
    await arrive(dsn, made)
    assert not opening.done()
    await first.close()
    await opening
    made += second.complete(1)
    await arrive(dsn, made)
    await second.close()


@pytest.mark.parametrize("relayed", [False, True])
async def test_the_outbox_is_pruned_where_no_relay_does_it(dsn: str, tmp_path: Path, relayed: bool) -> None:
    """Without a relay events stay for a week; with one, only the relay deletes what it published."""
    services = addresses(dsn, tmp_path, events_relayed=relayed)
    async with opened(services) as log:
        old = log.complete(3)
        await arrive(dsn, old)
    with psycopg.connect(dsn) as connection:
        connection.execute("UPDATE outbox SET created_at = now() - interval '8 days'")
    async with opened(services) as log:
        new = log.complete(1)
        await arrive(dsn, (old + new if relayed else new))


async def test_old_requests_are_pruned_once_their_events_have_left(dsn: str, tmp_path: Path) -> None:
    """By the profile's days; neither a young one nor one whose event still waits for Kafka."""
    async with opened(addresses(dsn, tmp_path)) as log:
        young, old, waiting = log.complete(3)
        await arrive(dsn, [young, old, waiting])
    with psycopg.connect(dsn) as connection:
        connection.execute("UPDATE requests SET arrived_at = now() WHERE event_id = %s", (young,))
        connection.execute(
            "UPDATE requests SET arrived_at = now() - interval '31 days' WHERE event_id <> %s", (young,)
        )
        connection.execute("UPDATE outbox SET published_at = now() WHERE event_id <> %s", (waiting,))
    async with opened(addresses(dsn, tmp_path, keep_requests_days=30)) as log:
        await until(lambda: log.figure("dreamseed_requests_pruned_total") > 0)
        assert ids(dsn, "requests") == [young, waiting]


async def test_what_waits_for_kafka_is_told(dsn: str, tmp_path: Path) -> None:
    """How much, for how long, and that nobody takes it away."""
    async with opened(addresses(dsn, tmp_path)) as log:
        await arrive(dsn, log.complete(3))
    with psycopg.connect(dsn) as connection:
        connection.execute("UPDATE outbox SET created_at = now() - interval '1 hour'")
    async with opened(addresses(dsn, tmp_path)) as log:
        await until(lambda: log.figure("dreamseed_outbox_waiting_events") == 3)
        assert 3600 <= log.figure("dreamseed_outbox_oldest_waiting_seconds") < 3700
        assert log.kafka_state() == 2
        with psycopg.connect(dsn) as connection:
            connection.execute(
                "UPDATE outbox SET published_at = now() WHERE sequence <> (SELECT max(sequence) FROM outbox)"
            )
        assert log._backlog is not None
        await log._backlog.look()
        assert (log.figure("dreamseed_outbox_waiting_events"), log.kafka_state()) == (1, 0)
