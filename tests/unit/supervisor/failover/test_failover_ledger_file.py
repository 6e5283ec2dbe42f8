"""The ledger on disk: what a kill, a full disk and a damaged file leave of it."""

from __future__ import annotations

import datetime as dt
import errno
import json
from decimal import Decimal
from pathlib import Path
from typing import NoReturn

import pytest

from dreamseed_cli.core.paths import StateDir
from dreamseed_cli.supervisor.failover import ledger_file
from dreamseed_cli.supervisor.failover.ledger_file import WRITE_EVERY_S, LedgerFile
from dreamseed_cli.supervisor.failover.money import Ledger, spent_in_month

PRICE = Decimal("1.5")
STOP = ("gcloud", "stop")
NOW = dt.datetime(2026, 7, 10, tzinfo=dt.UTC).timestamp()


@pytest.fixture
def state(tmp_path: Path) -> StateDir:
    """A folder of its own."""
    return StateDir(tmp_path)


def _open(state: StateDir, now: float) -> tuple[LedgerFile, ledger_file.Opened]:
    book = LedgerFile(state)
    return book, book.open(now, usd_per_hour=PRICE, stop=STOP)


def _begin(book: LedgerFile, now: float) -> None:
    book.begin(now, usd_per_hour=PRICE, stop=STOP)


def _full(*_: object) -> NoReturn:
    raise OSError(errno.ENOSPC, "No space left on device")


def test_a_month_survives_the_stack(state: StateDir) -> None:
    """What was stopped in order costs no more, and is remembered."""
    book, opened = _open(state, NOW)
    assert opened == ledger_file.Opened()
    _begin(book, NOW)
    book.end(NOW + 3600)
    again, opened = _open(state, NOW + 7200)
    assert opened.found is None
    assert spent_in_month(again.ledger, NOW) == PRICE


def test_a_kill_loses_nothing(state: StateDir) -> None:
    """The next run finds that help runs, by which command it is stopped, and counts on."""
    book, _ = _open(state, NOW)
    _begin(book, NOW)
    for second in range(1, 101):
        book.count(NOW + second)
    on_disk = json.loads(book.path.read_text())
    assert NOW + 100 - on_disk["running"]["counted_to"] < WRITE_EVERY_S
    again, opened = _open(state, NOW + 3600)
    assert opened.found
    assert (opened.found.since, opened.found.stop) == (NOW, STOP)
    assert spent_in_month(again.ledger, NOW) == pytest.approx(PRICE, abs=Decimal("1e-6"))
    assert json.loads(again.path.read_text())["running"]["counted_to"] == NOW + 3600


def test_a_start_is_on_disk_before_it_begins(state: StateDir, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where it cannot be, help must not be called: nobody could know of it after a crash."""
    book, _ = _open(state, NOW)
    monkeypatch.setattr(ledger_file, "write_atomically", _full)
    with pytest.raises(OSError, match="No space"):
        _begin(book, NOW)
    assert book.ledger == Ledger()


def test_a_full_disk_later_stops_nothing(state: StateDir) -> None:
    """What could not be written is written as soon as it can be."""
    book, _ = _open(state, NOW)
    _begin(book, NOW)
    with pytest.MonkeyPatch.context() as broken:
        broken.setattr(ledger_file, "write_atomically", _full)
        book.end(NOW + 3600)
    assert json.loads(book.path.read_text())["running"] is not None
    book.count(NOW + 3600 + WRITE_EVERY_S)
    assert json.loads(book.path.read_text())["running"] is None


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{",
        "[]",
        '{"months": {"2026-07": "many"}}',
        '{"months": {"2026-07": "NaN"}}',
        '{"months": {"2026-07": "-5"}}',
        '{"running": {"since": 1e99, "counted_to": 1, "usd_per_hour": "1"}}',
    ],
)
def test_a_damaged_file_is_set_aside_and_the_month_unknown(state: StateDir, content: str) -> None:
    """Help may be running, so it counts as running; what the month cost stays unknown over restarts."""
    book = LedgerFile(state)
    book.path.write_text(content)
    opened = book.open(NOW, usd_per_hour=PRICE, stop=STOP)
    assert opened.damaged
    assert opened.found
    assert opened.found.stop == STOP
    assert [path.read_text() for path in state.root.glob("*.damaged-*")] == [content]
    book.end(NOW + 1)
    again, opened = _open(state, NOW + 2)
    assert not opened.damaged
    assert again.ledger.unknown == "2026-07"


def test_an_operator_clears_the_unknown_month_by_hand(state: StateDir) -> None:
    """By removing the file, or by writing what the month cost."""
    book = LedgerFile(state)
    book.path.write_text("{")
    book.open(NOW, usd_per_hour=PRICE, stop=STOP)
    book.path.unlink()
    assert _open(state, NOW)[0].ledger == Ledger()
    book.path.write_text('{"months": {"2026-07": 12.5}}')
    assert spent_in_month(_open(state, NOW)[0].ledger, NOW) == Decimal("12.5")


def test_what_cannot_be_read_at_all_counts_as_damaged(state: StateDir) -> None:
    """A folder in its place, too."""
    book = LedgerFile(state)
    book.path.mkdir()
    assert book.open(NOW, usd_per_hour=PRICE, stop=STOP).damaged


def test_help_that_nobody_configured_is_not_kept_as_running(state: StateDir) -> None:
    """After a damaged file there may be nothing to stop it by."""
    book = LedgerFile(state)
    book.path.write_text("{")
    book.open(NOW, usd_per_hour=PRICE, stop=())
    book.forget_running(NOW)
    assert _open(state, NOW)[1].found is None
