"""The book of incidents: what it keeps, whatever becomes of its file."""

from __future__ import annotations

import contextlib
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog

from dreamseed_cli.core.errors import FailedError, MissingError, UsageError
from dreamseed_cli.incidents import book as book_module
from dreamseed_cli.incidents.book import IncidentBook
from dreamseed_cli.incidents.read import read_incident, read_incidents
from dreamseed_cli.incidents.record import LONGEST_DETAIL, Action
from dreamseed_cli.incidents.store import MOST_ACTIONS

Open = Callable[..., IncidentBook]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the book is kept."""
    return tmp_path / "incidents.sqlite"


@pytest.fixture
def opened(path: Path) -> Iterator[Open]:
    """Opens books that are closed at the end."""
    with contextlib.ExitStack() as books:

        def open_one(**options: Any) -> IncidentBook:
            book = IncidentBook(path, **options)
            books.callback(book.close)
            return book

        yield open_one


def _flushed(book: IncidentBook) -> None:
    assert book.flush(60.0)


def test_an_incident_from_its_beginning_to_its_end(opened: Open, path: Path) -> None:
    """Everything that was said comes back, the times to detect and to recover included."""
    book = opened(simulated=True)
    incident = book.began("ejection", "r0", cause="hung", detail="no token", detect_s=10.0, at=1000.0)
    book.acted(incident, "killed it", at=1001.0)
    book.acted(incident, "started it again", at=1002.5)
    _flushed(book)
    going_on = book.get(incident)
    assert going_on
    assert (going_on.outcome, going_on.ended_at, going_on.recover_s) == ("open", None, None)
    book.ended(incident, "recovered", requests={"moved": 3, "cut": 1}, at=1030.0)
    _flushed(book)
    kept = book.get(incident)
    assert kept == read_incident(path, incident)
    assert kept
    assert (kept.kind, kept.subject, kept.cause, kept.detail) == ("ejection", "r0", "hung", "no token")
    assert kept.actions == (Action(1001.0, "killed it"), Action(1002.5, "started it again"))
    assert (kept.began_at, kept.ended_at, kept.outcome) == (1000.0, 1030.0, "recovered")
    assert (kept.detect_s, kept.recover_s) == (10.0, 40.0)
    assert kept.requests == {"moved": 3, "cut": 1}
    assert kept.to_data()["provenance"] == "simulated"


def test_one_that_did_not_recover_has_no_time_to_recover(opened: Open) -> None:
    """An end is not a recovery."""
    book = opened()
    incident = book.began("gpu", "card 1", cause="xid_79", at=1.0)
    book.ended(incident, "failed", at=9.0)
    _flushed(book)
    kept = book.get(incident)
    assert kept
    assert (kept.outcome, kept.recover_s, kept.requests) == ("failed", None, {})


def test_ids_sort_in_the_order_of_their_making(monkeypatch: pytest.MonkeyPatch, opened: Open) -> None:
    """Many in one moment, later ones, and after the clock was set back."""
    now = [1_700_000_000.0]
    monkeypatch.setattr("time.time", lambda: now[0])
    book = opened()
    ids = [book.began("restart", "r0", cause="killed") for _ in range(12)]
    for now[0] in (1_700_000_001.2, 1_600_000_000.0):
        ids.append(book.began("restart", "r0", cause="killed"))
    assert ids == sorted(set(ids))
    assert ids[0] == "231114-221320000"
    _flushed(book)
    assert [one.id for one in book.last(20)] == ids


def test_the_last_ones_are_chosen_by_subject_and_kind(opened: Open, path: Path) -> None:
    """Oldest first, the newest `count` of those that match."""
    book = opened()
    for number in range(4):
        book.began("restart", f"r{number % 2}", cause="killed", at=float(number))
    book.began("gateway", "gateway", cause="killed", at=9.0)
    _flushed(book)

    def times(count: int, **chosen: Any) -> list[float]:
        found = book.last(count, **chosen)
        assert found == read_incidents(path, count, **chosen)
        return [one.began_at for one in found]

    assert times(3) == [2.0, 3.0, 9.0]
    assert times(9, subject="r0") == [0.0, 2.0]
    assert times(9, kind="restart", subject="r1") == [1.0, 3.0]
    assert times(9, kind="failover") == []
    assert times(0) == []


def test_the_oldest_that_ended_go_first(opened: Open) -> None:
    """More than `keep` are not kept, with their actions; one that goes on outlives those that ended."""
    book = opened(keep=3)
    ids = [book.began("restart", "r0", cause="killed", at=float(number)) for number in range(2)]
    book.acted(ids[1], "started it again")
    book.ended(ids[1], "recovered")
    ids += [book.began("restart", "r0", cause="killed", at=float(number)) for number in range(2, 4)]
    _flushed(book)
    assert [one.id for one in book.last(9)] == [ids[0], ids[2], ids[3]]
    ids += [book.began("restart", "r0", cause="killed", at=4.0)]
    _flushed(book)
    assert [one.id for one in book.last(9)] == ids[2:]


def test_what_grows_without_end_is_cut(opened: Open) -> None:
    """An engine's last words, and the restarts of a crash loop; and no control character gets in."""
    book = opened()
    incident = book.began("crash_loop", "r0", cause="exited", detail="\x1b[31m\ud800\x00" + "x" * 9_000_000)
    for number in range(MOST_ACTIONS + 20):
        book.acted(incident, f"restart {number}")
    _flushed(book)
    kept = book.get(incident)
    assert kept
    assert kept.detail.startswith("�[31m��xxx")
    assert len(kept.detail) == LONGEST_DETAIL
    assert len(kept.actions) == MOST_ACTIONS
    assert kept.actions[-1].text == f"restart {MOST_ACTIONS + 19}"


def test_what_an_earlier_supervisor_left_open_is_abandoned(opened: Open, path: Path) -> None:
    """At the time of the last entry: nobody knows more."""
    killed = opened()
    open_one = killed.began("ejection", "r0", cause="hung", at=100.0)
    done = killed.began("restart", "r1", cause="killed", at=150.0)
    killed.ended(done, "recovered", at=160.0)
    killed.acted(open_one, "killed it", at=170.0)
    _flushed(killed)
    book = opened()
    _flushed(book)
    first, second = book.last(9)
    assert (first.outcome, first.ended_at, first.recover_s) == ("abandoned", 170.0, None)
    assert (second.outcome, second.ended_at) == ("recovered", 160.0)


def test_an_orderly_end_closes_what_is_open(path: Path) -> None:
    """The stack that had the trouble is gone, and when is known."""
    book = IncidentBook(path)
    incident = book.began("ejection", "r0", cause="hung")
    before = time.time()
    book.close(60.0)
    kept = read_incident(path, incident)
    assert kept.outcome == "abandoned"
    assert kept.ended_at
    assert kept.ended_at >= before
    book.close()
    book.acted(incident, "too late")


def test_one_that_is_to_go_on_stays_open(opened: Open, path: Path) -> None:
    """A supervisor that takes over says so, and goes on with its id."""
    first = IncidentBook(path, abandon_open=False)
    incident = first.began("failover", "cloud", cause="too_few_ready")
    first.close()
    second = opened(abandon_open=False)
    second.ended(incident, "recovered")
    _flushed(second)
    assert read_incident(path, incident).outcome == "recovered"


def test_reading_while_it_is_written(opened: Open, path: Path) -> None:
    """A command sees whole incidents, ever more of them, and holds nobody up."""
    book = opened()
    _flushed(book)
    finished = threading.Event()

    def write() -> None:
        for _ in range(60):
            incident = book.began("restart", "r0", cause="killed")
            book.acted(incident, "started it again")
            book.ended(incident, "recovered")
            book.flush(60.0)
        finished.set()

    writer = threading.Thread(target=write)
    writer.start()
    counts = []
    while not finished.is_set():
        counts.append(len(read_incidents(path, 1000)))
    writer.join()
    assert counts == sorted(counts)
    assert len(read_incidents(path, 1000)) == 60


def test_a_killed_supervisor_loses_nothing_that_was_written(opened: Open, path: Path, tmp_path: Path) -> None:
    """A copy of the files as they lie there, without any close, is read as well as the original."""
    book = opened()
    incident = book.began("restart", "r0", cause="killed")
    _flushed(book)
    folder = tmp_path / "as-after-kill-9"
    folder.mkdir()
    for file in path.parent.glob("incidents.sqlite*"):
        (folder / file.name).write_bytes(file.read_bytes())
    assert [one.id for one in read_incidents(folder / path.name)] == [incident]


@pytest.mark.parametrize("damage", ["no database", "pages", "another version", "another's tables"])
def test_a_file_that_is_not_to_be_used_is_set_aside(damage: str, opened: Open, path: Path) -> None:
    """A new one begins, the old one is kept under another name."""
    _spoil(path, damage)
    spoilt = path.read_bytes()
    with structlog.testing.capture_logs() as told:
        book = opened()
        incident = book.began("restart", "r0", cause="killed")
        _flushed(book)
    assert [one.id for one in book.last(9)] == [incident]
    aside = path.with_name("incidents.sqlite.damaged-1")
    assert [line["now"] for line in told if line["event"] == "incidents_set_aside"] == [str(aside)]
    assert len(aside.read_bytes()) == len(spoilt)


def _spoil(path: Path, damage: str) -> None:
    if damage == "no database":
        path.write_bytes(b"never was a database, and is longer than a page's header" * 100)
        return
    if damage == "another's tables":
        with contextlib.closing(sqlite3.connect(path)) as file:
            file.execute("CREATE TABLE incidents (x)")
        return
    book = IncidentBook(path)
    for _ in range(30):
        book.began("restart", "r0", cause="killed", detail="x" * 2000)
    book.close()
    if damage == "another version":
        with contextlib.closing(sqlite3.connect(path)) as file:
            file.execute("PRAGMA user_version = 99")
        return
    content = bytearray(path.read_bytes())
    content[3 * 4096 : 9 * 4096] = b"\xff" * 6 * 4096
    path.write_bytes(content)


def test_a_disk_that_damages_everything_does_not_fill_up(path: Path) -> None:
    """The first files set aside stay, the last name is used again."""
    for number in range(5):
        path.write_bytes(f"damaged {number} ".encode() * 500)
        IncidentBook(path).close(10.0)
    kept = sorted(path.parent.glob("*damaged*"))
    assert [file.name[-1] for file in kept] == ["1", "2", "3"]
    assert [file.read_bytes()[:9] for file in kept] == [b"damaged 0", b"damaged 1", b"damaged 4"]


def test_a_full_disk_holds_incidents_back_and_loses_none(
    opened: Open, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is told once, not with every try; what was handed in meanwhile is there once there is room."""
    monkeypatch.setattr(book_module, "_RETRY_S", 0.01)
    full = threading.Event()
    _limit_the_disk(monkeypatch, full)
    full.set()
    with structlog.testing.capture_logs() as told:
        book = opened()
        ids = [book.began("restart", "r0", cause="killed", detail="x" * 3900) for _ in range(20)]
        assert not book.flush(0.3)
        full.clear()
        _flushed(book)
    assert [one.id for one in book.last(99)] == ids
    assert [(line["event"], line["cause"]) for line in told] == [
        ("incidents_not_kept", "database or disk is full")
    ]


def _limit_the_disk(monkeypatch: pytest.MonkeyPatch, full: threading.Event) -> None:
    """SQLite itself says SQLITE_FULL, as it does for a full disk, of files opened while `full` is set."""
    connect = sqlite3.connect

    def limited(*arguments: Any, **options: Any) -> sqlite3.Connection:
        connection: sqlite3.Connection = connect(*arguments, **options)
        if full.is_set():
            connection.execute("PRAGMA max_page_count = 10")
        return connection

    monkeypatch.setattr("sqlite3.connect", limited)


def test_a_disk_that_stays_full_neither_fills_the_memory_nor_delays_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is too much is lost, and told; close() comes back."""
    monkeypatch.setattr(book_module, "_MOST_WAITING", 5)
    (tmp_path / "in-the-way").mkdir()
    with structlog.testing.capture_logs() as told:
        book = IncidentBook(tmp_path / "in-the-way")
        incident = book.began("restart", "r0", cause="killed")
        for _ in range(50):
            book.acted(incident, "nothing")
        assert book.last(9) == []
        assert book.get(incident) is None
        begun = time.monotonic()
        book.close(100.0)
        assert time.monotonic() - begun < 60.0
    assert sorted(line["event"] for line in told) == [
        "incidents_lost",
        "incidents_not_kept",
        "incidents_not_read",
    ]


def test_one_bad_entry_does_not_stop_the_others(opened: Open) -> None:
    """What can never be written is let go."""
    book = opened()
    book.began("restart", "r0", cause="killed", at=float("nan"))
    incident = book.began("restart", "r0", cause="killed")
    book.ended(incident, "recovered", requests={"moved": object()})  # type: ignore[dict-item]
    book.acted("no such incident", "nothing")
    _flushed(book)
    assert [one.id for one in book.last(9)] == [incident]


def test_a_file_deleted_under_it_begins_anew(opened: Open, path: Path) -> None:
    """An operator who deletes it gets an empty book, not one that nobody can read."""
    book = opened()
    book.began("restart", "r0", cause="killed")
    _flushed(book)
    path.unlink()
    incident = book.began("restart", "r1", cause="killed")
    _flushed(book)
    assert [one.id for one in read_incidents(path)] == [incident]


def test_only_its_owner_reads_it(opened: Open, path: Path) -> None:
    """Mode 0600."""
    _flushed(opened())
    assert path.stat().st_mode & 0o777 == 0o600


def test_reading_what_is_not_there(path: Path, opened: Open) -> None:
    """Each case with its own word."""
    with pytest.raises(MissingError, match="no stack has run here"):
        read_incidents(path)
    path.touch()
    assert read_incidents(path) == []
    _flushed(opened())
    assert read_incidents(path) == []
    with pytest.raises(UsageError, match="no incident 'x'"):
        read_incident(path, "x")
    with pytest.raises(UsageError, match="crash_loop"):
        read_incidents(path, kind="nonsense")


@pytest.mark.parametrize("damage", ["no database", "another version"])
def test_reading_what_cannot_be_read(damage: str, path: Path) -> None:
    """It failed, and says where and what to do."""
    _spoil(path, damage)
    with pytest.raises(FailedError) as failure:
        read_incidents(path)
    assert failure.value.place == str(path)
    assert failure.value.remedy
