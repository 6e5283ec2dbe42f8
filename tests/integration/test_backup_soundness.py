"""amcheck on Debian's PostgreSQL 15, which has it, and on the embedded one, which has not."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from backup_servers import postgres_of
from real_services import RunningPostgres

from dreamseed_cli.backup.physical.soundness import Sound, Unsound, amcheck
from dreamseed_cli.drill import checks

_READY = "UPDATE pg_index SET indisready = %s WHERE indexrelid = 'lame'::regclass"
_INSTALLED = "SELECT FROM pg_extension WHERE extname = 'amcheck'"


@pytest.fixture(scope="module")
def packaged() -> Iterator[RunningPostgres]:
    """PostgreSQL 15."""
    with tempfile.TemporaryDirectory(prefix="ds-am-") as name, postgres_of(15, Path(name)) as server:
        yield server


def test_a_sound_server_is_said_to_be_and_left_as_it_was(packaged: RunningPostgres) -> None:
    """The extension is taken back."""
    dsn = packaged.new_database()
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("CREATE TABLE t AS SELECT n FROM generate_series(1, 999) n")
        connection.execute("CREATE INDEX t_n ON t (n)")
        found = amcheck(dsn)
        assert isinstance(found, Sound)
        assert (found.tables > 60, found.indexes > 100, found.databases > 1) == (True, True, True)
        assert connection.execute(_INSTALLED).fetchall() == []
    assert checks.amcheck(dsn).passed is True


def test_a_row_that_an_index_lacks_is_found(packaged: RunningPostgres) -> None:
    """The table's own pages are whole: only heapallindexed sees it."""
    dsn = packaged.new_database()
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("CREATE TABLE t (n int)")
        connection.execute("CREATE INDEX lame ON t (n)")
        for ready in (False, True):
            connection.execute(_READY, (ready,))
            connection.execute("INSERT INTO t VALUES (1)")
    with pytest.raises(Unsound, match="lame"):
        amcheck(dsn)
    assert checks.amcheck(dsn).passed is False
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("DROP TABLE t")


def test_without_amcheck_that_is_said() -> None:
    """Checksums stand for it."""
    with tempfile.TemporaryDirectory(prefix="ds-am-") as name, postgres_of(18, Path(name)) as server:
        dsn = server.server.dsn("postgres")
        assert amcheck(dsn) is None
        check = checks.amcheck(dsn)
    assert check.passed is None
    assert "checksums stand for it" in check.detail
