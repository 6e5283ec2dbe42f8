"""Which gRPC status a failure becomes."""

from __future__ import annotations

import pytest
from grpc import StatusCode

from dreamseed_cli.core.errors import DreamseedError
from dreamseed_cli.engine.types import EngineBusy, EngineRefused, EngineTimeout, EngineUnavailable
from dreamseed_cli.gateway.dispatch import AnswerCut, NoReplica
from dreamseed_cli.gateway.status import grpc_status
from dreamseed_cli.gateway.validation import InvalidArgument


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (InvalidArgument("top_p", "is 7"), StatusCode.INVALID_ARGUMENT),
        (EngineRefused("too long", status=400), StatusCode.INVALID_ARGUMENT),
        (EngineRefused("no such model", status=404), StatusCode.UNAVAILABLE),
        (EngineBusy("full"), StatusCode.RESOURCE_EXHAUSTED),
        (EngineTimeout("late"), StatusCode.DEADLINE_EXCEEDED),
        (EngineUnavailable("gone"), StatusCode.UNAVAILABLE),
        (AnswerCut("cut"), StatusCode.UNAVAILABLE),
        (NoReplica("none"), StatusCode.UNAVAILABLE),
    ],
)
def test_each_failure_has_its_status(error: DreamseedError, code: StatusCode) -> None:
    """What the caller can mend, what is busy, what is late and what is broken are told apart."""
    assert grpc_status(error)[0] is code


def test_the_caller_does_not_learn_where_engines_listen() -> None:
    """The message has cause and remedy, not the place."""
    error = EngineUnavailable("gone", place="unix:/run/r0.sock", remedy="Try again.")
    assert grpc_status(error)[1] == "gone. Try again."
