"""Does the damage, to proven processes only, and undoes it."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Sequence

import aiohttp
import msgspec

from dreamseed_cli.chaos.faults import Fault
from dreamseed_cli.core.errors import FailedError
from dreamseed_cli.core.processes import signal_all
from dreamseed_cli.engine.emulated.faults import FaultOrder
from dreamseed_cli.engine.types import Endpoint
from dreamseed_cli.supervisor.state import ChildRecord

_TIMEOUT = aiohttp.ClientTimeout(total=5.0)
_ROUTE = "http://engine/control/fault"


def inject(fault: Fault, children: Sequence[ChildRecord]) -> None:
    """Strike the children. FailedError if one does not take it. Not for use inside an event loop."""
    for child in children:
        if fault.signum is not None:
            signal_all(child.members, fault.signum)
        elif fault.order is not None:
            asyncio.run(_tell(child, fault.order))
        else:
            heal(child)


def heal(child: ChildRecord) -> None:
    """Let an engine go on if it was frozen, and end what it was told. FailedError if it does not answer."""
    signal_all([member for member in child.members if member.paused()], signal.SIGCONT)
    asyncio.run(_tell(child, None))


async def _tell(child: ChildRecord, order: FaultOrder | None) -> None:
    """Give an engine an order; None takes all of them back."""
    body = None if order is None else msgspec.json.encode(order)
    connector = aiohttp.UnixConnector(str(Endpoint.parse(child.endpoint).socket))
    try:
        async with (
            aiohttp.ClientSession(connector=connector, timeout=_TIMEOUT) as session,
            session.request("POST" if order else "DELETE", _ROUTE, data=body) as response,
        ):
            response.raise_for_status()
    except (aiohttp.ClientError, OSError, TimeoutError) as error:
        raise FailedError(
            f"the engine did not take the order: {error or type(error).__name__}",
            place=f"{child.name}: {child.endpoint}",
            remedy="See its state with: dreamseed status.",
        ) from error
