"""Which node has which key: the cluster's map, looked up in the background and again when it proves wrong."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

import structlog
from redis.asyncio.cluster import ClusterNode, RedisCluster
from redis.exceptions import RedisError

_log = structlog.get_logger(__name__)
_SOCKET_S = 0.5
_LOOKUP_S = 4.0
_RETRY_S = 1.0
_PAUSE_S = 5.0


class ClusterMap:
    """A Redis Cluster's map. Only this asks redis-py's cluster client for it; commands go to nodes directly.

    (The client itself would look the map up on the way of whichever command failed, for all commands.)

    nodes: (host, port) of some nodes. on_change: called after every successful look-up.
    on_state: told `closed` when the cluster is found, `opened` when it is not.
    """

    def __init__(
        self,
        nodes: Sequence[tuple[str, int]],
        *,
        password: str | None,
        tls: bool,
        on_change: Callable[[], None],
        on_state: Callable[[str], None],
    ) -> None:
        self._client = RedisCluster(
            startup_nodes=[ClusterNode(host, port) for host, port in nodes],
            password=password,
            ssl=tls,
            socket_timeout=_SOCKET_S,
            socket_connect_timeout=_SOCKET_S,
            require_full_coverage=False,
            # A cluster that was built anew is only found under the names the operator gave.
            dynamic_startup_nodes=False,
        )
        # For the nodes it will find; those above keep theirs. Their commands are bounded by us, and the
        # client's own bound would cost a task for each (wait_for), which in Python 3.11 can swallow a
        # cancellation.
        self._client.connection_kwargs["socket_timeout"] = None
        self._on_change = on_change
        self._on_state = on_state
        self._found: bool | None = None
        self._wanted = asyncio.Event()

    @property
    def nodes(self) -> list[ClusterNode]:
        """All nodes that may have slots, as last seen."""
        return self._client.get_primaries()

    def node_of(self, key: str) -> ClusterNode | None:
        """The node that has `key`; None while nobody is known to."""
        holders = self._client.nodes_manager.slots_cache.get(self._client.keyslot(key))
        return holders[0] if holders else None

    def doubt(self) -> None:
        """Have the map looked up again soon."""
        self._wanted.set()

    async def tend(self) -> None:
        """Look the map up, and again whenever it is doubted; runs until cancelled."""
        while True:
            self._wanted.clear()
            if not await self._look_up():
                await asyncio.sleep(_RETRY_S)
                continue
            self._on_change()
            # A look-up keeps the event loop busy for some milliseconds: not too often, whatever happens.
            await asyncio.sleep(_PAUSE_S)
            await self._wanted.wait()

    async def close(self) -> None:
        """Close every connection."""
        manager = self._client.nodes_manager
        for which in ("nodes_cache", "startup_nodes"):
            with suppress(RedisError, OSError):
                await manager.aclose(which)

    async def _look_up(self) -> bool:
        manager: Any = self._client.nodes_manager
        try:
            async with asyncio.timeout(_LOOKUP_S):
                await manager.initialize()
                await manager.aclose("startup_nodes")
        except Exception as error:  # noqa: BLE001 - whatever the client trips over, the look-out goes on
            self._tell(found=False, cause=type(error).__name__)
            return False
        self._tell(found=True)
        return True

    def _tell(self, *, found: bool, cause: str | None = None) -> None:
        if found is not self._found:
            self._found = found
            tell = _log.info if found else _log.warning
            tell("redis cluster", found=found, cause=cause)
            self._on_state("closed" if found else "opened")
