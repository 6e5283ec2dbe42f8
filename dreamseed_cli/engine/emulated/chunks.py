"""vLLM's response bodies as bytes: SSE events with everything but the token serialised beforehand."""

from __future__ import annotations

import secrets
import time
from dataclasses import dataclass
from typing import Any

import msgspec

from dreamseed_cli.engine.emulated.protocol import Job
from dreamseed_cli.engine.emulated.text import Answer, json_string

SYSTEM_FINGERPRINT = "emulated-simulated"
DONE = b"data: [DONE]\n\n"
GARBAGE = b'data: {"id":"\xff\xfe\x00broken","choices":[{\n\n'
"""What the `garbage` fault sends instead of an event: neither UTF-8 nor JSON."""

_FINGERPRINT = b',"system_fingerprint":"%s"' % SYSTEM_FINGERPRINT.encode()


@dataclass(frozen=True, slots=True)
class _Shape:
    """Where the two streaming formats differ."""

    kind: str
    before_text: bytes
    finish_none: bytes
    finish: bytes
    after: bytes
    usage_tail: bytes


_CHAT = _Shape(
    kind="chat.completion.chunk",
    before_text=b'{"index":0,"delta":{"content":',
    finish_none=b'},"logprobs":null,"finish_reason":null,"token_ids":null}]',
    finish=b'},"logprobs":null,"finish_reason":%s,"stop_reason":%s',
    after=b',"token_ids":null}]',
    usage_tail=b',"completion_tokens_details":null',
)
_COMPLETION = _Shape(
    kind="text_completion",
    before_text=b'{"index":0,"text":',
    finish_none=b',"logprobs":null,"finish_reason":null,"stop_reason":null,'
    b'"prompt_token_ids":null,"token_ids":null}]',
    finish=b',"logprobs":null,"finish_reason":%s,"stop_reason":%s',
    after=b',"prompt_token_ids":null,"token_ids":null}]',
    usage_tail=b"",
)


@dataclass(frozen=True, slots=True)
class Stamp:
    """What every part of one response carries."""

    request_id: str
    created: int
    """Seconds since the epoch."""
    model: str

    @classmethod
    def now(cls, job: Job, model: str) -> Stamp:
        prefix = "chatcmpl" if job.chat else "cmpl"
        return cls(f"{prefix}-{secrets.token_hex(8)}", int(time.time()), model)

    def head(self, kind: str) -> dict[str, Any]:
        """The first fields of a body; `kind` is its `object`."""
        return {"id": self.request_id, "object": kind, "created": self.created, "model": self.model}


class ChunkWriter:
    """Writes one request's SSE events."""

    def __init__(self, job: Job, stamp: Stamp) -> None:
        self._job = job
        self._shape = _CHAT if job.chat else _COMPLETION
        head = msgspec.json.encode(stamp.head(self._shape.kind)).removesuffix(b"}")
        self._head = b"data: " + head + b',"choices":['
        self._before = self._head + self._shape.before_text

    def opening(self) -> bytes:
        """What comes before the first token: chat's role chunk, nothing for completions."""
        if not self._job.chat:
            return b""
        choice = (
            b'{"index":0,"delta":{"role":"assistant","content":""},"logprobs":null,"finish_reason":null}]'
        )
        usage = self._chunk_usage(0)
        return self._head + choice + usage + b',"prompt_token_ids":null,"prompt_text":null}\n\n'

    def token(self, text: str, completion_tokens: int) -> bytes:
        """The event of one token (or several merged ones); `completion_tokens` is the running total."""
        usage = self._chunk_usage(completion_tokens)
        return b"".join((self._before, json_string(text), self._shape.finish_none, usage, b"}\n\n"))

    def closing(self, text: str, answer: Answer) -> bytes:
        """The last token with the reason of the end, the usage if asked for, and the end mark."""
        total = len(answer.pieces)
        reasons = (json_string(answer.finish_reason), msgspec.json.encode(answer.stop_reason))
        choice = json_string(text) + self._shape.finish % reasons + self._shape.after
        tail = b"" if self._job.include_usage else _FINGERPRINT
        last = self._before + choice + self._chunk_usage(total) + tail + b"}\n\n"
        return last + self._final_usage(total) + DONE

    def _chunk_usage(self, completion_tokens: int) -> bytes:
        if not self._job.usage_per_chunk:
            return b""
        return b',"usage":{%s%s}' % (self._counts(completion_tokens), self._shape.usage_tail)

    def _final_usage(self, completion_tokens: int) -> bytes:
        if not self._job.include_usage:
            return b""
        usage = b'],"usage":{%s}' % self._counts(completion_tokens)
        return self._head + usage + _FINGERPRINT + b"}\n\n"

    def _counts(self, completion_tokens: int) -> bytes:
        prompt = self._job.prompt_tokens
        return b'"prompt_tokens":%d,"total_tokens":%d,"completion_tokens":%d' % (
            prompt,
            prompt + completion_tokens,
            completion_tokens,
        )


def whole_response(job: Job, answer: Answer, stamp: Stamp) -> bytes:
    """The body of a response that is not streamed."""
    choice = _chat_choice(answer) if job.chat else _completion_choice(answer)
    document = stamp.head("chat.completion" if job.chat else "text_completion") | {
        "choices": [choice],
        "service_tier": None,
        "system_fingerprint": SYSTEM_FINGERPRINT,
        "usage": _usage(job.prompt_tokens, len(answer.pieces)),
    }
    nothing: tuple[str, ...] = ("kv_transfer_params", "ec_transfer_params", "metrics")
    if job.chat:
        nothing = ("prompt_logprobs", "prompt_token_ids", "prompt_text", *nothing)
    return msgspec.json.encode(document | dict.fromkeys(nothing))


def _usage(prompt_tokens: int, completion_tokens: int) -> dict[str, Any]:
    return {
        "prompt_tokens": prompt_tokens,
        "total_tokens": prompt_tokens + completion_tokens,
        "completion_tokens": completion_tokens,
        "prompt_tokens_details": None,
        "completion_tokens_details": None,
    }


def _chat_choice(answer: Answer) -> dict[str, Any]:
    silent = ("refusal", "annotations", "audio", "function_call", "reasoning")
    return {
        "index": 0,
        "message": {"role": "assistant", "content": "".join(answer.pieces)} | dict.fromkeys(silent),
        "logprobs": None,
        "finish_reason": answer.finish_reason,
        "stop_reason": answer.stop_reason,
        "token_ids": None,
        "routed_experts": None,
    }


def _completion_choice(answer: Answer) -> dict[str, Any]:
    return {
        "index": 0,
        "text": "".join(answer.pieces),
        "logprobs": None,
        "finish_reason": answer.finish_reason,
        "stop_reason": answer.stop_reason,
        "token_ids": None,
        "prompt_logprobs": None,
        "prompt_token_ids": None,
        "routed_experts": None,
    }
