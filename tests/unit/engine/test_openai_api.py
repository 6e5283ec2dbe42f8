"""The wire format towards engines."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dreamseed_cli.engine.openai_api import BodyEncoder, error_message, merge_events
from dreamseed_cli.engine.types import Chunk, EngineUnavailable, GenerationRequest, Turn

_REQUEST = GenerationRequest(
    "id-1", "Why?", 20, 0.5, 0.9, system_prompt="Be brief.", seed=-7, stop=("END",), priority=2
)


def _chat_event(content: str, **more: object) -> bytes:
    return json.dumps({"choices": [{"delta": {"content": content}, **more}]}).encode()


def test_vllm_gets_its_extensions() -> None:
    """An engine that counts in every chunk is asked to, and is told the priority."""
    body = json.loads(BodyEncoder(model="m", api="chat", usage_per_chunk=True).encode(_REQUEST))
    assert body == {
        "model": "m",
        "stream": True,
        "stream_options": {"include_usage": True, "continuous_usage_stats": True},
        "max_tokens": 20,
        "temperature": 0.5,
        "top_p": 0.9,
        "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Why?"}],
        "seed": -7,
        "stop": ["END"],
        "priority": 2,
        "request_id": "id-1",
    }


def test_other_engines_get_nothing_they_do_not_know() -> None:
    """A foreign server gets neither priority nor request id, and a base model gets one plain text."""
    body = json.loads(BodyEncoder(model="m", api="completions", usage_per_chunk=False).encode(_REQUEST))
    assert body["prompt"] == "Be brief.\n\nWhy?"
    assert body["stream_options"] == {"include_usage": True}
    assert not {"priority", "request_id", "messages"} & set(body)


def test_a_forced_length_is_asked_of_engines_that_know_it() -> None:
    """`ignore_eos` goes out only if it is set, and never to a foreign server, which may refuse it."""
    forced = replace(_REQUEST, ignore_eos=True)
    vllm = BodyEncoder(model="m", api="chat", usage_per_chunk=True)
    foreign = BodyEncoder(model="m", api="chat", usage_per_chunk=False)
    assert json.loads(vllm.encode(forced))["ignore_eos"] is True
    assert "ignore_eos" not in json.loads(vllm.encode(_REQUEST))
    assert "ignore_eos" not in json.loads(foreign.encode(forced))


def test_a_conversation_is_sent_turn_by_turn() -> None:
    """History stands between system prompt and prompt; a base model gets it as one text."""
    turns = (Turn("user", "Hi"), Turn("assistant", "Hello."))
    request = replace(_REQUEST, history=turns)
    body = json.loads(BodyEncoder(model="m", api="chat", usage_per_chunk=True).encode(request))
    assert [message["role"] for message in body["messages"]] == ["system", "user", "assistant", "user"]
    assert [message["content"] for message in body["messages"]] == ["Be brief.", "Hi", "Hello.", "Why?"]
    plain = json.loads(BodyEncoder(model="m", api="completions", usage_per_chunk=True).encode(request))
    assert plain["prompt"] == "Be brief.\n\nHi\n\nHello.\n\nWhy?"


def test_a_raw_prompt_is_sent_as_it_is() -> None:
    """On a chat service too it goes to /v1/completions, without system prompt or template."""
    encoder = BodyEncoder(model="m", api="chat", usage_per_chunk=True)
    request = replace(_REQUEST, raw=True)
    assert (encoder.path(request), encoder.path(_REQUEST)) == ("/v1/completions", "/v1/chat/completions")
    body = json.loads(encoder.encode(request))
    assert body["prompt"] == "Why?"
    assert "messages" not in body
    assert json.loads(encoder.encode(replace(request, emitted=" Since")))["prompt"] == "Why? Since"


def test_a_continued_answer_is_the_open_last_turn() -> None:
    """What was emitted is the assistant's unfinished message; a base model gets it behind the prompt."""
    request = replace(_REQUEST, emitted="Because")
    body = json.loads(BodyEncoder(model="m", api="chat", usage_per_chunk=True).encode(request))
    assert body["messages"][-1] == {"role": "assistant", "content": "Because"}
    assert (body["continue_final_message"], body["add_generation_prompt"]) == (True, False)
    plain = json.loads(BodyEncoder(model="m", api="completions", usage_per_chunk=True).encode(request))
    assert plain["prompt"] == "Be brief.\n\nWhy?Because"


def test_events_of_one_read_become_one_chunk() -> None:
    """Text is joined, the last counts and the finish reason are kept."""
    usage = b'{"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":2}}'
    events = [_chat_event("Se"), _chat_event("oul", finish_reason="stop"), usage]
    assert merge_events(events, "r0") == Chunk("Seoul", "stop", 3, 2)


def test_completions_carry_their_text_in_another_place() -> None:
    """A completion's `text` is read like a chat's `delta.content`; null is no text."""
    assert merge_events([b'{"choices":[{"text":"a"}]}'], "r0").text == "a"
    assert merge_events([b'{"choices":[{"delta":{"content":null}}]}'], "r0").text == ""


@pytest.mark.parametrize(
    "payload",
    [
        b'{"error":{"message":"CUDA out of memory","code":500}}',
        b"<html>",
        b'"text"',
        b"\xff\xfe",
        b'{"choices":[{"delta":{"content":"x"},"finish_reason":"abort"}]}',
        b'{"choices":[{"delta":{"content":7}}]}',
    ],
)
def test_errors_garbage_and_aborts_are_failures(payload: bytes) -> None:
    """An error in the stream, what is no chunk, and an answer broken off raise EngineUnavailable."""
    with pytest.raises(EngineUnavailable):
        merge_events([payload], "r0")


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b'{"error":{"message":"too long: 2049 tokens","code":400}}', "too long: 2049 tokens"),
        (b'{"error":"overloaded","error_type":"x"}', "overloaded"),
        (b'{"detail":"Not Found"}', "Not Found"),
        (b"Bad\n  Gateway", "Bad Gateway"),
        (b"", ""),
    ],
)
def test_error_bodies_of_known_servers_are_read(body: bytes, said: str) -> None:
    """OpenAI's, TGI's and FastAPI's shapes give their message, anything else its text."""
    assert error_message(body) == said


@given(st.binary(max_size=2000))
def test_no_error_body_is_too_odd(body: bytes) -> None:
    """Whatever a server sends, the message is short text."""
    assert len(error_message(body)) <= 500


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (b'{"message":"EngineCore encountered an issue.","code":500}', "EngineCore encountered an issue."),
        (b'"overloaded"', "overloaded"),
    ],
)
def test_an_error_in_the_stream_is_told_in_the_engines_own_words(error: bytes, said: str) -> None:
    """Whatever shape it has."""
    with pytest.raises(EngineUnavailable, match=f"the engine failed: {said}"):
        merge_events([b'{"choices":[],"error":' + error + b"}"], "r0")


def test_a_null_is_no_error_in_the_stream() -> None:
    """Some servers send the member with every event."""
    chunk = merge_events([b'{"choices":[{"index":0,"text":"a","finish_reason":null}],"error":null}'], "r0")
    assert chunk.text == "a"
