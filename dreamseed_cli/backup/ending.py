"""Being told to end: a signal sets a flag, and the work looks at it where it is safe to stop.

A handler that raises does so between any two bytecodes: with a lock half taken, or in a destructor, where it
is lost. So the handler only hands the signal to a thread, which sets the flag and ends what the work waits
for (a program, a query), again and again until it is over. The work looks at the flag between its steps, and
waits for nothing without looking.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, wait
from contextlib import contextmanager
from queue import Empty, SimpleQueue
from types import FrameType
from typing import Final, TypeVar

from dreamseed_cli.core.errors import InterruptedByUser

_T = TypeVar("_T")

LOOK_S: Final = 0.1
"""How long anything waits before it looks whether it was told to end."""
AGAIN_S: Final = 0.2
PATIENCE_S: Final = 5.0
"""After this, what was asked to end is made to."""
_SAME_S: Final = 0.5
"""Signals so close together are one wish: a terminal and a wrapper such as `uv run` both send it."""
_OVER: Final = 0

End = Callable[[bool], None]
"""Ends something that is waited for; True: at once, whatever it leaves. Called more than once."""


class Work:
    """Something under way, in one thread or several, that can be told to end. parent: what it is part of."""

    def __init__(self, parent: Work | None = None) -> None:
        self._parent = parent
        self._told = False
        self._lock = threading.Lock()
        self._ends: dict[object, End] = {}

    @property
    def told(self) -> bool:
        return self._told or (self._parent is not None and self._parent.told)

    def tell(self) -> None:
        """Set the flag; no more."""
        self._told = True

    def end_waits(self, *, hard: bool) -> None:
        """End what the work waits for now."""
        with self._lock:  # whoever forgets one knows that it is not called any more
            for end in self._ends.values():
                end(hard)

    def on_end(self, end: End) -> Callable[[], None]:
        """Call `end` when this or what it is part of is told to end; the result forgets it."""
        key = object()
        with self._lock:
            self._ends[key] = end
        forget_above = None if self._parent is None else self._parent.on_end(end)

        def forget() -> None:
            with self._lock:
                self._ends.pop(key, None)
            if forget_above is not None:
                forget_above()

        return forget


class _Here(threading.local):
    """What the calling thread works at. shielded: it cleans up, and must not be ended by that."""

    def __init__(self) -> None:
        self.work = Work()
        self.shielded = False


_here = _Here()


def current() -> Work:
    """What the calling thread works at."""
    return _here.work


def follow(work: Work) -> None:
    """The calling thread works at this from now on."""
    _here.work = work


def told() -> bool:
    """Whether the calling thread's work was told to end."""
    return _here.work.told and not _here.shielded


def check() -> None:
    """A place where it is safe to stop. KeyboardInterrupt if the work was told to end."""
    if told():
        raise KeyboardInterrupt("told to end")


def on_end(end: End) -> Callable[[], None]:
    """See Work.on_end: of what the calling thread works at. What cleans up is not ended."""
    return (lambda: None) if _here.shielded else _here.work.on_end(end)


def pause(seconds: float) -> None:
    """Wait so long. KeyboardInterrupt if told to end meanwhile."""
    until = time.monotonic() + seconds
    while (left := until - time.monotonic()) > 0:
        check()
        time.sleep(min(LOOK_S, left))
    check()


def result(future: Future[_T]) -> _T:
    """What it gives or raises, once it does. KeyboardInterrupt if told to end before that."""
    while not future.done():  # `wait` alone would not see one that was cancelled before it began
        check()
        wait([future], LOOK_S)
    return future.result()


@contextmanager
def shielded() -> Iterator[None]:
    """Clean up in here, although told to end."""
    before, _here.shielded = _here.shielded, True
    try:
        yield
    finally:
        _here.shielded = before


@contextmanager
def as_interruption() -> Iterator[None]:
    """An error that comes of being told to end (a program or a query that was ended) is no failure."""
    try:
        yield
    except Exception as error:
        if told():
            raise KeyboardInterrupt("told to end") from error
        raise


@contextmanager
def ends_in_order() -> Iterator[None]:
    """SIGTERM and Ctrl-C end what is done in here in order, with a KeyboardInterrupt. For the main thread.

    What was done before it could be ended is done, and nothing is raised. A second signal ends the process
    at once, with its programs; what that leaves is found by the next run.
    """
    before, work, signals = current(), Work(current()), SimpleQueue[int]()

    def hand_on(signum: int, _frame: FrameType | None) -> None:
        signals.put(signum)  # the one queue that a handler may use: it takes no lock of Python's

    handlers = {signum: signal.signal(signum, hand_on) for signum in (signal.SIGINT, signal.SIGTERM)}
    watcher = threading.Thread(target=_watch, args=(work, signals), name="signals", daemon=True)
    watcher.start()
    follow(work)
    try:
        with as_interruption():
            yield
    finally:
        follow(before)
        for signum, handler in handlers.items():
            signal.signal(signum, handler)
        signals.put(_OVER)
        watcher.join()


def _watch(work: Work, signals: SimpleQueue[int]) -> None:
    # A get() that a signal interrupts may wait for ever, whatever its timeout (CPython 3.11).
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    if signals.get() == _OVER:
        return
    first = time.monotonic()
    work.tell()
    while True:
        waited_s = time.monotonic() - first
        work.end_waits(hard=waited_s > PATIENCE_S)
        try:
            signum = signals.get(timeout=AGAIN_S)
        except Empty:
            continue
        if signum == _OVER:
            return
        if time.monotonic() - first > _SAME_S:
            work.end_waits(hard=True)
            os._exit(InterruptedByUser.exit_code)
