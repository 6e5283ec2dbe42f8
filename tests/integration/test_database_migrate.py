"""Migrations on the real PostgreSQL."""

from __future__ import annotations

import concurrent.futures

import psycopg
import pytest

from dreamseed_cli.core.errors import FailedError, MissingError
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


def test_no_server_is_named_as_such() -> None:
    """What is missing, and how to get it."""
    with pytest.raises(MissingError, match="does not answer"):
        schema_state("host=/nonexistent dbname=x")
