"""A call to a store that is tried again where that may help, and that never takes longer than it may."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

from dreamseed_cli.backup import ending
from dreamseed_cli.backup.store.base import Limits
from dreamseed_cli.backup.store.errors import StoreError, StoreUnreachable

_T = TypeVar("_T")

_GRACE_S: Final = 2.0
"""For a call that nobody wants any more: a file that is nearly written is better finished than left."""


@dataclass(frozen=True, slots=True)
class _Outcome(Generic[_T]):
    value: _T | None
    error: Exception | None


def steadily(work: Callable[[threading.Event], _T], limits: Limits, place: str) -> _T:
    """Do it within `limits.total_s`, trying again by `limits`. StoreUnreachable when the time is over.
    KeyboardInterrupt when the caller is told to end: a call under way is given up.

    It runs in a thread of its own, so that the limit holds even where a socket's own does not: a name
    server, a byte a minute, a disk that hangs. Such a thread is left behind; `work` gets an event that
    says so, and ends when it looks at it. What it may still do is what it was asked to do.
    """
    ending.check()
    outcomes: list[_Outcome[_T]] = []
    # No SimpleQueue, whose get() waits for ever if a signal comes and its time is over when that was handled.
    over, abandoned = threading.Event(), threading.Event()

    def run() -> None:
        try:
            outcomes.append(_Outcome(_retried(work, limits, abandoned), None))
        except Exception as error:  # noqa: BLE001 - handed to the caller
            outcomes.append(_Outcome(None, error))
        over.set()

    threading.Thread(target=run, name="store-call", daemon=True).start()
    try:
        in_time = _awaited(over, limits.total_s)
    finally:
        abandoned.set()
    if not in_time and ending.told():
        over.wait(_GRACE_S)
        ending.check()
    if not in_time:
        raise StoreUnreachable(
            f"no end within {limits.total_s:g} s",
            place=place,
            remedy="Check the connection and the store; a slow line needs a longer limit.",
        )
    (outcome,) = outcomes
    if outcome.error is not None:
        raise outcome.error
    return outcome.value  # type: ignore[return-value] # None only where _T is None


def _awaited(over: threading.Event, most_s: float) -> bool:
    """Whether it is over in time, before the caller is told to end."""
    end = time.monotonic() + most_s
    while not ending.told() and (left_s := end - time.monotonic()) > 0:
        if over.wait(min(ending.LOOK_S, left_s)):
            return True
    return False


def pause_s(tried: int, limits: Limits, error: StoreError, luck: float) -> float:
    """The wait after so many failed tries, in seconds: doubling, between half and the whole by `luck` (0
    to 1), so that many callers do not come back at once; never shorter than the store asked for.
    """
    wait = min(limits.most_wait_s, limits.first_wait_s * 2.0 ** (tried - 1)) * (0.5 + luck / 2)
    return max(wait, error.wait_s or 0.0)


def _retried(work: Callable[[threading.Event], _T], limits: Limits, abandoned: threading.Event) -> _T:
    end = time.monotonic() + limits.total_s
    tried = 0
    while True:
        try:
            return work(abandoned)
        except StoreError as error:
            tried += 1
            wait = pause_s(tried, limits, error, random.random())  # noqa: S311 - no secret
            over = tried >= min(limits.tries, error.most_tries) or time.monotonic() + wait >= end
            if over or abandoned.wait(wait):
                raise
