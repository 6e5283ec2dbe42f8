"""Answers in OpenAI's shape, as bytes. Pure.

A stream's chunks differ in their text alone, so what is around it is written once for each stream.
"""

from __future__ import annotations

import time
from typing import Any

import msgspec

from dreamseed_cli.gateway.proto.llm_pb2 import GenerateResponse, Priority

DONE = b"data: [DONE]\n\n"
_encode = msgspec.json.Encoder().encode


def event(document: object) -> bytes:
    """One server-sent event with a JSON document."""
    return b"data: %b\n\n" % _encode(document)


class Facts(msgspec.Struct, frozen=True, omit_defaults=True):
    """What is known of an answer besides its text; the `dreamseed` member of a stream's last chunk."""

    source: str
    cache: str | None = None
    replica: str | None = None
    priority: str | None = None
    """The class it was answered in, which may be lower than the one asked for."""
    provenance: str | None = None

    @classmethod
    def of(cls, last: GenerateResponse, *, simulated: bool) -> Facts:
        """Of the gateway's last message."""
        granted = last.HasField("granted_priority")
        return cls(
            source="gateway",
            cache="hit" if last.cache_hit else "miss",
            replica=last.replica or None,
            priority=Priority.Name(last.granted_priority).lower() if granted else None,
            provenance="simulated" if simulated else None,
        )

    def headers(self) -> list[tuple[bytes, bytes]]:
        """Them as response headers."""
        values = (
            (b"x-dreamseed-source", self.source),
            (b"x-dreamseed-cache", self.cache),
            (b"x-dreamseed-replica", self.replica),
            (b"x-dreamseed-priority", self.priority),
            (b"x-dreamseed-provenance", self.provenance),
        )
        return [(name, value.encode("latin-1", "replace")) for name, value in values if value]


class Dialect:
    """How one kind of completion looks."""

    def __init__(self, *, prefix: str, whole: str, chunk: str, chat: bool) -> None:
        self._prefix = prefix
        self._whole = whole
        self._chunk = chunk
        self._chat = chat

    def answer(self, request_id: str, model: str, answer: GenerateResponse) -> bytes:
        """A whole answer."""
        choice: dict[str, Any] = {"index": 0, "logprobs": None, "finish_reason": answer.finish_reason}
        if self._chat:
            choice["message"] = {"role": "assistant", "content": answer.text, "refusal": None}
        else:
            choice["text"] = answer.text
        return _encode(
            {**self._head(request_id, model, self._whole), "choices": [choice], "usage": usage(answer)}
        )

    def stream(self, request_id: str, model: str) -> Chunks:
        """The chunks of one stream."""
        return Chunks(self._head(request_id, model, self._chunk), chat=self._chat)

    def _head(self, request_id: str, model: str, kind: str) -> dict[str, Any]:
        created = int(time.time())
        return {"id": f"{self._prefix}-{request_id}", "object": kind, "created": created, "model": model}


CHAT = Dialect(prefix="chatcmpl", whole="chat.completion", chunk="chat.completion.chunk", chat=True)
TEXT = Dialect(prefix="cmpl", whole="text_completion", chunk="text_completion", chat=False)


class Chunks:
    """A stream's events."""

    def __init__(self, head: dict[str, Any], *, chat: bool) -> None:
        self._head = head
        self._chat = chat
        self._before, self._after = self._around()

    def first(self, text: str) -> bytes:
        """The event that begins the answer."""
        return event(self._whole({"role": "assistant", "content": text})) if self._chat else self.next(text)

    def next(self, text: str) -> bytes:
        """An event with more of it."""
        return self._before + _encode(text) + self._after

    def last(self, answer: GenerateResponse, facts: Facts, *, with_usage: bool) -> bytes:
        """The events that end a complete answer."""
        ending = self._whole({} if self._chat else "", answer.finish_reason) | {"dreamseed": facts}
        told = event({**self._head, "choices": [], "usage": usage(answer)}) if with_usage else b""
        return event(ending) + told + DONE

    def _whole(self, delta: Any, finish_reason: str | None = None) -> dict[str, Any]:
        name = "delta" if self._chat else "text"
        choice = {"index": 0, name: delta, "logprobs": None, "finish_reason": finish_reason}
        return {**self._head, "choices": [choice]}

    def _around(self) -> tuple[bytes, bytes]:
        """A chunk, cut where its text belongs: no request can put the mark into the rest."""
        mark = "\0text\0"
        whole = event(self._whole({"content": mark} if self._chat else mark))
        before, _, after = whole.rpartition(_encode(mark))
        return before, after


def usage(answer: GenerateResponse) -> dict[str, int]:
    """The tokens of an answer, as the engine counted them."""
    return {
        "prompt_tokens": answer.prompt_tokens,
        "completion_tokens": answer.tokens_generated,
        "total_tokens": answer.prompt_tokens + answer.tokens_generated,
    }
