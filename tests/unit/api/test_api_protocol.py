"""What of OpenAI's requests is read, refused by name, or passed over."""

from __future__ import annotations

import json
from typing import Any

import pytest
from openai.types import completion_create_params as text_params
from openai.types.chat import completion_create_params as chat_params

from dreamseed_cli.api.errors import ApiError
from dreamseed_cli.api.protocol import ChatRequest, Parser, TextRequest

_CHAT = Parser(ChatRequest)
_TEXT = Parser(TextRequest)
_MESSAGES = [{"role": "user", "content": "Hi"}]


def _chat(**more: Any) -> Any:
    return _CHAT.parse(json.dumps({"model": "m", "messages": _MESSAGES} | more).encode())


def _text(**more: Any) -> Any:
    return _TEXT.parse(json.dumps({"model": "m", "prompt": "Hi"} | more).encode())


def test_every_parameter_of_openais_client_is_known() -> None:
    """A parameter that the client can send is served, or refused as not served, never as unknown."""
    for params, kind in ((chat_params, ChatRequest), (text_params, TextRequest)):
        named = set(params.CompletionCreateParamsBase.__annotations__)
        assert named <= set(kind.__struct_fields__)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("n", 2),
        ("n", True),
        ("logprobs", True),
        ("top_logprobs", 3),
        ("frequency_penalty", 0.1),
        ("presence_penalty", -1),
        ("logit_bias", {"5": 100}),
        ("tools", [{}]),
        ("tool_choice", "required"),
        ("functions", [{}]),
        ("response_format", {"type": "json_object"}),
        ("response_format", {"type": "json_schema", "json_schema": {}}),
        ("modalities", ["text", "audio"]),
        ("audio", {}),
        ("prediction", {}),
        ("reasoning_effort", "high"),
        ("service_tier", "flex"),
        ("store", True),
        ("min_p", 0.1),
        ("guided_json", {}),
    ],
)
def test_what_is_not_served_is_refused_by_name(name: str, value: Any) -> None:
    """400 with the parameter, so that nobody takes an answer for what it is not."""
    with pytest.raises(ApiError) as caught:
        _chat(**{name: value})
    assert (caught.value.status, caught.value.param) == (400, name)
    assert caught.value.code == "unsupported_parameter"


@pytest.mark.parametrize(
    ("name", "value"), [("best_of", 2), ("echo", True), ("suffix", "x"), ("logprobs", 1)]
)
def test_the_older_interface_refuses_its_own(name: str, value: Any) -> None:
    """The same for parameters that only /v1/completions has."""
    with pytest.raises(ApiError) as caught:
        _text(**{name: value})
    assert caught.value.param == name


def test_neutral_values_ask_for_nothing() -> None:
    """They are what OpenAI does without them; null is unset everywhere."""
    _chat(n=1, logprobs=False, top_logprobs=0, tools=[], tool_choice="auto", store=False, logit_bias={})
    _chat(frequency_penalty=0.0, presence_penalty=0, response_format={"type": "text"}, modalities=["text"])
    _text(best_of=1, echo=False, suffix="", n=1)
    for kind, ask in ((ChatRequest, _chat), (TextRequest, _text)):
        needed = {"model", "messages", "prompt"}
        ask(**{name: None for name in kind.__struct_fields__ if name not in needed})


@pytest.mark.parametrize(
    ("body", "param"),
    [
        (b'{"messages": []}', "model"),
        (b'{"model": "m"}', "messages"),
        (b'{"model": 5, "messages": []}', "model"),
        (b'{"model": "m", "messages": {}}', "messages"),
        (b'{"model": "m", "messages": [{"content": "x"}]}', "role"),
        (b'{"model": "m", "messages": [], "max_tokens": "many"}', "max_tokens"),
        (b'{"model": "m", "messages": [], "temperature": [1]}', "temperature"),
        (b'{"model": "m", "messages": [], "stream": "yes"}', "stream"),
        (b"[]", None),
        (b"[" * 100_000, None),
    ],
)
def test_a_wrong_shape_names_its_place(body: bytes, param: str | None) -> None:
    """400, with the field where there is one."""
    with pytest.raises(ApiError) as caught:
        _CHAT.parse(body)
    assert (caught.value.status, caught.value.param) == (400, param)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"\0",
        b'{"model":"\xff"}',
        b'{"model":"\\ud800"}',
        b'{"model":NaN}',
        b'{"tools":' + b"[" * 100_000,
    ],
)
def test_what_is_not_json_is_said_to_be_none(body: bytes) -> None:
    """Cut, not UTF-8, nested without end, half a surrogate pair: 400, and nothing of it in the message."""
    with pytest.raises(ApiError) as caught:
        _CHAT.parse(body)
    assert (caught.value.status, caught.value.code) == (400, "invalid_json")
    assert caught.value.cause == "the body is not JSON"
