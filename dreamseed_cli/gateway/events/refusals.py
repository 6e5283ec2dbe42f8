"""Refusals that anybody may cause, as often as an attacker likes: events all the same, and few a second."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Hashable

import msgspec

from dreamseed_cli.gateway.call import Workload
from dreamseed_cli.gateway.events.flood import Flood
from dreamseed_cli.gateway.events.record import UNKNOWN_PRIORITY, RequestRecord


class Refusals:
    """write: takes the records, most of a flood folded and a second late. Use it inside a running event
    loop.
    """

    def __init__(self, write: Callable[[RequestRecord], None]) -> None:
        self._write = write
        # Priority and workload are claims of somebody unknown: they tell no kinds apart.
        self._flood = Flood(_kind, _plain, most_kinds=0)
        self._timer: asyncio.TimerHandle | None = None

    def add(self, record: RequestRecord) -> None:
        """A request was refused."""
        self._tell(self._flood.add(record, time.monotonic()))
        self._watch()

    def end(self) -> None:
        """Write what is folded so far."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._tell(self._flood.end())

    def _watch(self) -> None:
        if self._timer is None and self._flood.folds:
            wait_s = max(0.0, self._flood.ends - time.monotonic())
            self._timer = asyncio.get_running_loop().call_later(wait_s, self._look)

    def _look(self) -> None:
        self._timer = None
        self._tell(self._flood.over(time.monotonic()))
        self._watch()

    def _tell(self, told: list[tuple[RequestRecord, int]]) -> None:
        for record, count in told:
            self._write(record if count == 1 else msgspec.structs.replace(record, count=count))


def _kind(record: RequestRecord) -> Hashable:
    return record.outcome, record.reason


def _plain(record: RequestRecord) -> RequestRecord:
    return msgspec.structs.replace(
        record, user_id="", priority=UNKNOWN_PRIORITY, workload=Workload.OTHER.value
    )
