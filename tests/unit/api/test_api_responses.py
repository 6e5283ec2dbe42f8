"""Answers as bytes, read back by OpenAI's own types."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from openai.types import Completion
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from dreamseed_cli.api.responses import CHAT, DONE, TEXT, Facts
from dreamseed_cli.gateway.proto.llm_pb2 import STANDARD, GenerateResponse

_TEXTS = st.text()
_LAST = GenerateResponse(
    text="Hi",
    tokens_generated=2,
    finish_reason="stop",
    prompt_tokens=5,
    replica="r1",
    granted_priority=STANDARD,
)


def _events(data: bytes) -> list[Any]:
    lines = data.decode().split("\n\n")[:-1]
    return [json.loads(line.removeprefix("data: ")) for line in lines if line != "data: [DONE]"]


@given(_TEXTS, _TEXTS, _TEXTS)
def test_chunks_hold_any_text(request_id: str, model: str, text: str) -> None:
    """Quotes, line ends, NULs and a model's odd name: an event is one line, and the text comes back."""
    chunks = CHAT.stream(request_id, model)
    for data in (chunks.first(text), chunks.next(text)):
        assert data.endswith(b"\n\n")
        assert data.count(b"\n") == 2
        (event,) = _events(data)
        chunk = ChatCompletionChunk.model_validate(event)
        assert (chunk.choices[0].delta.content, chunk.model) == (text, model)
    plain = TEXT.stream(request_id, model)
    (event,) = _events(plain.next(text))
    assert Completion.model_validate(event | {"choices": [event["choices"][0] | {"finish_reason": "stop"}]})
    assert event["choices"][0]["text"] == text


def test_the_last_chunks() -> None:
    """Reason and facts, usage if asked for, [DONE]."""
    facts = Facts.of(_LAST, simulated=False)
    data = CHAT.stream("1", "m").last(_LAST, facts, with_usage=True)
    assert data.endswith(DONE)
    ending, counted = _events(data)
    assert ending["choices"][0]["finish_reason"] == "stop"
    assert ending["dreamseed"] == {
        "source": "gateway",
        "cache": "miss",
        "replica": "r1",
        "priority": "standard",
    }
    assert counted["choices"] == []
    assert counted["usage"] == {"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7}
    assert len(_events(CHAT.stream("1", "m").last(_LAST, facts, with_usage=False))) == 1


def test_whole_answers() -> None:
    """Both kinds are what OpenAI's types take."""
    chat = ChatCompletion.model_validate_json(CHAT.answer("1", "m", _LAST), strict=True)
    assert (chat.id, chat.choices[0].message.content) == ("chatcmpl-1", "Hi")
    text = Completion.model_validate_json(TEXT.answer("1", "m", _LAST), strict=True)
    assert (text.id, text.choices[0].text) == ("cmpl-1", "Hi")


def test_facts_as_headers_leave_out_what_is_unknown() -> None:
    """No header for what nobody told."""
    assert dict(Facts.of(GenerateResponse(cache_hit=True), simulated=True).headers()) == {
        b"x-dreamseed-source": b"gateway",
        b"x-dreamseed-cache": b"hit",
        b"x-dreamseed-provenance": b"simulated",
    }
