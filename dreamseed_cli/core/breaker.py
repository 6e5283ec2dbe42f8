"""A circuit breaker: when a failing service is left alone, and when it is asked again. Pure."""

from __future__ import annotations

from enum import StrEnum


class State(StrEnum):
    """How a breaker stands."""

    CLOSED = "closed"
    """The service is asked."""
    OPENED = "opened"
    """It is left alone."""
    HALF_OPENED = "half-opened"
    """One call finds out whether it is back; the others do as if it were not."""


class Breaker:
    """Opens after `threshold` failures in a row; after `retry_after_s` seconds one call probes the service.

    Every call that admit() lets in reports exactly once: succeeded(), failed() or left(). A report counts
    only in the state in which its call was let in: what was asked before the breaker opened says nothing
    about the service now. `now` is in seconds, of a clock that is never set.
    """

    def __init__(self, *, threshold: int, retry_after_s: float) -> None:
        self.state = State.CLOSED
        self._threshold = threshold
        self._retry_after_s = retry_after_s
        self._failures = 0
        self._opened_at = 0.0
        self._term = 0
        self._probing = False

    def admit(self, now: float) -> int | None:
        """A ticket to report with; None: do not ask."""
        if self.state is State.CLOSED:
            return self._term
        if self.state is State.OPENED:
            if now - self._opened_at < self._retry_after_s:
                return None
            self._enter(State.HALF_OPENED)
        if self._probing:
            return None
        self._probing = True
        return self._term

    def succeeded(self, ticket: int) -> None:
        """The service answered."""
        if ticket != self._term:
            return
        self._failures = 0
        if self.state is State.HALF_OPENED:
            self._enter(State.CLOSED)

    def failed(self, ticket: int, now: float) -> None:
        """It did not, or too slowly."""
        if ticket != self._term:
            return
        self._failures += 1
        if self.state is State.HALF_OPENED or self._failures >= self._threshold:
            self._opened_at = now
            self._enter(State.OPENED)

    def left(self, ticket: int) -> None:
        """The caller did not wait for the outcome, which says nothing about the service."""
        if ticket == self._term:
            self._probing = False

    def _enter(self, state: State) -> None:
        self.state = state
        self._term += 1
        self._failures = 0
        self._probing = False
