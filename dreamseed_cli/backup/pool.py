"""Threads for one piece of work. When it fails or is told to end, what they do is dropped, not waited out."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from types import TracebackType
from typing import ParamSpec, Self, TypeVar

from dreamseed_cli.backup import ending

_P = ParamSpec("_P")
_T = TypeVar("_T")
_V = TypeVar("_V")


class Pool:
    """Use it as a context manager. Left by an error, it drops what has not begun and ends what has.

    Then its threads' waits (`ending.check`, a store call, a query) raise KeyboardInterrupt.
    """

    def __init__(self, threads: int, name: str) -> None:
        self._work = ending.Work(ending.current())
        self._running: set[Future[object]] = set()
        self._threads = ThreadPoolExecutor(
            threads, thread_name_prefix=name, initializer=ending.follow, initargs=(self._work,)
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self._threads.shutdown()
        else:
            self.drop()

    def submit(self, work: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> Future[_T]:
        """Do it when a thread is free. Wait for it with `ending.result`."""
        future = self._threads.submit(work, *args, **kwargs)
        self._running.add(future)  # type: ignore[arg-type] # no one puts a result in
        future.add_done_callback(self._running.discard)
        return future

    def map(self, work: Callable[[_V], _T], items: Iterable[_V]) -> list[_T]:
        """Do it with each, side by side; the results in order. Raises what the first that failed raised."""
        return [ending.result(future) for future in [self.submit(work, item) for item in items]]

    def drop(self) -> None:
        """Nobody wants the rest any more."""
        self._work.tell()
        self._threads.shutdown(wait=False, cancel_futures=True)
        begun = time.monotonic()
        while running := list(self._running):
            self._work.end_waits(hard=time.monotonic() - begun > ending.PATIENCE_S)
            wait(running, ending.AGAIN_S)
        self._threads.shutdown()
