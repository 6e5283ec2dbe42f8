"""The OpenAI-compatible wire format that engines share: request bodies, chunks of a stream, errors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import msgspec

from dreamseed_cli.engine.types import Chunk, EngineUnavailable, GenerationRequest

Api = Literal["chat", "completions"]
PATHS: dict[Api, str] = {"chat": "/v1/chat/completions", "completions": "/v1/completions"}

DONE = b"[DONE]"
# vLLM closes the streams of a dying or draining engine with these: such an answer is not complete.
BROKEN_OFF = frozenset({"abort", "error"})
_LONGEST_MESSAGE = 500


class Delta(msgspec.Struct, gc=False):
    """What a chunk of a chat adds."""

    content: str | None = None


class Choice(msgspec.Struct, gc=False):
    """A chunk's only choice: of a chat a delta, else text."""

    delta: Delta | None = None
    text: str | None = None
    finish_reason: str | None = None


class Usage(msgspec.Struct, gc=False):
    """Tokens so far."""

    prompt_tokens: int | None = None
    completion_tokens: int | None = None


NO_ERROR = {b"", b"null"}


class _Event(msgspec.Struct, gc=False):
    choices: list[Choice] = []
    usage: Usage | None = None
    error: msgspec.Raw = msgspec.Raw()


_decode_event = msgspec.json.Decoder(_Event).decode
_encode = msgspec.json.Encoder().encode


class BodyEncoder:
    """Encodes requests for one engine.

    usage_per_chunk: whether the engine knows vLLM's extensions: `continuous_usage_stats`, `priority`,
    `continue_final_message`, `ignore_eos`.
    """

    def __init__(self, *, model: str, api: Api, usage_per_chunk: bool) -> None:
        self._api = api
        self._extended = usage_per_chunk
        options: dict[str, bool] = {"include_usage": True}
        if usage_per_chunk:
            options["continuous_usage_stats"] = True
        self._fixed: dict[str, Any] = {"model": model, "stream": True, "stream_options": options}

    def path(self, request: GenerationRequest) -> str:
        """Where this request goes: a raw prompt has no turns."""
        return PATHS["completions" if request.raw else self._api]

    def encode(self, request: GenerationRequest) -> bytes:
        """The JSON body of a streamed generation."""
        body: dict[str, Any] = {
            **self._fixed,
            "max_tokens": request.max_tokens,
            "temperature": request.temperature,
            "top_p": request.top_p,
        }
        if request.raw:
            body["prompt"] = request.prompt + request.emitted
        elif self._api == "completions":
            body["prompt"] = _plain_prompt(request) + request.emitted
        else:
            body["messages"] = _messages(request)
            if request.emitted:
                body["continue_final_message"] = True
                body["add_generation_prompt"] = False
        if request.seed is not None:
            body["seed"] = request.seed
        if request.stop:
            body["stop"] = request.stop
        if self._extended:
            body["priority"] = request.priority
            body["request_id"] = request.request_id
            if request.ignore_eos:
                body["ignore_eos"] = True
        return _encode(body)


def _messages(request: GenerationRequest) -> list[dict[str, str]]:
    messages = [{"role": "user", "content": request.prompt}]
    if request.history:
        messages[:0] = [{"role": turn.role, "content": turn.content} for turn in request.history]
    if request.system_prompt:
        messages.insert(0, {"role": "system", "content": request.system_prompt})
    if request.emitted:
        messages.append({"role": "assistant", "content": request.emitted})
    return messages


def _plain_prompt(request: GenerationRequest) -> str:
    """A base model has no roles: system prompt, turns and prompt stand one after the other, a blank line
    between.
    """
    if not request.system_prompt and not request.history:
        return request.prompt
    before = [request.system_prompt] if request.system_prompt else []
    return "\n\n".join([*before, *(turn.content for turn in request.history), request.prompt])


def merge_events(payloads: Sequence[bytes], place: str) -> Chunk:
    """One chunk for all events of one read, which is how a slow reader gets fewer, longer chunks.

    Raises EngineUnavailable for what is no chunk, for an error sent in the stream, and for an answer that
    the engine itself broke off.
    """
    text = ""
    finish_reason: str | None = None
    usage: Usage | None = None
    for payload in payloads:
        event = _parse(payload, place)
        if bytes(event.error) not in NO_ERROR:
            raise EngineUnavailable("the engine failed", place=place, said=error_message(event.error))
        if event.choices:
            choice = event.choices[0]
            text += (choice.delta.content if choice.delta else choice.text) or ""
            finish_reason = choice.finish_reason or finish_reason
        usage = event.usage or usage
    if finish_reason in BROKEN_OFF:
        raise EngineUnavailable(f"the engine broke the answer off ({finish_reason})", place=place)
    if usage is None:
        return Chunk(text, finish_reason)
    return Chunk(text, finish_reason, usage.prompt_tokens, usage.completion_tokens)


def _parse(payload: bytes, place: str) -> _Event:
    try:
        return _decode_event(payload)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise EngineUnavailable(
            f"the engine's stream is not what vLLM sends: {error}", place=place
        ) from error


def error_message(body: bytes | msgspec.Raw) -> str:
    """What an error body says, in at most 500 characters: OpenAI's, FastAPI's or TGI's shape, or its text."""
    raw = bytes(body)
    try:
        said = _dig(msgspec.json.decode(raw))
    except (msgspec.DecodeError, UnicodeDecodeError):
        said = raw.decode("utf-8", "replace")
    said = " ".join(said.split())
    return said if len(said) <= _LONGEST_MESSAGE else said[: _LONGEST_MESSAGE - 1] + "…"


def _dig(found: object) -> str:
    while isinstance(found, dict):
        found = next((found[key] for key in ("error", "message", "detail") if found.get(key)), "")
    return found if isinstance(found, str) else msgspec.json.encode(found).decode()
