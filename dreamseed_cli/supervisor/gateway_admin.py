"""The supervisor's side of the gateway's admin interface, on its Unix socket."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import msgspec

from dreamseed_cli.core.errors import FailedError
from dreamseed_cli.gateway.doorway import DoorOrder
from dreamseed_cli.gateway.settings import ReplicaTarget
from dreamseed_cli.profile.schema import Gateway

_TIMEOUT = aiohttp.ClientTimeout(total=5.0)


class ReplicaCounts(msgspec.Struct, frozen=True):
    """What the gateway counted for one replica since its start."""

    name: str
    finished: int = 0
    failed: int = 0
    busy: int = 0
    tokens: int = 0
    outstanding: int = 0
    progress: int = 0
    """Grows with every piece of an answer that arrives from it."""
    moved: int = 0
    continued: int = 0
    cut: int = 0
    """Requests that it failed: begun anew elsewhere, gone on elsewhere, ended midway."""


class _Stats(msgspec.Struct, frozen=True):
    port: int
    replicas: tuple[ReplicaCounts, ...] = ()
    calls: int = 0
    journal_bytes: int = 0


@dataclass(frozen=True, slots=True)
class GatewayStats:
    """The gateway's port, its counts by replica name, and what it still has to do."""

    port: int
    replicas: Mapping[str, ReplicaCounts]
    calls: int = 0
    """Calls under way."""
    journal_bytes: int = 0
    """Events that PostgreSQL does not have yet."""


class GatewayAdmin:
    """Talks to one gateway. Make it inside a running event loop, close it at the end."""

    def __init__(self, socket: Path) -> None:
        self._place = str(socket)
        self._session = aiohttp.ClientSession(connector=aiohttp.UnixConnector(str(socket)), timeout=_TIMEOUT)

    async def stats(self) -> GatewayStats:
        """The gateway's counts. FailedError if it does not answer."""
        return _stats(await self._call("GET", "/stats"))

    async def set_doorway(self, order: DoorOrder) -> GatewayStats:
        """Have it let in whom the order says. FailedError if it does not answer."""
        return _stats(await self._call("PUT", "/doorway", order.model_dump(mode="json")))

    async def set_replicas(self, targets: Sequence[ReplicaTarget]) -> None:
        """Replace the gateway's replica table. FailedError if it does not answer."""
        await self._call("PUT", "/replicas", [target.model_dump() for target in targets])

    async def set_settings(self, gateway: Gateway) -> None:
        """Have it go by these settings. FailedError if it does not answer, or if one of them that differs
        from what it runs with is only read at its start.
        """
        await self._call("PUT", "/settings", gateway.model_dump(mode="json"))

    async def metrics(self) -> bytes:
        """What it counts, for Prometheus. FailedError if it does not answer."""
        return await self._call("GET", "/metrics")

    async def close(self) -> None:
        await self._session.close()

    async def _call(self, method: str, path: str, body: object = None) -> bytes:
        try:
            async with self._session.request(method, f"http://gateway{path}", json=body) as response:
                content = await response.read()
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise FailedError(f"the gateway does not answer: {error}", place=self._place) from error
        if response.status >= 300:
            raise FailedError(
                f"the gateway answered HTTP {response.status} to {method} {path}{_said(content)}",
                place=self._place,
            )
        return content


def _stats(body: bytes) -> GatewayStats:
    told = msgspec.json.decode(body, type=_Stats)
    counts = {replica.name: replica for replica in told.replicas}
    return GatewayStats(told.port, counts, told.calls, told.journal_bytes)


class _Complaint(msgspec.Struct, frozen=True):
    cause: str = ""
    msg: str = ""


class _Refusal(msgspec.Struct, frozen=True):
    errors: tuple[_Complaint, ...] = ()


def _said(content: bytes) -> str:
    """What a refusal says, to be put behind its status; nothing if it does not say it in our way."""
    try:
        errors = msgspec.json.decode(content, type=_Refusal).errors
    except msgspec.DecodeError:
        return ""
    words = "; ".join(error.cause or error.msg for error in errors)
    return f": {words}" if words else ""
