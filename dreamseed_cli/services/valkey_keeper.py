"""Looks after the embedded Valkey nodes: their files, their answers, and that they are one cluster."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import structlog
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from dreamseed_cli.core.threads import in_daemon_thread
from dreamseed_cli.services.keeping import NoAnswer, RunStep
from dreamseed_cli.services.leftovers import end_leftovers
from dreamseed_cli.services.secret import ensure_password, write_private
from dreamseed_cli.services.valkey import NodeView, ValkeyNode, formation, must_form

_ANSWER_S = 1.0
_PATIENCE_S = 20.0
"""How long a cluster may be broken before it is made anew: a node that returns is part of it in two."""
_SETTLING_S = 10.0
"""How long nodes that were just made one cluster are left to agree."""

log = structlog.get_logger("supervisor")


class ValkeyCluster:
    """The nodes together. Make it inside a running event loop."""

    def __init__(self, nodes: Sequence[ValkeyNode], password_file: Path) -> None:
        self.nodes = tuple(nodes)
        self._password_file = password_file
        self._password = ""
        self._mending = asyncio.Lock()
        self._leave_until = float("-inf")

    def password(self) -> str:
        """Made at its first use."""
        self._password = self._password or ensure_password(self._password_file)
        return self._password

    async def view(self, node: ValkeyNode) -> NodeView:
        """What a node says. Raises NoAnswer, after a second at the latest."""
        return NodeView.parse(await self._ask(node, "CLUSTER", "INFO"))

    async def mend(self, now: float, *, broken_s: float) -> None:
        """Make the nodes one cluster if they all answer and are none, or not any more.

        now: monotonic seconds. broken_s: for how long one of them has not been in a whole cluster. Raises
        NoAnswer if one of them does not answer.
        """
        if self._mending.locked() or now < self._leave_until:
            return
        async with self._mending:
            views = [await self.view(node) for node in self.nodes]
            if must_form(views, broken_s=broken_s, patience_s=_PATIENCE_S):
                log.info("valkey_cluster_forms", nodes=[node.address for node in self.nodes])
                self._leave_until = now + _SETTLING_S
                for node, command in formation(self.nodes):
                    await self._ask(node, *command)

    async def _ask(self, node: ValkeyNode, *command: str) -> Any:
        client = Redis(
            host="127.0.0.1",
            port=node.port,
            password=self.password(),
            decode_responses=True,
            retry=Retry(NoBackoff(), 0),
        )
        try:
            async with asyncio.timeout(_ANSWER_S):
                return await cast("Any", client).execute_command(*command)
        except (RedisError, OSError, TimeoutError) as error:
            raise NoAnswer(str(error) or f"no answer within {_ANSWER_S:.0f} s", place=node.address) from error
        finally:
            await client.aclose()


class ValkeyKeeper:
    """One node of the cluster."""

    def __init__(self, cluster: ValkeyCluster, node: ValkeyNode) -> None:
        self._cluster = cluster
        self._node = node
        self._has_joined = False
        self._broken_since: float | None = None

    async def prepare(self, run: RunStep) -> None:
        """Write its configuration. A node that never was part of this cluster starts as a new one."""
        node = self._node
        await in_daemon_thread(lambda: end_leftovers(node.folder, "valkey-server", ask=signal.SIGTERM))
        node.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_private(node.config_file, node.config(self._cluster.password()))
        if not self._has_joined:
            node.cluster_file.unlink(missing_ok=True)
        self._has_joined = False
        self._broken_since = None

    async def probe(self) -> str | None:
        """Whether it answers, and whether it is one of a cluster that serves."""
        if (await self._cluster.view(self._node)).whole:
            self._has_joined, self._broken_since = True, None
            return None
        now = asyncio.get_running_loop().time()
        self._broken_since = now if self._broken_since is None else self._broken_since
        try:
            await self._cluster.mend(now, broken_s=now - self._broken_since)
        except NoAnswer as error:
            return f"its cluster waits for {error.place}"
        return "the nodes are becoming one cluster"
