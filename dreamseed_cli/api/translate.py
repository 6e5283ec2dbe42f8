"""From OpenAI's request to §D1's message, and to what a fallback is asked. Pure."""

from __future__ import annotations

from typing import Any

import msgspec

from dreamseed_cli.api.errors import ApiError
from dreamseed_cli.api.protocol import ChatRequest, Common, Message, TextRequest
from dreamseed_cli.gateway.proto.llm_pb2 import BATCH, PREMIUM, STANDARD, GenerateRequest, Turn

# proto3 cannot tell an unset temperature from a greedy one, so the front fills in §D1's.
_DEFAULT_TEMPERATURE = 0.7
_INT32 = range(-(2**31), 2**31)
_INT64 = range(-(2**63), 2**63)
_PRIORITIES = {"batch": BATCH, "standard": STANDARD, "premium": PREMIUM}
_SYSTEM = frozenset({"system", "developer"})
_TALKERS = frozenset({"user", "assistant"})


class Asked(msgspec.Struct, frozen=True):
    """One request, understood.

    request: as the client wrote it. message: for the gateway, without request_id.
    """

    request: ChatRequest | TextRequest
    message: GenerateRequest
    streamed: bool
    include_usage: bool


def ask_chat(request: ChatRequest) -> Asked:
    """Messages become system prompt, history and prompt. Raises ApiError 400 naming the field."""
    if request.max_completion_tokens is not None and request.max_tokens is not None:
        raise _invalid("max_tokens", "and max_completion_tokens are one thing: leave one of them out")
    newer = request.max_completion_tokens
    message = _common(request, request.max_tokens if newer is None else newer)
    system, turns = _split(request.messages)
    if system:
        message.system_prompt = "\n\n".join(system)
    message.history.extend(turns[:-1])
    message.prompt = turns[-1].content
    return _asked(request, message)


def ask_text(request: TextRequest) -> Asked:
    """The prompt goes to the model as it is, without a template. Raises ApiError 400 naming the field."""
    message = _common(request, request.max_tokens)
    prompt = request.prompt
    if isinstance(prompt, list):
        if len(prompt) != 1 or not isinstance(prompt[0], str):
            raise _invalid("prompt", "must be one text; token numbers and several prompts are not served")
        prompt = prompt[0]
    message.prompt = prompt
    message.raw = True
    return _asked(request, message)


def for_fallback(asked: Asked, *, model: str, tokens_field: str, max_tokens: int) -> dict[str, Any]:
    """The body for an OpenAI-compatible service: the texts and sampling, and nothing about who asks."""
    request = asked.request
    body: dict[str, Any] = {"model": model}
    if isinstance(request, ChatRequest):
        body[tokens_field] = max_tokens
        body["messages"] = [
            {"role": message.role, "content": _content(f"messages[{index}].content", message)}
            for index, message in enumerate(request.messages)
        ]
    else:
        body["prompt"] = asked.message.prompt
        body["max_tokens"] = max_tokens
    body["temperature"] = _DEFAULT_TEMPERATURE if request.temperature is None else request.temperature
    for name in ("top_p", "seed", "stop"):
        if (value := getattr(request, name)) is not None:
            body[name] = value
    if asked.streamed:
        body |= {"stream": True, "stream_options": {"include_usage": True}}
    return body


def _common(request: Common, max_tokens: int | None) -> GenerateRequest:
    """Everything but the texts."""
    if max_tokens is not None and not 0 < max_tokens < _INT32.stop:
        raise _invalid("max_tokens", "must be 1 or more")
    if request.seed is not None and request.seed not in _INT64:
        raise _invalid("seed", "must fit 64 bits")
    if request.priority is not None and request.priority not in _PRIORITIES:
        raise _invalid("priority", "must be batch, standard or premium")
    stop = [request.stop] if isinstance(request.stop, str) else request.stop or []
    # The gateway lowers the priority to what the user's tier allows.
    return GenerateRequest(
        model=request.model,
        max_tokens=max_tokens or 0,
        temperature=_DEFAULT_TEMPERATURE if request.temperature is None else request.temperature,
        priority=_PRIORITIES[request.priority or "premium"],
        user_id=request.user or "",
        top_p=request.top_p,
        seed=request.seed,
        stop=stop,
        workload=request.workload,
        bypass_cache=True if request.cache is False else None,
        ignore_eos=request.ignore_eos,
    )


def _asked(request: ChatRequest | TextRequest, message: GenerateRequest) -> Asked:
    streamed = bool(request.stream)
    options = request.stream_options
    if options is not None and not streamed:
        raise _invalid("stream_options", "goes with stream: true only")
    return Asked(request, message, streamed, options is not None and bool(options.include_usage))


def _split(messages: list[Message]) -> tuple[list[str], list[Turn]]:
    """System prompts, and the turns, of which the last one is the user's."""
    system: list[str] = []
    turns: list[Turn] = []
    for index, message in enumerate(messages):
        place = f"messages[{index}]"
        content = _content(f"{place}.content", message)
        if message.tool_calls or message.function_call:
            raise _invalid(place, "calls a tool, and tools are not served here")
        if message.role in _SYSTEM and not turns:
            system.append(content)
        elif message.role in _TALKERS:
            turns.append(Turn(role=message.role, content=content))
        else:
            raise _invalid(
                f"{place}.role", "must be system or developer at the beginning, then user or assistant"
            )
    if not turns or turns[-1].role != "user":
        raise _invalid("messages", "must end with one of role user")
    return system, turns


def _content(place: str, message: Message) -> str:
    if isinstance(message.content, str):
        return message.content
    parts = message.content or []
    if not parts or any(part.type != "text" or part.text is None for part in parts):
        raise _invalid(place, "must be a text, or parts of type text")
    return "".join(part.text or "" for part in parts)


def _invalid(param: str, cause: str) -> ApiError:
    return ApiError(400, f"{param} {cause}", code="invalid_value", param=param)
