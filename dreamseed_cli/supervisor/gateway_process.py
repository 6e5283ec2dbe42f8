"""The gateway as a child: started, kept told which replicas are ready, drained, stopped."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path

import structlog

from dreamseed_cli.core.errors import DreamseedError, FailedError
from dreamseed_cli.core.processes import ProcessIdentity
from dreamseed_cli.gateway.address import dial_address
from dreamseed_cli.gateway.settings import GatewaySettings, ReplicaTarget
from dreamseed_cli.supervisor.child import Child, ChildSpec
from dreamseed_cli.supervisor.gateway_admin import GatewayAdmin, ReplicaCounts
from dreamseed_cli.supervisor.snapshot import GatewaySnapshot

_START_TIMEOUT_S = 60.0
_POLL_S = 0.1
_RETRY_S = 1.0
_LAST_WORDS = 8

log = structlog.get_logger("supervisor")


class GatewayProcess:
    """Make and use it inside a running event loop."""

    def __init__(
        self,
        spec: ChildSpec,
        settings: GatewaySettings,
        *,
        on_start: Callable[[], None],
        on_serving: Callable[[str], None],
    ) -> None:
        self.child: Child | None = None
        self._spec = spec
        self._host = settings.gateway.host
        self._admin = GatewayAdmin(Path(settings.admin_socket))
        self._on_start = on_start
        self._on_serving = on_serving
        self._state = "waiting"
        self._launched = asyncio.Event()
        self._address: str | None = None
        self._table: Sequence[ReplicaTarget] = settings.replicas
        self._table_changed = asyncio.Event()
        self._counts: dict[str, ReplicaCounts] = {}

    async def run(self) -> None:
        """Start it and watch it; returns after `stop`, raises FailedError if it ends before."""
        try:
            self.child = await Child.start(self._spec)
        finally:
            self._launched.set()
        if self._state == "waiting":
            self._state = "starting"
        self._on_start()
        ended = asyncio.create_task(self.child.wait())
        served = asyncio.create_task(self._serve_table())
        try:
            await asyncio.wait({ended, served}, return_when=asyncio.FIRST_COMPLETED)
            if not ended.done():
                served.result()  # it only ends by an error
        finally:
            ended.cancel()
            served.cancel()
        if self._state in {"starting", "serving"}:
            raise self._died(self.child)

    def set_table(self, targets: Sequence[ReplicaTarget]) -> None:
        """Have the gateway told, now or as soon as it listens; only the latest table counts."""
        self._table = targets
        self._table_changed.set()

    async def observe(self) -> None:
        """Read its counts; keeps the last ones if it does not answer."""
        if self._state in {"serving", "draining"}:
            try:
                self._counts = dict((await self._admin.stats()).replicas)
            except DreamseedError as error:
                log.debug("gateway_stats_missed", cause=str(error))

    def counts(self, replica: str) -> ReplicaCounts | None:
        return self._counts.get(replica)

    async def stop(self, hasten: asyncio.Event) -> tuple[ProcessIdentity, ...]:
        """Let it drain and end, within bounds; returns who outlived even SIGKILL."""
        self._state = "draining"
        await self._launched.wait()
        survivors = await self.child.stop(hasten) if self.child else ()
        self._state = "stopped"
        return survivors

    async def close(self) -> None:
        await self._admin.close()

    def snapshot(self) -> GatewaySnapshot:
        pid = self.child.identity.pid if self.child and self.child.exit_code is None else None
        return GatewaySnapshot(self._state, self._address, pid)

    async def _serve_table(self) -> None:
        """Wait until it listens, then hand over every new table."""
        try:
            async with asyncio.timeout(_START_TIMEOUT_S):
                port = await self._port()
        except TimeoutError:
            raise FailedError(
                f"the gateway does not listen after {_START_TIMEOUT_S:.0f} s",
                place=str(self._spec.log),
                remedy="See its log with: dreamseed logs gateway.",
            ) from None
        self._address = dial_address(self._host, port)
        if self._state == "starting":
            self._state = "serving"
        self._on_serving(self._address)
        while True:
            await self._table_changed.wait()
            self._table_changed.clear()
            await self._push_table()

    async def _port(self) -> int:
        while True:
            try:
                return (await self._admin.stats()).port
            except DreamseedError:
                await asyncio.sleep(_POLL_S)

    async def _push_table(self) -> None:
        try:
            await self._admin.set_replicas(self._table)
        except DreamseedError as error:
            if self._state == "serving":
                log.warning("replica_table_not_taken", cause=str(error))
            self._table_changed.set()
            await asyncio.sleep(_RETRY_S)

    def _died(self, child: Child) -> FailedError:
        lines = child.last_lines(_LAST_WORDS)
        said = "; its last lines:\n" + "\n".join(f"  {line}" for line in lines) + "\n" if lines else ""
        return FailedError(
            f"the gateway ended with code {child.exit_code}{said}",
            place="gateway",
            remedy="See its log with: dreamseed logs gateway.",
        )
