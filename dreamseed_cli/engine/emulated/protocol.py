"""What clients may ask, and vLLM's words for what is wrong with it."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TypeVar

import msgspec

from dreamseed_cli.engine.emulated.prefix_cache import BLOCK_TOKENS, chain_blocks
from dreamseed_cli.engine.emulated.text import BYTES_PER_TOKEN, Sampling, count_tokens
from dreamseed_cli.profile.schema import EmulatedEngine

_COMPLETIONS_DEFAULT_MAX_TOKENS = 16
_MAX_TEMPERATURE = 2.0

Body = TypeVar("Body")


class ApiError(Exception):
    """A refusal: HTTP status and the `error` object of vLLM's JSON body."""

    def __init__(
        self, message: str, *, status: int = 400, kind: str = "BadRequestError", param: str | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.kind = kind
        self.param = param

    def body(self) -> bytes:
        error = {"message": str(self), "type": self.kind, "param": self.param, "code": self.status}
        return msgspec.json.encode({"error": error})


class StreamOptions(msgspec.Struct):
    """vLLM's `stream_options`."""

    include_usage: bool = False
    continuous_usage_stats: bool = False


class Part(msgspec.Struct):
    """A piece of a message's content; other than text, nothing is understood."""

    type: str = "text"
    text: str = ""


class Message(msgspec.Struct):
    """One turn of a conversation."""

    role: str
    content: str | list[Part] | None = None

    def text(self) -> str:
        if isinstance(self.content, list):
            return "\n".join(part.text for part in self.content)
        return self.content or ""


class GenerationBody(msgspec.Struct, kw_only=True):
    """The fields that both generation routes have; unknown ones are ignored, as vLLM does."""

    model: str | None = None
    max_tokens: int | None = None
    min_tokens: int = 0
    temperature: float | None = None
    top_p: float | None = None
    n: int | None = None
    seed: int | None = None
    stop: str | list[str] | None = None
    ignore_eos: bool = False
    priority: int = 0
    stream: bool = False
    stream_options: StreamOptions | None = None


class CompletionBody(GenerationBody, kw_only=True):
    """POST /v1/completions."""

    prompt: str | None = None


class ChatBody(GenerationBody, kw_only=True):
    """POST /v1/chat/completions."""

    messages: list[Message]
    max_completion_tokens: int | None = None
    add_generation_prompt: bool | None = None
    continue_final_message: bool = False


class TokenizeBody(msgspec.Struct):
    """POST /tokenize: a prompt as it stands, or a conversation to be rendered first."""

    model: str | None = None
    prompt: str | None = None
    messages: list[Message] | None = None


@dataclass(frozen=True, slots=True)
class Job:
    """A checked request. Lengths in tokens."""

    chat: bool
    prompt: str
    prompt_tokens: int
    sampling: Sampling
    priority: int
    stream: bool
    include_usage: bool
    usage_per_chunk: bool
    emitted: str = ""
    """The end of `prompt` that is the beginning of the answer."""

    def blocks(self) -> tuple[int, ...]:
        """The prompt's whole blocks for the prefix cache."""
        data = self.prompt.encode()
        size = BLOCK_TOKENS * BYTES_PER_TOKEN
        return chain_blocks(data[at : at + size] for at in range(0, len(data) - size + 1, size))


def decode(raw: bytes, shape: type[Body]) -> Body:
    """A request's body; ApiError 400 naming the field, in the shape of vLLM's."""
    try:
        return msgspec.json.decode(raw, type=shape, strict=False)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        place = _location(str(error))
        message = f"1 validation error:\n  {{'loc': '{place}', 'msg': '{error}'}}"
        raise ApiError(message, kind="Bad Request", param=place) from error


def _location(message: str) -> str:
    """msgspec's `$.messages[0].role` as vLLM writes it: `body.messages.0.role`."""
    found = re.search(r"`\$([^`]*)`", message)
    path = re.sub(r"\[(\d+|\.\.\.)\]", r".\1", found[1]) if found else ""
    missing = re.search(r"missing required field `(\w+)`", message)
    return f"body{path}.{missing[1]}" if missing else f"body{path}"


def render_chat(messages: list[Message]) -> str:
    """The chat template of a model that does not exist."""
    turns = [f"<|{message.role}|>\n{message.text()}\n" for message in messages]
    return "".join([*turns, "<|assistant|>\n"])


def completion_job(body: CompletionBody, engine: EmulatedEngine) -> Job:
    """Check a completion request; ApiError as vLLM refuses it."""
    check_model(body.model, engine)
    if not body.prompt:
        raise _refused("Either prompt or prompt_embeds must be provided and non-empty.", "prompt")
    default = _COMPLETIONS_DEFAULT_MAX_TOKENS
    return _job(body, engine, body.prompt, body.max_tokens, default=default, chat=False)


def chat_job(body: ChatBody, engine: EmulatedEngine) -> Job:
    """Check a chat request; ApiError as vLLM refuses it."""
    check_model(body.model, engine)
    if not body.messages:
        raise ApiError("Cannot apply chat template to an empty conversation. Provide at least one message.")
    asked = body.max_completion_tokens if body.max_completion_tokens is not None else body.max_tokens
    if not body.continue_final_message:
        prompt = render_chat(body.messages)
        return _job(body, engine, prompt, asked, default=engine.max_model_len, chat=True)
    if body.add_generation_prompt:
        raise ApiError("Cannot set both `continue_final_message` and `add_generation_prompt` to True.")
    *before, last = body.messages
    prompt = render_chat(before) + last.text()
    job = _job(body, engine, prompt, asked, default=engine.max_model_len, chat=True)
    return replace(job, emitted=last.text())


def check_model(name: str | None, engine: EmulatedEngine) -> None:
    """ApiError 404 unless the request names this engine's model, or none."""
    if name and name != engine.served_name:
        raise ApiError(
            f"The model `{name}` does not exist. Valid aliases: {engine.served_name}.",
            status=404,
            kind="NotFoundError",
            param="model",
        )


def _job(
    body: GenerationBody,
    engine: EmulatedEngine,
    prompt: str,
    max_tokens: int | None,
    *,
    default: int,
    chat: bool,
) -> Job:
    _check_sampling(body)
    if max_tokens is not None:
        _check_max_tokens(max_tokens, engine.max_model_len)
    prompt_tokens = count_tokens(prompt)
    room = _room(prompt_tokens, engine.max_model_len)
    wanted = min(default if max_tokens is None else max_tokens, room)
    if not 0 <= body.min_tokens <= wanted:
        raise ApiError(
            f"min_tokens must be less than or equal to max_tokens={wanted}, got {body.min_tokens}."
        )
    options = body.stream_options or StreamOptions()
    return Job(
        chat=chat,
        prompt=prompt,
        prompt_tokens=prompt_tokens,
        sampling=_sampling(body, wanted),
        priority=body.priority,
        stream=body.stream,
        include_usage=options.include_usage,
        usage_per_chunk=options.include_usage and options.continuous_usage_stats,
    )


def _sampling(body: GenerationBody, max_tokens: int) -> Sampling:
    return Sampling(
        max_tokens=max_tokens,
        min_tokens=body.min_tokens,
        temperature=1.0 if body.temperature is None else body.temperature,
        top_p=1.0 if body.top_p is None else body.top_p,
        seed=body.seed,
        stop=_stops(body.stop),
        ignore_eos=body.ignore_eos,
    )


def _check_sampling(body: GenerationBody) -> None:
    if body.n is not None and body.n != 1:
        raise _refused(f"n must be 1 on the emulated engine, got {body.n}.", "n", body.n)
    if body.temperature is not None and body.temperature < 0:
        message = f"temperature must be non-negative, got {body.temperature}."
        raise _refused(message, "temperature", body.temperature)
    if body.temperature is not None and body.temperature > _MAX_TEMPERATURE:
        message = f"temperature must be in [0, 2], got {body.temperature}."
        raise _refused(message, "temperature", body.temperature)
    if body.top_p is not None and not 0 < body.top_p <= 1:
        raise _refused(f"top_p must be in (0, 1], got {body.top_p}.", "top_p", body.top_p)
    if body.stream_options is not None and not body.stream:
        raise _refused("Stream options can only be defined when `stream=True`.", "stream_options")


def _check_max_tokens(max_tokens: int, max_model_len: int) -> None:
    if max_tokens < 1:
        raise _refused(f"max_tokens must be at least 1, got {max_tokens}.", "max_tokens", max_tokens)
    if max_tokens > max_model_len:
        raise _refused(
            f"max_tokens={max_tokens} cannot be greater than max_model_len={max_model_len}. "
            "Please request fewer output tokens.",
            "max_tokens",
            max_tokens,
        )


def _room(prompt_tokens: int, max_model_len: int) -> int:
    """Tokens left for the answer; like vLLM, what was asked beyond them is cut off silently."""
    if prompt_tokens > max_model_len:
        raise _refused(
            f"This model's maximum context length is {max_model_len} tokens. However, your prompt "
            f"contains {prompt_tokens} input tokens, which exceeds this limit even without any output "
            "tokens. Please reduce the length of the input prompt.",
            "input_tokens",
            prompt_tokens,
        )
    _check_max_tokens(max_model_len - prompt_tokens, max_model_len)
    return max_model_len - prompt_tokens


def _stops(stop: str | list[str] | None) -> tuple[str, ...]:
    stops = (stop,) if isinstance(stop, str) else tuple(stop or ())
    if "" in stops:
        raise ApiError("stop cannot contain an empty string.")
    return stops


def _refused(message: str, parameter: str, value: object = None) -> ApiError:
    """A 400 with vLLM's tail that names the parameter and its value."""
    tail = f"parameter={parameter}" + ("" if value is None else f", value={value}")
    return ApiError(f"{message} ({tail})", param=parameter)
