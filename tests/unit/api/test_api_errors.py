"""Failures in OpenAI's shape."""

from __future__ import annotations

import json

import grpc
import pytest

from dreamseed_cli.api.errors import ApiError, Failure, explain

_CODE = grpc.StatusCode


def test_every_status_of_grpc_has_an_answer() -> None:
    """And none above 499 repeats what the gateway or gRPC said: it may name our addresses."""
    for code in _CODE:
        error = explain(Failure(code, "10.1.2.3:50051 said no"))
        assert 400 <= error.status <= 504
        assert error.status < 500 or "10.1.2.3" not in error.cause


@pytest.mark.parametrize(
    ("details", "status", "param"),
    [
        ("max_tokens is 9: allowed are 1 to 5", 400, "max_tokens"),
        ("stop[2] has 300 characters", 400, "stop"),
        ("user_id has 300 characters", 400, "user"),
        ("history has 400 turns", 400, "messages"),
        ("model is 'x': this service has 'y'", 404, "model"),
        ("the context is full", 400, None),
        ("prompter is no field", 400, None),
    ],
)
def test_the_gateways_field_is_named_as_openai_names_it(details: str, status: int, param: str | None) -> None:
    """The first word of the gateway's message is the field."""
    error = explain(Failure(_CODE.INVALID_ARGUMENT, details))
    assert (error.status, error.param, error.cause) == (status, param, details)


def test_a_429_says_when() -> None:
    """Whole seconds rounded up for HTTP, milliseconds for OpenAI's client; at least one."""
    error = explain(Failure(_CODE.RESOURCE_EXHAUSTED, "full", 1.2001))
    assert dict(error.headers()) == {b"retry-after": b"2", b"retry-after-ms": b"1201"}
    assert dict(explain(Failure(_CODE.RESOURCE_EXHAUSTED, "full")).headers())[b"retry-after"] == b"1"


def test_the_body_is_openais() -> None:
    """message, type, param, code, and what is added."""
    body = json.loads(ApiError(403, "no", code="c", param="p").body(more=1))
    assert body == {
        "error": {"message": "no", "type": "permission_error", "param": "p", "code": "c", "more": 1}
    }
