"""Whether a flight's failure is also that of a passenger who only came along. Pure."""

from __future__ import annotations

from dreamseed_cli.engine.types import EngineTimeout, EngineUnavailable
from dreamseed_cli.gateway.call import Call
from dreamseed_cli.gateway.refusals import DeadlineUnmeetable, QueueFull, Refusal


def may_ask_again(failure: Exception, flown: Call, call: Call, *, begun: bool) -> bool:
    """Whether `call` may do better with a generation of its own than `flown`, which failed.

    begun: whether the generation had given a part of its answer; `call` itself has got no text of it.
    A refusal belongs to the class, the deadline or the user of the call that was refused. An engine's failure
    belongs to the request, which is the same, unless it came in mid-answer.
    """
    other_class = call.priority != flown.priority
    more_time = call.deadline > flown.deadline
    if isinstance(failure, QueueFull):
        return other_class
    if isinstance(failure, DeadlineUnmeetable):
        return other_class or more_time
    if isinstance(failure, Refusal):
        return call.user_id != flown.user_id
    if isinstance(failure, EngineTimeout):
        return more_time
    return begun and isinstance(failure, EngineUnavailable)
