"""A gateway's event log without the gateway: begins and ends requests until it is killed.

argv: ServiceAddresses as JSON, and how many events to write (0: only what an earlier writer left).
What was begun and what was ended goes to stdout, a line each, after the call returned.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from random import Random

import uvloop

from dreamseed_cli.core.log import configure_logging
from dreamseed_cli.gateway.events.log import EventLog
from dreamseed_cli.gateway.events.record import Outcome, RequestRecord
from dreamseed_cli.gateway.metrics import GatewayMetrics
from dreamseed_cli.gateway.settings import ServiceAddresses

_AT_ONCE = 8
_USERS = 12
_CHANCE = Random()  # noqa: S311 - no secret


async def _write(services: ServiceAddresses, count: int) -> None:
    log = EventLog(services, GatewayMetrics(), simulated=True, segment_bytes=64 << 10)
    await log.open()
    open_requests: list[tuple[str, str]] = []
    for number in range(count):
        user = f"user-{number % _USERS}"
        event_id = log.begin(
            request_id=f"req-{number}",
            user_id=user,
            priority="standard",
            workload="question",
            model="m",
            arrived_at=time.time(),
        )
        _say("begun", event_id, user)
        open_requests.append((event_id, user))
        if len(open_requests) >= _AT_ONCE:
            # The first one stays open, over many segments.
            _end(log, *open_requests.pop(_CHANCE.randrange(1, _AT_ONCE)))
        if number % 4 == 0:
            await asyncio.sleep(0.002)
    for request in open_requests:
        _end(log, *request)
    await log.close(30)


def _end(log: EventLog, event_id: str, user: str) -> None:
    outcome = _CHANCE.choice(list(Outcome))
    record = RequestRecord(
        event_id,
        f"of-{event_id}",
        user,
        outcome,
        time.time(),
        0.1,
        "standard",
        "question",
        "m",
        simulated=True,
    )
    log.end(record)
    _say("ended", event_id, user)


def _say(what: str, event_id: str, user: str) -> None:
    os.write(1, f"{what} {event_id} {user}\n".encode())


if __name__ == "__main__":
    configure_logging()
    uvloop.run(_write(ServiceAddresses.model_validate_json(sys.argv[1]), int(sys.argv[2])))
