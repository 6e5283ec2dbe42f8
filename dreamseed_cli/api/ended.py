"""What the gateway is told of a request that ended at the front. Never its texts, nor its caller's key."""

from __future__ import annotations

import time

from dreamseed_cli.api.translate import Asked
from dreamseed_cli.gateway.accounts.keys import key_hash
from dreamseed_cli.gateway.call import PriorityClass
from dreamseed_cli.gateway.events.record import UNKNOWN_PRIORITY, Outcome
from dreamseed_cli.gateway.front.fields import LONGEST_NAME
from dreamseed_cli.gateway.proto.front_pb2 import EndedRequest


def ended_request(
    event_id: str, request_id: str, key: str | None, asked: Asked | None, elapsed_s: float, outcome: Outcome
) -> EndedRequest:
    """key: what its caller showed, if anything; the gateway adds the user, whom it alone knows. asked: None
    where that was never understood. elapsed_s: how long it took until now.
    """
    message = asked.message if asked is not None else None
    return EndedRequest(
        event_id=event_id,
        request_id=request_id,
        key_hash=key_hash(key) if key is not None else None,
        outcome=outcome.value,
        priority=PriorityClass(message.priority).label if message is not None else UNKNOWN_PRIORITY,
        workload=message.workload[:LONGEST_NAME].replace("\0", "") if message is not None else None,
        arrived_at=time.time() - elapsed_s,
        duration_s=elapsed_s,
    )
