"""OpenAI's requests as they arrive: every field that its clients know, and a few of ours and vLLM's. Pure.

What is not served is declared too, so that it is refused by name when it asks for something, and passed over
when it asks for nothing (`n: 1`, `tools: []`).
"""

from __future__ import annotations

import re
from typing import Any

import msgspec

from dreamseed_cli.api.errors import ApiError

_UNKNOWN_FIELD = re.compile(r"unknown field `([^`]{1,100})`")
_PLACE = re.compile(r"at `\$\.([^`]{1,100})`")
_MISSING = re.compile(r"missing required field `([^`]+)`")


class StreamOptions(msgspec.Struct, frozen=True):
    """Extra keys, such as include_obfuscation, ask for nothing that a client must get."""

    include_usage: bool | None = None


class Common(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What both kinds of completion have. A null is an unset field."""

    model: str
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    max_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    seed: int | None = None
    stop: str | list[str] | None = None
    user: str | None = None
    # Ours.
    priority: str | None = None
    workload: str | None = None
    cache: bool | None = None
    # vLLM's.
    ignore_eos: bool | None = None
    # Not served, or without effect here.
    n: Any = None
    logprobs: Any = None
    frequency_penalty: Any = None
    presence_penalty: Any = None
    logit_bias: Any = None


class ContentPart(msgspec.Struct, frozen=True):
    """One part of a message's content."""

    type: str
    text: str | None = None


class Message(msgspec.Struct, frozen=True):
    """One message. Keys that are not read here are null in what clients echo (`refusal`, `tool_calls`)."""

    role: str
    content: str | list[ContentPart] | None = None
    tool_calls: Any = None
    function_call: Any = None


class ChatRequest(Common, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """POST /v1/chat/completions."""

    messages: list[Message]
    max_completion_tokens: int | None = None
    top_logprobs: Any = None
    tools: Any = None
    tool_choice: Any = None
    parallel_tool_calls: Any = None
    functions: Any = None
    function_call: Any = None
    response_format: Any = None
    modalities: Any = None
    audio: Any = None
    prediction: Any = None
    reasoning_effort: Any = None
    verbosity: Any = None
    web_search_options: Any = None
    moderation: Any = None
    service_tier: Any = None
    store: Any = None
    metadata: Any = None
    safety_identifier: Any = None
    prompt_cache_key: Any = None
    prompt_cache_retention: Any = None
    prompt_cache_options: Any = None


class TextRequest(Common, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """POST /v1/completions."""

    prompt: str | list[Any]
    best_of: Any = None
    echo: Any = None
    suffix: Any = None


_NEUTRAL: dict[str, tuple[Any, ...]] = {
    "n": (None, 1),
    "best_of": (None, 1),
    "logprobs": (None, False),
    "top_logprobs": (None, 0),
    "frequency_penalty": (None, 0),
    "presence_penalty": (None, 0),
    "logit_bias": (None, {}),
    "tools": (None, []),
    "tool_choice": (None, "none", "auto"),
    "functions": (None, []),
    "function_call": (None, "none", "auto"),
    "response_format": (None, {"type": "text"}),
    "modalities": (None, ["text"]),
    "audio": (None,),
    "prediction": (None,),
    "reasoning_effort": (None, "none"),
    "verbosity": (None, "medium"),
    "web_search_options": (None,),
    "moderation": (None,),
    "service_tier": (None, "auto", "default"),
    "store": (None, False),
    "echo": (None, False),
    "suffix": (None, ""),
}


class Parser:
    """Reads one kind of request from its bytes."""

    def __init__(self, kind: type[ChatRequest | TextRequest]) -> None:
        self._decoder = msgspec.json.Decoder(kind)
        self._unserved = [(name, _NEUTRAL[name]) for name in kind.__struct_fields__ if name in _NEUTRAL]

    def parse(self, body: bytes) -> Any:
        """The request. Raises ApiError 400 that names the field; the body's content is never in it."""
        try:
            request = self._decoder.decode(body)
        except msgspec.ValidationError as error:
            raise _wrong_shape(str(error)) from None
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            raise ApiError(400, "the body is not JSON", code="invalid_json") from None
        for name, neutral in self._unserved:
            value = getattr(request, name)
            if value is not None and not _is_neutral(value, neutral):
                raise ApiError(
                    400, f"{name} is not served here: leave it out", code="unsupported_parameter", param=name
                )
        return request


def _is_neutral(value: Any, neutral: tuple[Any, ...]) -> bool:
    # `1 == True` in Python, and `n: true` is not `n: 1`.
    return any(value == known and isinstance(value, bool) is isinstance(known, bool) for known in neutral)


def _wrong_shape(said: str) -> ApiError:
    """msgspec's words name a type and a place, never a value."""
    if unknown := _UNKNOWN_FIELD.search(said):
        name = unknown.group(1)
        return ApiError(
            400, f"{name} is unknown here: leave it out", code="unsupported_parameter", param=name
        )
    found = _MISSING.search(said) or _PLACE.search(said)
    param = found.group(1) if found else None
    return ApiError(400, said, code="invalid_value", param=param)
