"""The supervisor's book of incidents: whatever becomes of the disk, keeping it never hurts the service."""

from __future__ import annotations

import queue
import sqlite3
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

import structlog

from dreamseed_cli.incidents.record import LONGEST_DETAIL, Action, Incident, Kind, Outcome, bounded
from dreamseed_cli.incidents.store import Store, is_foreign, reading, select_last, select_one, set_aside

_MOST_WAITING = 1000
"""Entries that wait in memory while the disk does not take them."""
_RETRY_S = 1.0
_COMPLAIN_EVERY_S = 60.0

log = structlog.get_logger("incidents")

_Entry = Callable[[Store], None]
_Found = TypeVar("_Found")


class IncidentBook:
    """Keeps incidents in a file. No method raises, and none of those that write waits for the disk.

    keep: how many incidents are kept; the oldest that have ended go first. simulated: whether the engines
    are emulated. abandon_open: close what an earlier supervisor, or this one at its end, left open.

    One thread writes, in the order of the calls. While it cannot (a full disk), entries wait in memory.
    """

    def __init__(
        self, path: Path, *, keep: int = 1000, simulated: bool = False, abandon_open: bool = True
    ) -> None:
        self._path = path
        self._keep = keep
        self._simulated = simulated
        self._abandon_open = abandon_open
        self._ids = _Ids()
        self._entries: queue.Queue[_Entry | None] = queue.Queue(_MOST_WAITING)
        self._closing = threading.Event()
        self._complaints = _Complaints(path)
        self._store: Store | None = None
        self._thread = threading.Thread(target=self._write_forever, name="incidents", daemon=True)
        # Even without anything to close: the file is there from now on.
        self._hand_in(lambda store: store.abandon_open() if abandon_open else None)
        self._thread.start()

    def began(
        self,
        kind: Kind,
        subject: str,
        *,
        cause: str,
        detail: str = "",
        detect_s: float | None = None,
        at: float | None = None,
    ) -> str:
        """Something broke; the new incident's id.

        detect_s: seconds from the fault until it was noticed. at: when that was, in seconds since the epoch.
        """
        now = time.time()
        incident = Incident(
            id=self._ids.next(now),
            kind=kind,
            subject=bounded(subject),
            began_at=now if at is None else at,
            cause=bounded(cause),
            detail=bounded(detail, LONGEST_DETAIL),
            detect_s=detect_s,
            simulated=self._simulated,
        )
        self._hand_in(lambda store: store.insert(incident, keep=self._keep))
        return incident.id

    def acted(self, incident: str, text: str, *, at: float | None = None) -> None:
        """Something was done about it."""
        action = Action(time.time() if at is None else at, bounded(text))
        self._hand_in(lambda store: store.act(incident, action))

    def ended(
        self,
        incident: str,
        outcome: Outcome,
        *,
        requests: Mapping[str, int] | None = None,
        at: float | None = None,
    ) -> None:
        """It is over. requests: how many of them were `moved`, `continued`, `cut`, `refused`."""
        when, counts = time.time() if at is None else at, dict(requests or {})
        self._hand_in(lambda store: store.end(incident, outcome, counts, when))

    def last(self, count: int, *, subject: str | None = None, kind: Kind | None = None) -> list[Incident]:
        """The last `count` that are in the file by now, oldest first; none if it cannot be read.

        Blocks for the disk: in an event loop call it in a thread.
        """
        return self._read(lambda file: select_last(file, count, subject=subject, kind=kind)) or []

    def get(self, incident: str) -> Incident | None:
        """One by its id, as `last`."""
        return self._read(lambda file: select_one(file, incident))

    def flush(self, timeout_s: float = 2.0) -> bool:
        """Wait until all that was handed in is in the file; False if it is not within `timeout_s`."""
        written = threading.Event()
        self._hand_in(lambda _: written.set())
        return written.wait(timeout_s)

    def close(self, timeout_s: float = 2.0) -> None:
        """Write what is left, close the file, and wait for that for `timeout_s` at most."""
        if self._closing.is_set():
            return
        if self._abandon_open:
            now = time.time()
            self._hand_in(lambda store: store.abandon_open(now))
        self._closing.set()
        with suppress(queue.Full):  # then the thread sees it by `_closing`
            self._entries.put_nowait(None)
        self._thread.join(timeout_s)

    def _read(self, select: Callable[[sqlite3.Connection], _Found]) -> _Found | None:
        try:
            with reading(self._path) as file:
                return select(file)
        except Exception as error:  # noqa: BLE001 - a view of the past is not worth a failure
            self._complaints.add("incidents_not_read", error)
            return None

    def _hand_in(self, entry: _Entry) -> None:
        if self._closing.is_set():
            return
        try:
            self._entries.put_nowait(entry)
        except queue.Full as error:
            self._complaints.add("incidents_lost", error)

    def _write_forever(self) -> None:
        while (entry := self._entries.get()) is not None:
            while not self._written(entry):
                if self._closing.wait(_RETRY_S):
                    break  # the process ends: one try for each of the others, none to wait for
            if self._closing.is_set() and self._entries.empty():
                break
        self._shut()

    def _written(self, entry: _Entry) -> bool:
        """Whether the entry is done with: in the file, or beyond hope. False: the disk may take it later."""
        for may_begin_anew in (True, False):
            try:
                entry(self._open())
            except Exception as error:  # noqa: BLE001 - one entry must not end the thread for the others
                self._shut()
                self._complaints.add("incidents_not_kept", error)
                if is_foreign(error) and may_begin_anew and self._begin_anew():
                    continue
                return is_foreign(error) or not isinstance(error, sqlite3.OperationalError | OSError)
            return True
        return True

    def _open(self) -> Store:
        if self._store is not None and not self._store.in_place():
            self._shut()
        if self._store is None:
            self._store = Store(self._path)
        return self._store

    def _shut(self) -> None:
        store, self._store = self._store, None
        if store is not None:
            with suppress(sqlite3.Error):
                store.close()

    def _begin_anew(self) -> bool:
        try:
            aside = set_aside(self._path)
        except OSError as error:
            self._complaints.add("incidents_not_kept", error)
            return False
        log.error("incidents_set_aside", path=str(self._path), now=str(aside))
        return True


class _Ids:
    """Ids that sort in the order of their making: the UTC time to the millisecond, each one used once."""

    def __init__(self) -> None:
        self._last_ms = 0

    def next(self, now: float) -> str:
        """now: seconds since the epoch; a clock that was set back does not bring ids back."""
        self._last_ms = max(int(now * 1000), self._last_ms + 1)
        whole_s, ms = divmod(self._last_ms, 1000)
        return f"{datetime.fromtimestamp(whole_s, UTC):%y%m%d-%H%M%S}{ms:03d}"


class _Complaints:
    """Tells the log of each kind of trouble, but not more often than once a minute."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._told_at: dict[str, float] = {}

    def add(self, event: str, error: Exception) -> None:
        now = time.monotonic()
        if now - self._told_at.get(event, -_COMPLAIN_EVERY_S) < _COMPLAIN_EVERY_S:
            return
        self._told_at[event] = now
        log.warning(event, path=str(self._path), cause=str(error) or type(error).__name__)
