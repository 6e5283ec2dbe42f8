"""Which gRPC status a failure becomes."""

from __future__ import annotations

import pytest
from google.rpc.error_details_pb2 import ErrorInfo, RetryInfo
from google.rpc.status_pb2 import Status
from grpc import StatusCode

from dreamseed_cli.core.errors import DreamseedError
from dreamseed_cli.engine.types import EngineBusy, EngineRefused, EngineTimeout, EngineUnavailable
from dreamseed_cli.gateway.continuation import AnswerCut
from dreamseed_cli.gateway.dispatch import NoReplica
from dreamseed_cli.gateway.refusals import (
    CannotVerify,
    DeadlineUnmeetable,
    NotPermitted,
    OverLimit,
    QueueFull,
    Unauthenticated,
)
from dreamseed_cli.gateway.status import error_details, grpc_status, reason
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
        (Unauthenticated("who"), StatusCode.UNAUTHENTICATED),
        (NotPermitted("no"), StatusCode.PERMISSION_DENIED),
        (CannotVerify("away"), StatusCode.UNAVAILABLE),
        (QueueFull("full", retry_after_s=1), StatusCode.RESOURCE_EXHAUSTED),
        (DeadlineUnmeetable("late", retry_after_s=1), StatusCode.RESOURCE_EXHAUSTED),
        (OverLimit("much", retry_after_s=1), StatusCode.RESOURCE_EXHAUSTED),
    ],
)
def test_each_failure_has_its_status(error: DreamseedError, code: StatusCode) -> None:
    """What the caller can mend, what is busy, what is late and what is broken are told apart."""
    assert grpc_status(error)[0] is code


def test_the_caller_does_not_learn_where_engines_listen() -> None:
    """The message has cause and remedy, not the place."""
    error = EngineUnavailable("gone", place="unix:/run/r0.sock", remedy="Try again.")
    assert grpc_status(error)[1] == "gone. Try again."


def test_a_failure_that_says_when_carries_retry_info() -> None:
    """google.rpc.RetryInfo with the seconds, where gRPC clients look for it."""
    ((key, value),) = error_details(QueueFull("full", retry_after_s=1.25))
    status = Status.FromString(value)
    info = RetryInfo()
    assert status.details[0].Unpack(info)
    assert (key, status.code, info.retry_delay.ToMilliseconds()) == ("grpc-status-details-bin", 8, 1250)


def test_an_answer_that_broke_off_carries_what_was_emitted() -> None:
    """google.rpc.ErrorInfo with the tokens, and with the text where a header holds it whole."""
    for text, told in (("half an ans", True), ("x" * 4096, True), ("수" * 1366, False)):
        ((_, value),) = error_details(AnswerCut("cut", emitted=text, tokens=3))
        info = ErrorInfo()
        assert Status.FromString(value).details[0].Unpack(info)
        wanted = {"emitted_tokens": "3"} | ({"emitted_text": text} if told else {})
        assert (info.reason, info.domain, dict(info.metadata)) == ("ANSWER_CUT", "dreamseed", wanted)


def test_other_failures_carry_none() -> None:
    """No invented delay where nobody knows one."""
    assert error_details(EngineBusy("full")) == ()


@pytest.mark.parametrize(
    ("error", "label"),
    [
        (QueueFull("full", retry_after_s=1), "queue_full"),
        (InvalidArgument("top_p", "is 7"), "invalid_argument"),
        (EngineTimeout("late"), "deadline_exceeded"),
        (AnswerCut("cut"), "answer_cut"),
        (NoReplica("none"), "no_replica"),
        (EngineUnavailable("gone"), "engine_unavailable"),
    ],
)
def test_each_failure_has_a_label(error: DreamseedError, label: str) -> None:
    """The same word in metrics and events, and few of them."""
    assert reason(error) == label
