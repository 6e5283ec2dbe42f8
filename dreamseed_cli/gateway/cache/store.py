"""Answers kept in a Redis Cluster for an hour (§I1). What it cannot tell in time is a miss."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from redis.asyncio.cluster import ClusterNode
from redis.exceptions import MovedError, ResponseError

from dreamseed_cli.core.dependency import Dependency, DependencyDown
from dreamseed_cli.core.errors import MissingError, UsageError
from dreamseed_cli.gateway.cache.cluster import ClusterMap
from dreamseed_cli.gateway.cache.entry import MOST_BYTES, CachedAnswer, Corrupted, OtherVersion, pack, unpack
from dreamseed_cli.gateway.cache.lane import Lane
from dreamseed_cli.gateway.settings import ServiceAddresses

PREFIX = "dreamseed:answer:"
_READ_S = 0.020
_WRITE_S = 0.25
_MOST_WAITING_BYTES = 16 * 1024 * 1024
_WRITE_OVERHEAD_BYTES = 512
_KNOCK_S = 1.0
_CLOSE_S = 2.0

Watch = Callable[[str], Callable[[str], None]]
"""GatewayMetrics.watch_dependency: from a dependency's name to what is told its breaker's state."""


@dataclass(frozen=True, slots=True)
class _Lanes:
    """Look-ups never wait behind writes, and each node fails by itself."""

    reading: Lane
    writing: Lane

    def connect(self, *, anew: bool = False) -> None:
        self.reading.connect(anew=anew)
        self.writing.connect(anew=anew)

    async def close(self) -> None:
        await self.reading.close()
        await self.writing.close()


class AnswerStore:
    """Make it inside a running event loop; start() it, and close() it at the end.

    nodes: (host, port) of some of the cluster's nodes. read_s: the longest a look-up may take, in seconds.
    Nothing here waits for the cluster: one that comes later, or comes back, is found in the background.
    """

    def __init__(
        self,
        nodes: list[tuple[str, int]],
        *,
        password: str | None,
        tls: bool,
        watch: Watch,
        read_s: float = _READ_S,
    ) -> None:
        self._read_s = read_s
        self._watch = watch
        self._lanes: dict[str, _Lanes] = {}
        self._waiting_bytes = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._map = ClusterMap(
            nodes, password=password, tls=tls, on_change=self._map_changed, on_state=watch("redis")
        )

    @classmethod
    def from_addresses(cls, addresses: ServiceAddresses, watch: Watch) -> AnswerStore | None:
        """The store of these settings; None if there is no Redis. MissingError without its password."""
        if not addresses.redis_nodes:
            return None
        nodes = [_address(node) for node in addresses.redis_nodes]
        return cls(nodes, password=_password(addresses), tls=addresses.redis_tls, watch=watch)

    def start(self) -> None:
        """Begin to look for the cluster."""
        self._do(self._map.tend())
        self._do(self._keep_connected())

    async def get(self, key: str) -> CachedAnswer | None:
        """The answer kept under `key`, within 20 ms. Raises DependencyDown if the key's node does not say."""
        name = PREFIX + key
        lanes = self._of(name)
        try:
            value = await lanes.reading.ask("GET", name, timeout_s=self._read_s)
        except ResponseError as error:
            raise self._noted(error) from error
        if value is None:
            return None
        try:
            return unpack(value)
        except OtherVersion:
            return None
        except Corrupted:
            lanes.writing.send("DEL", name)
            return None

    def put(
        self, key: str, answer: CachedAnswer, *, ttl_s: int, done: Callable[[], None] = lambda: None
    ) -> None:
        """Keep an answer for `ttl_s` seconds, in the background; `done` is called when that is over.

        What is too long is not kept, nor what comes while the writes that wait are too many or the key's node
        is away.
        """
        value = pack(answer)
        size = len(value) + _WRITE_OVERHEAD_BYTES
        if len(value) > MOST_BYTES or self._waiting_bytes + size > _MOST_WAITING_BYTES:
            done()
            return
        name = PREFIX + key
        try:
            reply = self._of(name).writing.send("SET", name, value, "EX", ttl_s)
        except DependencyDown:
            done()
            return
        self._waiting_bytes += size

        def written(reply: asyncio.Future[Any]) -> None:
            self._waiting_bytes -= size
            if not reply.cancelled() and isinstance(reply.result(), ResponseError):
                self._noted(reply.result())
            done()

        reply.add_done_callback(written)

    async def close(self) -> None:
        """Give up what waits and close every connection, within 2 s."""
        with suppress(TimeoutError):
            async with asyncio.timeout(_CLOSE_S):
                for task in tuple(self._tasks):
                    task.cancel()
                if self._tasks:
                    await asyncio.wait(tuple(self._tasks))
                lanes, self._lanes = self._lanes, {}
                for pair in lanes.values():
                    await pair.close()
                await self._map.close()

    def _of(self, name: str) -> _Lanes:
        node = self._map.node_of(name)
        lanes = self._lanes.get(node.name) if node else None
        if lanes is None:
            self._map.doubt()
            raise DependencyDown("no node is known for this key", place="redis")
        return lanes

    def _noted(self, error: ResponseError) -> DependencyDown:
        if isinstance(error, MovedError):
            self._map.doubt()
        return DependencyDown(type(error).__name__, place="redis")

    def _map_changed(self) -> None:
        """Lanes for the nodes there are now, each with a fresh connection: the look-up discards the old."""
        nodes = {node.name: node for node in self._map.nodes}
        for name, lanes in list(self._lanes.items()):
            if nodes.get(name) is not lanes.reading.node:
                self._drop(name, lanes)
        for name, node in nodes.items():
            if name not in self._lanes:
                self._lanes[name] = self._make_lanes(node)
            self._lanes[name].connect(anew=True)

    def _drop(self, name: str, lanes: _Lanes) -> None:
        del self._lanes[name]
        for told in (_reads(name), _writes(name)):
            self._watch(told)("closed")  # no longer a part of the cluster, so no longer missing
        self._do(lanes.close())

    def _make_lanes(self, node: ClusterNode) -> _Lanes:
        told = self._watch(_reads(node.name))

        def on_state(state: str) -> None:
            told(state)
            if state == "opened":
                self._map.doubt()

        reading = Dependency(_reads(node.name), timeout_s=self._read_s, on_state=on_state)
        writes = _writes(node.name)
        writing = Dependency(writes, timeout_s=_WRITE_S, on_state=self._watch(writes))
        return _Lanes(Lane(node, reading), Lane(node, writing))

    async def _keep_connected(self) -> None:
        """A node that came back is found before the next request needs it."""
        while True:
            await asyncio.sleep(_KNOCK_S)
            for lanes in self._lanes.values():
                lanes.connect()

    def _do(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _reads(node: str) -> str:
    """A node's look-ups in the metrics and the log."""
    return f"redis {node}"


def _writes(node: str) -> str:
    return f"redis {node} (writes)"


def _address(node: str) -> tuple[str, int]:
    host, _, port = node.rpartition(":")
    if not host or not port.isdecimal():
        raise UsageError(f"'{node}' is not HOST:PORT", place="services.redis.nodes")
    host = host.removeprefix("[").removesuffix("]")
    # redis-py resolves this one name itself, and blocks the event loop meanwhile.
    return "127.0.0.1" if host == "localhost" else host, int(port)


def _password(addresses: ServiceAddresses) -> str | None:
    variable, file = addresses.redis_password_env, addresses.redis_password_file
    if variable is not None:
        found = os.environ.get(variable)
        if not found:
            raise MissingError(
                "Redis's password is not set",
                place=f"${variable}",
                remedy=f"Set {variable}, or unset password_env.",
            )
        return found
    if file is None:
        return None
    try:
        return Path(file).read_text(encoding="utf-8").strip()
    except OSError as error:
        raise MissingError(
            f"Redis's password cannot be read: {error.strerror}", place=file, remedy="Make the file readable."
        ) from error
