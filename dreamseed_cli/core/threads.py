"""Blocking work beside an event loop, without the loop's end having to wait for it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

_T = TypeVar("_T")


async def in_daemon_thread(work: Callable[[], _T]) -> _T:
    """Like asyncio.to_thread, but neither the loop's end nor the process's waits for it."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[_T] = loop.create_future()

    def finish(action: Callable[[], None]) -> None:
        with suppress(RuntimeError):  # the loop has ended meanwhile: nobody waits any more
            loop.call_soon_threadsafe(lambda: None if done.done() else action())

    def run() -> None:
        try:
            result = work()
        except Exception as error:  # noqa: BLE001 - handed to whoever awaits it
            failure = error
            finish(lambda: done.set_exception(failure))
        else:
            finish(lambda: done.set_result(result))

    threading.Thread(target=run, daemon=True).start()
    return await done
