"""Migrations on the real PostgreSQL."""

from __future__ import annotations

import concurrent.futures

import psycopg
import pytest
from alembic import command
from psycopg.conninfo import make_conninfo

from dreamseed_cli.core.errors import FailedError, MissingError, UsageError
from dreamseed_cli.database.migrate import migrate, schema_state


def test_an_empty_database_gets_the_newest_schema_once(postgres_dsn: str) -> None:
    """The first run makes it, the second finds nothing to do."""
    assert schema_state(postgres_dsn).current is None
    assert migrate(postgres_dsn).current is None
    assert schema_state(postgres_dsn).up_to_date
    assert migrate(postgres_dsn).up_to_date


def test_two_migrations_at_once_make_one_schema(postgres_dsn: str) -> None:
    """The second waits for the first, then finds it done."""
    with concurrent.futures.ThreadPoolExecutor(2) as threads:
        before = sorted(str(state.current) for state in threads.map(migrate, [postgres_dsn] * 2))
    assert before == [schema_state(postgres_dsn).newest, "None"]


def test_a_failed_step_changes_nothing(postgres_dsn: str) -> None:
    """A table in the way: the step's other tables are not left behind."""
    with psycopg.connect(postgres_dsn) as connection:
        connection.execute("CREATE TABLE api_keys (id int)")
    with pytest.raises(FailedError, match="already exists"):
        migrate(postgres_dsn)
    with psycopg.connect(postgres_dsn) as connection:
        assert connection.execute("SELECT to_regclass('users')").fetchone() == (None,)


def test_a_database_of_a_newer_program_is_left_alone(postgres_dsn: str) -> None:
    """Its version is unknown here, so nothing is touched."""
    migrate(postgres_dsn)
    with psycopg.connect(postgres_dsn) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(FailedError, match="9999"):
        migrate(postgres_dsn)


def test_steps_before_a_failed_one_are_kept(postgres_dsn: str) -> None:
    """Each is a transaction of its own: the next run goes on from there."""
    with psycopg.connect(postgres_dsn) as connection:
        connection.execute("CREATE TABLE outbox (id int)")
    with pytest.raises(FailedError, match="outbox"):
        migrate(postgres_dsn)
    assert schema_state(postgres_dsn).current == "0001"
    with psycopg.connect(postgres_dsn) as connection:
        assert connection.execute("SELECT to_regclass('requests')").fetchone() == (None,)
        connection.execute("DROP TABLE outbox")
    assert migrate(postgres_dsn).current == "0001"
    assert schema_state(postgres_dsn).up_to_date


def test_older_requests_get_the_source_that_their_events_tell(
    postgres_dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The fallback's as far as their events are still there; the others are the gateway's. One each."""
    upgrade = command.upgrade
    monkeypatch.setattr(command, "upgrade", lambda config, _: upgrade(config, "0003"))
    migrate(postgres_dsn)
    monkeypatch.undo()
    payloads = {"f": '{"source":"fallback"}', "g": r'{"user_id":"\"source\":\"fallback\""}'}
    with psycopg.connect(postgres_dsn) as connection:
        for event_id, payload in payloads.items():
            connection.execute(
                "INSERT INTO requests VALUES (%s, 'r', 'u', 'finished', NULL, 'batch', 'other', 'm', NULL,"
                " false, NULL, NULL, NULL, now(), 1, NULL, NULL, false)",
                (event_id,),
            )
            connection.execute(
                "INSERT INTO outbox (event_id, key, payload) VALUES (%s, 'u', %s)", (event_id, payload)
            )
    assert migrate(postgres_dsn).current == "0003"
    with psycopg.connect(postgres_dsn) as connection:
        found = connection.execute("SELECT event_id, source, count FROM requests ORDER BY 1").fetchall()
    assert found == [("f", "fallback", 1), ("g", "gateway", 1)]


def test_a_database_that_cannot_hold_every_name_is_refused(postgres_dsn: str) -> None:
    """Whoever asked for a user it cannot hold would count as an outage."""
    with psycopg.connect(postgres_dsn, autocommit=True) as connection:
        connection.execute("CREATE DATABASE latin ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0")
    with pytest.raises(FailedError, match="LATIN1"):
        migrate(make_conninfo(postgres_dsn, dbname="latin"))


def test_what_is_no_connection_string_is_not_repeated() -> None:
    """It may be a password in the wrong place."""
    for act in (migrate, schema_state):
        with pytest.raises(UsageError) as refused:
            act("host=x hunter2")
        assert "hunter2" not in str(refused.value)


def test_no_server_is_named_as_such() -> None:
    """What is missing, and how to get it."""
    with pytest.raises(MissingError, match="does not answer"):
        schema_state("host=/nonexistent dbname=x")
