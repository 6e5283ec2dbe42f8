"""Calls to a service that fails, hangs, comes back, or is asked by a loop that runs late."""

from __future__ import annotations

import asyncio
import gc
import socket
import time
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from types import SimpleNamespace

import pytest

from dreamseed_cli.core.dependency import Dependency, DependencyDown, time_box


async def _fine() -> str:
    return "fine"


async def _fails() -> str:
    raise ConnectionError("connection refused")


async def _hangs() -> str:
    await asyncio.sleep(60)
    return "too late"


@asynccontextmanager
async def _wire() -> AsyncIterator[tuple[Dependency, Callable[[], Awaitable[bytes]], socket.socket]]:
    """A service behind a breaker that one failure opens, how to ask it, and its end of the connection."""
    ours, theirs = socket.socketpair()
    reader, writer = await asyncio.open_connection(sock=ours)

    async def ask() -> bytes:
        writer.write(b"ping")
        return await reader.read(100)

    try:
        with theirs:
            yield Dependency("redis", timeout_s=0.02, threshold=1), ask, theirs
    finally:
        writer.close()


async def test_a_result_comes_through_and_failures_become_one_error() -> None:
    """The error names the service and the cause."""
    dependency = Dependency("redis", timeout_s=1.0)
    assert await dependency.call(_fine) == "fine"
    with pytest.raises(DependencyDown, match="at 'redis': connection refused") as caught:
        await dependency.call(_fails)
    assert isinstance(caught.value.__cause__, ConnectionError)
    assert dependency.state == "closed"


async def test_a_call_that_hangs_ends_in_time() -> None:
    """The bound is in the message."""
    dependency = Dependency("redis", timeout_s=0.02)
    with pytest.raises(DependencyDown, match="did not answer within 20 ms"):
        await asyncio.wait_for(dependency.call(_hangs), 5)


async def test_a_service_that_keeps_failing_is_left_alone_and_found_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each change of state is told once, in order."""
    states: list[str] = []
    asked, now = 0, [100.0]
    monkeypatch.setattr("dreamseed_cli.core.dependency.time", SimpleNamespace(monotonic=lambda: now[0]))

    async def counted() -> str:
        nonlocal asked
        asked += 1
        return await _fails()

    dependency = Dependency("kafka", timeout_s=1.0, threshold=3, retry_after_s=60.0, on_state=states.append)
    for _ in range(10):
        with pytest.raises(DependencyDown):
            await dependency.call(counted)
    assert (asked, states) == (3, ["opened"])
    now[0] += 60.0
    assert await dependency.call(_fine) == "fine"
    assert states == ["opened", "half-opened", "closed"]
    assert dependency.state == "closed"


async def test_one_caller_probes_a_service_that_may_be_back() -> None:
    """The others are refused at once instead of waiting with it."""
    dependency = Dependency("redis", timeout_s=5.0, threshold=1, retry_after_s=0.0)
    with pytest.raises(DependencyDown):
        await dependency.call(_fails)
    release = asyncio.Event()

    async def slow() -> str:
        await release.wait()
        return "back"

    probe = asyncio.create_task(dependency.call(slow))
    await asyncio.sleep(0)
    for _ in range(5):
        with pytest.raises(DependencyDown, match="left alone"):
            await dependency.call(_fine)
    release.set()
    assert await probe == "back"
    assert await dependency.call(_fine) == "fine"


async def test_callers_that_leave_do_not_hide_a_service_that_hangs() -> None:
    """A cancelled call is no success: the failures around it stay failures in a row."""
    dependency = Dependency("redis", timeout_s=0.01, threshold=3, retry_after_s=60)
    for _ in range(3):
        leaving = asyncio.create_task(dependency.call(_hangs))
        await asyncio.sleep(0)
        leaving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await leaving
        with pytest.raises(DependencyDown):
            await dependency.call(_hangs)
    assert dependency.state == "opened"


async def test_a_probe_that_is_cancelled_neither_closes_nor_blocks() -> None:
    """The next caller is the probe."""
    dependency = Dependency("redis", timeout_s=5, threshold=1, retry_after_s=0.0)
    with pytest.raises(DependencyDown):
        await dependency.call(_fails)
    leaving = asyncio.create_task(dependency.call(_hangs))
    await asyncio.sleep(0)
    leaving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await leaving
    assert dependency.state == "half-opened"
    assert await dependency.call(_fine) == "fine"


async def test_a_clock_that_is_set_back_keeps_nothing_open(monkeypatch: pytest.MonkeyPatch) -> None:
    """The wait is counted on the monotonic clock."""
    dependency = Dependency("redis", timeout_s=1.0, threshold=1, retry_after_s=0.01)
    with pytest.raises(DependencyDown):
        await dependency.call(_fails)
    an_hour_ago = time.time() - 3600
    monkeypatch.setattr(time, "time", lambda: an_hour_ago)
    await asyncio.sleep(0.02)
    assert await dependency.call(_fine) == "fine"


async def test_refused_callers_are_not_kept_in_memory() -> None:
    """An error that is raised again and again would hold every caller's frames, and their prompts."""
    dependency = Dependency("redis", timeout_s=1.0, threshold=1, retry_after_s=60)
    with pytest.raises(DependencyDown):
        await dependency.call(_fails)

    class Prompt:
        pass

    async def refused() -> weakref.ref[Prompt]:
        prompt = Prompt()
        with suppress(DependencyDown):
            await dependency.call(_fine)
        return weakref.ref(prompt)

    held = await refused()
    gc.collect()
    assert held() is None


async def test_a_reply_in_time_counts_although_our_own_loop_was_busy() -> None:
    """The loop is stalled for longer than the bound while the reply already lies in the socket."""
    async with _wire() as (dependency, ask, service):
        for _ in range(20):
            call = asyncio.create_task(dependency.call(ask))
            await asyncio.sleep(0)
            service.sendall(service.recv(100))
            time.sleep(0.03)  # noqa: ASYNC251 - the stall is the point
            assert await call == b"ping"
        assert dependency.state == "closed"


async def test_a_reply_too_late_counts_as_none_however_busy_the_loop() -> None:
    """The bound holds for the service even then."""
    async with _wire() as (dependency, ask, _):
        call = asyncio.create_task(dependency.call(ask))
        await asyncio.sleep(0)
        time.sleep(0.03)  # noqa: ASYNC251 - the stall is the point
        with pytest.raises(DependencyDown):
            await asyncio.wait_for(call, 5)
        assert dependency.state == "opened"


async def test_a_time_box_leaves_a_cancellation_from_outside_what_it_is() -> None:
    """Only its own end becomes a TimeoutError."""

    async def boxed() -> None:
        async with time_box(30):
            await asyncio.sleep(30)

    task = asyncio.create_task(boxed())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    with pytest.raises(TimeoutError):
        async with time_box(0.001):
            await asyncio.sleep(30)
    async with time_box(0.001):
        pass
    await asyncio.sleep(0.01)
