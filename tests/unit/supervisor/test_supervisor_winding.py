"""Ending a part of the stack within its time."""

from __future__ import annotations

import asyncio

from dreamseed_cli.core.processes import ProcessIdentity
from dreamseed_cli.supervisor.child import Stopped
from dreamseed_cli.supervisor.winding import StackPart, stop_within


async def test_a_part_that_ends_in_time_is_not_forced() -> None:
    """Whatever time is left."""

    async def stop(hasten: asyncio.Event) -> Stopped:
        return Stopped()

    ended = await stop_within(StackPart.ENGINES, stop, 60.0)
    assert (ended.part, ended.forced, ended.survivors) == ("engines", False, 0)


async def test_a_part_that_does_not_end_is_hastened_and_its_survivors_counted() -> None:
    """As for an engine that ignores SIGTERM, and one that hangs in its driver."""

    async def stop(hasten: asyncio.Event) -> Stopped:
        await hasten.wait()
        return Stopped(killed=True, survivors=(ProcessIdentity(1, 0.0),))

    ended = await stop_within(StackPart.ENGINES, stop, 0.01)
    assert (ended.forced, ended.survivors) == (True, 1)


async def test_a_part_whose_processes_were_killed_in_their_own_time_is_forced() -> None:
    """An engine's own grace may end before the part's: whoever forced it, it did not end by itself."""

    async def stop(hasten: asyncio.Event) -> Stopped:
        return Stopped.together([Stopped(), Stopped(killed=True)])

    ended = await stop_within(StackPart.ENGINES, stop, 60.0)
    assert (ended.forced, ended.survivors) == (True, 0)
