"""The replicas as the gateway uses them: the balancer's table joined with a client for each engine."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from dreamseed_cli.core.errors import MissingError, UsageError
from dreamseed_cli.engine.client import EngineClient
from dreamseed_cli.engine.types import Endpoint
from dreamseed_cli.gateway.balancer import Balancer
from dreamseed_cli.gateway.settings import GatewaySettings, ReplicaTarget
from dreamseed_cli.gateway.slot import Slot

_NEWS_S = 2.0
"""How long the supervisor may take to tell that a replica which failed a request is down."""


@dataclass(slots=True, eq=False)
class _Entry:
    target: ReplicaTarget
    slot: Slot
    client: EngineClient
    expected_at: float | None = None
    """When it will probably be ready, in monotonic seconds."""


class Replicas:
    """Make it inside a running event loop; close it at the end."""

    def __init__(self, settings: GatewaySettings) -> None:
        self._settings = settings
        self._api_key = _api_key(settings.api_key_env)
        self.balancer = Balancer(settings.gateway.admission)
        """The table itself: who has which place."""
        self.on_change: Callable[[], None] = lambda: None
        """Called after every change of the table."""
        self._entries: dict[Slot, _Entry] = {}
        self._clients: dict[Slot, EngineClient] = {}
        self._retired: set[asyncio.Task[None]] = set()
        self._drained = asyncio.Event()
        self._changed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.update(settings.replicas)

    def update(self, targets: Sequence[ReplicaTarget]) -> None:
        """Make `targets` the whole table.

        A replica with the same name, endpoint and model goes on, its requests included. One that vanished
        gets nothing new; its client is closed when its last request has ended.
        Raises UsageError, and changes nothing, if two have one name.
        """
        if len({target.name for target in targets}) != len(targets):
            raise UsageError("two replicas have one name", place="replicas", remedy="Name each differently.")
        known = {entry.target.name: entry for entry in self._entries.values()}
        entries = [self._renew(known.get(target.name), target) for target in targets]
        left = set(self._entries) - {entry.slot for entry in entries}
        for slot in left:
            self._retire(self._entries[slot])
        for entry in entries:
            wait_s = entry.target.expected_in_s
            entry.expected_at = None if wait_s is None else time.monotonic() + wait_s
        self._entries = {entry.slot: entry for entry in entries}
        self._clients.update((entry.slot, entry.client) for entry in entries)
        self.balancer.replace(entry.slot for entry in entries)
        changed, self._changed = self._changed, asyncio.get_running_loop().create_future()
        changed.set_result(None)
        self.on_change()

    def any_ready(self) -> bool:
        return self.balancer.any_ready()

    def ready_by(self, deadline: float) -> bool:
        """Whether a replica is ready, or expected to be before `deadline` (monotonic seconds)."""
        return self.any_ready() or any(
            entry.expected_at is not None and entry.expected_at < deadline for entry in self._entries.values()
        )

    async def replaced(self, failed: frozenset[str], deadline: float) -> bool:
        """Whether another replica than these is ready, or one of them expected to be again in time.

        They have just failed a request, and the supervisor may not know yet: its word is waited for a moment.
        deadline: monotonic seconds.
        """
        until = min(deadline, time.monotonic() + _NEWS_S)
        while True:
            for entry in self._entries.values():
                if entry.slot.ready and entry.slot.name not in failed:
                    return True
                if not entry.slot.ready and entry.expected_at is not None and entry.expected_at < deadline:
                    return True
            changed, left_s = self._changed, until - time.monotonic()
            if left_s <= 0:
                return False
            await asyncio.wait({changed}, timeout=left_s)

    def states(self) -> list[tuple[str, str, str]]:
        """Name, state and reason of each replica, as the supervisor sees it."""
        targets = [entry.target for entry in self._entries.values()]
        return [(target.name, target.state, target.reason) for target in targets]

    def client(self, slot: Slot) -> EngineClient:
        """The engine behind a replica that has requests; it may have left the table."""
        return self._clients[slot]

    def request_ended(self) -> None:
        """Some replica has one request less: a vanished one may be done."""
        if self._retired:
            self._drained.set()

    def stats(self) -> list[dict[str, Any]]:
        """Each replica's state and counts since it joined, JSON-able; outstanding tokens are estimates."""
        return [{"name": slot.name, "ready": slot.ready, **slot.to_data()} for slot in self.balancer.slots]

    def totals(self) -> dict[str, int]:
        """The sums over all replicas since the start, those that vanished included."""
        return self.balancer.totals.to_data()

    async def close(self) -> None:
        """Close every client; requests still under way end with EngineUnavailable."""
        for task in self._retired:
            task.cancel()
        await asyncio.gather(*self._retired, return_exceptions=True)
        # Those of retired replicas too: a task that had not begun when it was cancelled closed nothing.
        await asyncio.gather(*(client.close() for client in self._clients.values()))

    def _renew(self, entry: _Entry | None, target: ReplicaTarget) -> _Entry:
        if entry and (entry.target.endpoint, entry.target.model) == (target.endpoint, target.model):
            entry.target = target
            entry.slot.ready = target.ready
            entry.slot.places = target.places
            return entry
        client = EngineClient(
            Endpoint.parse(target.endpoint),
            model=target.model,
            api=self._settings.api,
            usage_per_chunk=self._settings.usage_per_chunk and not target.elsewhere,
            api_key=_api_key(target.api_key_env) if target.elsewhere else self._api_key,
        )
        return _Entry(
            target, Slot(target.name, target.ready, target.places, target.model, target.elsewhere), client
        )

    def _retire(self, entry: _Entry) -> None:
        task = asyncio.get_running_loop().create_task(self._close_when_idle(entry))
        self._retired.add(task)
        task.add_done_callback(self._retired.discard)

    async def _close_when_idle(self, entry: _Entry) -> None:
        try:
            while entry.slot.outstanding:
                self._drained.clear()
                await self._drained.wait()
        finally:
            self._clients.pop(entry.slot, None)
            await entry.client.close()


def _api_key(variable: str | None) -> str | None:
    if variable is None:
        return None
    key = os.environ.get(variable)
    if not key:
        raise MissingError(
            "the engine's API key is not set", place=f"${variable}", remedy=f"Set {variable} and start again."
        )
    return key
