"""The gateway as a child: started, kept told which replicas are ready, restarted, drained, stopped."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

import structlog

from dreamseed_cli.core.errors import DreamseedError, FailedError
from dreamseed_cli.core.waiting import set_within
from dreamseed_cli.gateway.address import dial_address
from dreamseed_cli.gateway.doorway import DoorOrder
from dreamseed_cli.gateway.settings import GatewaySettings, ReplicaTarget
from dreamseed_cli.supervisor.adoption import AdoptedChild, adopt_or_start
from dreamseed_cli.supervisor.child import Child, ChildSpec, Stopped, at_once, how_it_ended
from dreamseed_cli.supervisor.gateway_admin import GatewayAdmin, GatewayStats, ReplicaCounts
from dreamseed_cli.supervisor.snapshot import GatewaySnapshot
from dreamseed_cli.supervisor.state import ChildRecord

_START_TIMEOUT_S = 60.0
_POLL_S = 0.1
_RETRY_S = 1.0
_LAST_WORDS = 8
_LOOK_S = 1.0
_HANG_S = 10.0
_FIRST_WAIT_S = 0.1
"""Its callers' connections are cut: every second without it is one without service."""
_STABLE_S, _MOST_FAILURES = 60.0, 8

log = structlog.get_logger("supervisor")


class GatewayProcess:
    """Make and use it inside a running event loop.

    pin_port: called with the port of its first start, so that it comes back on the same one.
    on_change: told its state, why, and a detail for people.
    """

    def __init__(
        self,
        spec: ChildSpec,
        settings: GatewaySettings,
        *,
        on_start: Callable[[], None],
        on_serving: Callable[[str], None],
        pin_port: Callable[[int], None] = lambda _: None,
        on_change: Callable[[str, str, str], None] = lambda *_: None,
        left: Mapping[str, ChildRecord] = MappingProxyType({}),
    ) -> None:
        self.child: Child | None = None
        self._spec = spec
        self._settings = settings
        self._left = left
        self._host = settings.gateway.host
        self._admin = GatewayAdmin(Path(settings.admin_socket))
        self._on_start = on_start
        self._on_serving = on_serving
        self._on_change = on_change
        self._pin_port = pin_port
        self._state = "waiting"
        self._launching = asyncio.Lock()
        self._stopping = asyncio.Event()
        self._address: str | None = None
        self._port_now: int | None = None
        self._table: Sequence[ReplicaTarget] = settings.replicas
        self._table_changed = asyncio.Event()
        self._counts: dict[str, ReplicaCounts] = {}
        self._failures = 0
        self._heard_at = 0.0

    async def run(self) -> None:
        """Keep it running until `stop`. Raises FailedError if it never listens, or ends again and again."""
        while not self._stopping.is_set():
            started = time.monotonic()
            how = await self._run_once()
            if self._stopping.is_set():
                return
            stable = time.monotonic() - started >= _STABLE_S
            self._failures = 1 if stable else self._failures + 1
            if self._address is None or self._failures >= _MOST_FAILURES:
                raise self._died(how)
            self._enter("restarting", "hung" if self._state == "hung" else "exited", how)
            await set_within(self._stopping, _FIRST_WAIT_S * 2.0 ** (self._failures - 1))

    async def _run_once(self) -> str:
        """One process from its start to its end; how it ended."""
        try:
            child = await self._launch()
        except OSError as error:
            return f"the gateway cannot be started: {error}"
        if child is None:
            return ""
        await self._attend(child)
        if not self._stopping.is_set():
            await child.sweep(at_once())
        return self._how(child)

    async def _launch(self) -> Child | None:
        async with self._launching:
            if self._stopping.is_set():
                return None
            self.child = child = await adopt_or_start(self._spec, self._left)
        self._counts = {}
        if self._state == "waiting":
            self._enter("starting", "launched", "")
        self._on_start()
        return child

    async def _attend(self, child: Child) -> None:
        """Tell it the tables until it has ended."""
        ended = asyncio.create_task(child.wait())
        served = asyncio.create_task(self._serve_table())
        try:
            await asyncio.wait({ended, served}, return_when=asyncio.FIRST_COMPLETED)
            if not ended.done():
                served.result()  # it only ends by an error
        finally:
            ended.cancel()
            served.cancel()

    def _enter(self, state: str, reason: str, detail: str) -> None:
        self._state = state
        self._on_change(state, reason, detail)

    def take(self, spec: ChildSpec, settings: GatewaySettings) -> None:
        """Start and stop it like this from now on; the running one has been told the settings."""
        self._spec, self._settings = spec, settings
        if self.child is not None:
            self.child.spec = spec
        if self._port_now is not None:
            self._pin_port(self._port_now)

    def set_table(self, targets: Sequence[ReplicaTarget]) -> None:
        """Have the gateway told, now or as soon as it listens; only the latest table counts."""
        self._table = targets
        self._table_changed.set()

    async def observe(self) -> None:
        """Read its counts; keeps the last ones if it does not answer. One that hangs is killed."""
        if self._state not in {"serving", "draining"}:
            return
        try:
            async with asyncio.timeout(_LOOK_S):
                self._counts = dict((await self._admin.stats()).replicas)
        except (DreamseedError, TimeoutError) as error:
            log.debug("gateway_stats_missed", cause=str(error))
            if self._state == "serving" and time.monotonic() - self._heard_at >= _HANG_S:
                await self._kill_hung()
        else:
            self._heard_at = time.monotonic()

    async def _kill_hung(self) -> None:
        child = self.child
        if child is not None and child.exit_code is None:
            self._enter("hung", "no_answer", f"it has not answered for {_HANG_S:.0f} s")
            await child.stop(at_once())

    def counts(self, replica: str) -> ReplicaCounts | None:
        return self._counts.get(replica)

    async def set_doorway(self, order: DoorOrder) -> GatewayStats:
        """Have it let in whom the order says. FailedError if it does not answer."""
        return await self._admin.set_doorway(order)

    async def drain_within(self, seconds: float) -> None:
        """Give running calls no longer than that when it stops, if it still listens."""
        gateway = self._settings.gateway
        if self._state == "serving" and seconds < gateway.drain_timeout_s:
            try:
                await self._admin.set_settings(gateway.model_copy(update={"drain_timeout_s": seconds}))
            except DreamseedError as error:
                log.warning("gateway_settings_not_taken", cause=str(error))

    async def stop(self, hasten: asyncio.Event) -> Stopped:
        """Let it drain and end, within bounds."""
        self._enter("draining", "stop_requested", "")
        self._stopping.set()
        async with self._launching:
            child = self.child
        stopped = await child.stop(hasten) if child else Stopped()
        self._enter("stopped", "ended", "")
        return stopped

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
        if self._address is None:
            self._address = dial_address(self._host, port)
            self._port_now = port
            self._pin_port(port)
        self._heard_at = time.monotonic()
        if self._state in {"starting", "restarting"}:
            self._enter("serving", "answered", "")
        self._on_serving(self._address)
        if isinstance(self.child, AdoptedChild):
            # It goes on with the table it has until a replica proves itself; its rules may be old ones.
            await self._push_settings()
        else:
            self._table_changed.set()  # a new process knows only the table it was started with
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

    async def _push_settings(self) -> None:
        try:
            await self._admin.set_settings(self._settings.gateway)
        except DreamseedError as error:
            log.warning("gateway_settings_not_taken", cause=str(error))

    async def _push_table(self) -> None:
        try:
            await self._admin.set_replicas(self._table)
        except DreamseedError as error:
            if self._state == "serving":
                log.warning("replica_table_not_taken", cause=str(error))
            self._table_changed.set()
            await asyncio.sleep(_RETRY_S)

    def _how(self, child: Child) -> str:
        lines = child.quoted_lines(_LAST_WORDS)
        said = f"; its last lines:\n{lines}\n" if lines else ""
        return f"the gateway {how_it_ended(child.exit_code)}{said}"

    def _died(self, how: str) -> FailedError:
        often = f" ({self._failures} times in a row)" if self._failures > 1 else ""
        return FailedError(
            f"{how}{often}",
            place="gateway",
            remedy="See its log with: dreamseed logs gateway.",
        )
