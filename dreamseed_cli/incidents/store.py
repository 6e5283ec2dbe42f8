"""The file of incidents: SQLite with a write-ahead log, so that a command reads while it is written."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path

import msgspec

from dreamseed_cli.incidents.record import Action, Incident

SCHEMA_VERSION = 1
MOST_ACTIONS = 100
"""Actions of one incident that are kept, the latest: a crash loop goes on for days."""
_BUSY_TIMEOUT_S = 5.0
_MOST_SET_ASIDE = 3

_SCHEMA = (
    """CREATE TABLE incidents (
        sequence INTEGER PRIMARY KEY AUTOINCREMENT,
        id TEXT NOT NULL UNIQUE,
        kind TEXT NOT NULL,
        subject TEXT NOT NULL,
        began_at REAL NOT NULL,
        ended_at REAL,
        cause TEXT NOT NULL,
        detail TEXT NOT NULL,
        outcome TEXT NOT NULL,
        detect_s REAL,
        requests TEXT NOT NULL,
        simulated INTEGER NOT NULL
    ) STRICT""",
    """CREATE TABLE actions (
        sequence INTEGER PRIMARY KEY,
        incident TEXT NOT NULL REFERENCES incidents (id) ON DELETE CASCADE,
        at REAL NOT NULL,
        text TEXT NOT NULL
    ) STRICT""",
    "CREATE INDEX actions_of ON actions (incident)",
    f"PRAGMA user_version = {SCHEMA_VERSION}",
)
_SELECT = """SELECT id, kind, subject, began_at, cause, ended_at, detail,
    (SELECT json_group_array(json_array(at, text))
     FROM (SELECT at, text FROM actions WHERE incident = incidents.id ORDER BY sequence)) AS actions,
    outcome, detect_s, requests, simulated
    FROM incidents"""
_SELECT_LAST = f"""{_SELECT}
    WHERE (:subject IS NULL OR subject = :subject) AND (:kind IS NULL OR kind = :kind)
    ORDER BY sequence DESC LIMIT :count"""
_SELECT_ONE = f"{_SELECT} WHERE id = :id"
_INSERT = """INSERT OR REPLACE INTO incidents
    (id, kind, subject, began_at, cause, detail, outcome, detect_s, requests, simulated)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"""
_TRIM_ACTIONS = """DELETE FROM actions WHERE incident = :id AND sequence NOT IN
    (SELECT sequence FROM actions WHERE incident = :id ORDER BY sequence DESC LIMIT :most)"""
# The open ones go last, but they go too: nothing may grow without a bound.
_TRIM = """DELETE FROM incidents WHERE sequence IN
    (SELECT sequence FROM incidents ORDER BY outcome = 'open', sequence
     LIMIT max(0, (SELECT count(*) FROM incidents) - ?))"""
_LAST_ENTRY_AT = """SELECT max(
    coalesce((SELECT max(began_at) FROM incidents), 0),
    coalesce((SELECT max(ended_at) FROM incidents), 0),
    coalesce((SELECT max(at) FROM actions), 0))"""
_ABANDON = (
    """UPDATE incidents SET outcome = 'abandoned', ended_at = max(began_at, ?) WHERE outcome = 'open'"""
)


class ForeignFile(sqlite3.DatabaseError):
    """It is damaged, or of another version of this program: not ours to go on with."""


class Store:
    """The open file, for one thread to write; every method is one transaction.

    They raise sqlite3.Error or OSError; opening also ForeignFile.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        path.touch(mode=0o600)
        self._connection = sqlite3.connect(path, timeout=_BUSY_TIMEOUT_S, isolation_level=None)
        try:
            self._prepare()
            self._inode = path.stat().st_ino
        except BaseException:
            self._connection.close()
            raise

    def in_place(self) -> bool:
        """Whether the file still has its name: someone may have deleted it under us."""
        try:
            return self._path.stat().st_ino == self._inode
        except OSError:
            return False

    def insert(self, incident: Incident, *, keep: int) -> None:
        """Write a new one, then let the oldest go if there are more than `keep`."""
        values = (
            *(incident.id, incident.kind, incident.subject, incident.began_at, incident.cause),
            *(incident.detail, incident.outcome, incident.detect_s, _json(incident.requests)),
            int(incident.simulated),
        )
        with self._transaction():
            self._connection.execute(_INSERT, values)
            self._connection.execute(_TRIM, (keep,))

    def act(self, incident: str, action: Action) -> None:
        """Add an action to one that is there."""
        with self._transaction():
            self._connection.execute(
                "INSERT INTO actions (incident, at, text) SELECT id, ?, ? FROM incidents WHERE id = ?",
                (action.at, action.text, incident),
            )
            self._connection.execute(_TRIM_ACTIONS, {"id": incident, "most": MOST_ACTIONS})

    def end(self, incident: str, outcome: str, requests: Mapping[str, int], at: float) -> None:
        """Say how one ended."""
        with self._transaction():
            self._connection.execute(
                "UPDATE incidents SET outcome = ?, requests = ?, ended_at = ? WHERE id = ?",
                (outcome, _json(requests), at, incident),
            )

    def abandon_open(self, at: float | None = None) -> None:
        """Close those that are open as `abandoned`, at a given time or at that of the last entry."""
        with self._transaction():
            (last_at,) = self._connection.execute(_LAST_ENTRY_AT).fetchone()
            self._connection.execute(_ABANDON, (last_at if at is None else at,))

    def close(self) -> None:
        self._connection.close()

    def _prepare(self) -> None:
        self._connection.execute("PRAGMA journal_mode = WAL")
        self._connection.execute("PRAGMA foreign_keys = ON")
        (verdict,) = self._connection.execute("PRAGMA quick_check(1)").fetchone()
        if verdict != "ok":
            raise ForeignFile(f"it is damaged: {verdict}")
        with self._transaction():
            version = schema_version(self._connection)
            if version == 0:
                for statement in _SCHEMA:
                    self._connection.execute(statement)
            elif version != SCHEMA_VERSION:
                raise ForeignFile(f"its schema is of version {version}, not {SCHEMA_VERSION}")

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._connection.execute("COMMIT")
        except BaseException:
            if self._connection.in_transaction:  # a full disk ends it by itself
                self._connection.execute("ROLLBACK")
            raise


@contextmanager
def reading(path: Path) -> Iterator[sqlite3.Connection]:
    """The file to read, also while it is written. Raises sqlite3.Error."""
    uri = f"{path.absolute().as_uri()}?mode=ro"
    with closing(sqlite3.connect(uri, uri=True, timeout=_BUSY_TIMEOUT_S)) as connection:
        connection.row_factory = sqlite3.Row
        yield connection


def schema_version(connection: sqlite3.Connection) -> int:
    """0 for a file nobody has written to."""
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    return int(version)


def select_last(
    connection: sqlite3.Connection, count: int, *, subject: str | None = None, kind: str | None = None
) -> list[Incident]:
    """The last `count` of those asked for, oldest first."""
    rows = connection.execute(_SELECT_LAST, {"subject": subject, "kind": kind, "count": count}).fetchall()
    return [_incident(row) for row in reversed(rows)]


def select_one(connection: sqlite3.Connection, incident: str) -> Incident | None:
    """One by its id."""
    row = connection.execute(_SELECT_ONE, {"id": incident}).fetchone()
    return None if row is None else _incident(row)


def is_foreign(error: Exception) -> bool:
    """Whether the file itself is to blame: damaged, no database, or without our tables."""
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_OK) & 0xFF
    return isinstance(error, ForeignFile) or code in {
        sqlite3.SQLITE_CORRUPT,
        sqlite3.SQLITE_NOTADB,
        sqlite3.SQLITE_ERROR,
    }


def set_aside(path: Path) -> Path:
    """Give the file and its log another name, for a new one to begin; the new name. Raises OSError.

    A failing disk must not fill up with them: the first ones stay, the last name is taken again and again.
    """
    names = [path.with_name(f"{path.name}.damaged-{number}") for number in range(1, _MOST_SET_ASIDE + 1)]
    chosen = next((name for name in names if not name.exists()), names[-1])
    for suffix in ("-wal", "-shm", ""):
        file = path.with_name(path.name + suffix)
        if file.exists():
            file.replace(chosen.with_name(chosen.name + suffix))
    return chosen


def _incident(row: sqlite3.Row) -> Incident:
    values = {
        **dict(row),
        "actions": msgspec.json.decode(row["actions"]),
        "requests": msgspec.json.decode(row["requests"]),
        "simulated": bool(row["simulated"]),
    }
    return msgspec.convert(values, Incident)


def _json(requests: Mapping[str, int]) -> str:
    return msgspec.json.encode(dict(requests)).decode()
