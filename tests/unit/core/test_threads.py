"""Blocking work beside an event loop."""

from __future__ import annotations

import asyncio
import threading

import pytest

from dreamseed_cli.core.threads import in_daemon_thread


async def test_result_and_error_come_back() -> None:
    """As if it had been awaited."""
    assert await in_daemon_thread(lambda: 6 * 7) == 42
    with pytest.raises(ZeroDivisionError):
        await in_daemon_thread(lambda: 1 / 0)


def test_the_loops_end_does_not_wait_for_it() -> None:
    """What comes after the end is nobody's any more, and disturbs nobody."""
    goes_on = threading.Event()
    ended = threading.Event()

    def work() -> None:
        goes_on.wait(20)
        ended.set()

    async def give_up() -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await in_daemon_thread(work)

    asyncio.run(give_up())
    assert not ended.is_set()
    goes_on.set()
    assert ended.wait(20)
