"""The ledger's file in the state folder: written whole, and set aside where it cannot be understood."""

from __future__ import annotations

from dataclasses import dataclass, replace
from decimal import Decimal

import msgspec
import structlog

from dreamseed_cli.core.files import write_atomically
from dreamseed_cli.core.paths import StateDir
from dreamseed_cli.supervisor.failover.money import Ledger, Running, counted, month_of, started, stopped

WRITE_EVERY_S = 30.0
"""The most of a running help's time that a `kill -9` leaves unwritten; it is counted at the next start."""

log = structlog.get_logger("supervisor")


@dataclass(frozen=True, slots=True)
class Opened:
    """What the file told at the start.

    found: help that an earlier run did not stop, or may not have stopped. damaged: whether the file could
    not be understood.
    """

    found: Running | None = None
    damaged: bool = False


class LedgerFile:
    """The money of one state folder. Its methods take and keep epoch seconds."""

    def __init__(self, state: StateDir) -> None:
        self.path = state.root / "failover-ledger.json"
        self.ledger = Ledger()
        self._written_at = 0.0
        self._owed = False
        """Whether the disk refused what was to be written."""

    def open(self, now: float, *, usd_per_hour: Decimal, stop: tuple[str, ...]) -> Opened:
        """Read it. A damaged one is set aside; this month then counts as unknown, and help as running.

        usd_per_hour, stop: what the profile says of help that may be running unrecorded.
        """
        try:
            self.ledger = _decode(self.path.read_bytes())
        except FileNotFoundError:
            return Opened()
        except (OSError, msgspec.DecodeError, ValueError) as error:
            self._set_aside(now, error)
            self.ledger = Ledger(running=Running(now, now, usd_per_hour, stop), unknown=month_of(now))
            self._write_if_possible(now)
            return Opened(self.ledger.running, damaged=True)
        found = self.ledger.running
        self.ledger = counted(self.ledger, now)
        if found is not None:
            self._write_if_possible(now)
        return Opened(found)

    def begin(self, now: float, *, usd_per_hour: Decimal, stop: tuple[str, ...]) -> None:
        """Note that help is being called, on disk before it is. Raises OSError, and then notes nothing."""
        before = self.ledger
        self.ledger = started(self.ledger, now, usd_per_hour=usd_per_hour, stop=stop)
        try:
            self._write(now)
        except OSError:
            self.ledger = before
            raise

    def count(self, now: float) -> None:
        """Count up to now, and write that often enough."""
        if self.ledger.running is None and not self._owed:
            return
        self.ledger = counted(self.ledger, now)
        # A clock that was set back must not keep it from being written.
        if not 0 <= now - self._written_at < WRITE_EVERY_S:
            self._write_if_possible(now)

    def end(self, now: float) -> None:
        """Note that the help is stopped."""
        self.ledger = stopped(self.ledger, now)
        self._write_if_possible(now)

    def forget_running(self, now: float) -> None:
        """Take back that help may be running: nothing was recorded of it, and none is configured."""
        self.ledger = replace(self.ledger, running=None)
        self._write_if_possible(now)

    def _set_aside(self, now: float, error: Exception) -> None:
        aside = self.path.with_name(f"{self.path.name}.damaged-{int(now)}")
        try:
            self.path.replace(aside)
        except OSError as obstacle:
            log.warning("failover_ledger_not_set_aside", path=str(self.path), cause=str(obstacle))
        log.error(
            "failover_ledger_damaged",
            path=str(self.path),
            cause=f"{type(error).__name__}: {error}",
            aside=str(aside),
            remedy=f"Look at your cloud's bill. No help is called in {month_of(now)} until you have removed "
            f"{self.path}, or written what the month cost into it, and started again.",
        )

    def _write_if_possible(self, now: float) -> None:
        try:
            self._write(now)
        except OSError as error:
            # A full disk ends nothing that runs; written again before long.
            self._owed, self._written_at = True, now
            log.warning("failover_ledger_not_written", path=str(self.path), cause=str(error))

    def _write(self, now: float) -> None:
        write_atomically(self.path, msgspec.json.format(msgspec.json.encode(self.ledger)))
        self._owed, self._written_at = False, now


def _decode(content: bytes) -> Ledger:
    """Raises msgspec.DecodeError or ValueError for what cannot be a ledger."""
    ledger = msgspec.json.decode(content, type=Ledger)
    amounts = list(ledger.months.values())
    times = [0.0]
    if ledger.running is not None:
        amounts.append(ledger.running.usd_per_hour)
        times += [ledger.running.since, ledger.running.counted_to]
    if not all(amount.is_finite() and amount >= 0 for amount in amounts):
        raise ValueError("an amount is no amount of money")
    if not all(0 <= moment < _YEAR_3000 for moment in times):
        raise ValueError("a time is no time")
    return replace(ledger, months=dict(ledger.months))


_YEAR_3000 = 32_503_680_000.0
