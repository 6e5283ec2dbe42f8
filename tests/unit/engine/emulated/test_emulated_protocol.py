"""What is accepted, what is refused, and in which words."""

from __future__ import annotations

import contextlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dreamseed_cli.engine.emulated.protocol import (
    ApiError,
    ChatBody,
    CompletionBody,
    Job,
    chat_job,
    completion_job,
    decode,
)
from dreamseed_cli.profile.schema import EmulatedCard, EmulatedEngine

ENGINE = EmulatedEngine(
    kind="emulated",
    served_name="emu",
    max_model_len=100,
    card=EmulatedCard(
        source="test",
        prefill_tokens_per_s=1e4,
        decode_step_ms=1.0,
        decode_step_ms_per_seq=0.0,
        kv_cache_tokens=1000,
    ),
)


def completion(**fields: object) -> Job:
    """A checked completion request."""
    return completion_job(decode(json.dumps({"prompt": "Hi"} | fields).encode(), CompletionBody), ENGINE)


def chat(**fields: object) -> Job:
    """A checked chat request."""
    body = {"messages": [{"role": "user", "content": "Hi"}]} | fields
    return chat_job(decode(json.dumps(body).encode(), ChatBody), ENGINE)


@pytest.mark.parametrize(
    ("fields", "status", "words"),
    [
        ({"model": "nope"}, 404, "The model `nope` does not exist. Valid aliases: emu."),
        ({"prompt": ""}, 400, "Either prompt or prompt_embeds must be provided and non-empty."),
        ({"max_tokens": 0}, 400, "max_tokens must be at least 1, got 0. (parameter=max_tokens, value=0)"),
        (
            {"max_tokens": 101},
            400,
            "max_tokens=101 cannot be greater than max_model_len=100. Please request fewer output "
            "tokens. (parameter=max_tokens, value=101)",
        ),
        (
            {"prompt": "x" * 1201},
            400,
            "This model's maximum context length is 100 tokens. However, your prompt contains 301 input "
            "tokens, which exceeds this limit even without any output tokens. Please reduce the length "
            "of the input prompt. (parameter=input_tokens, value=301)",
        ),
        ({"prompt": "x" * 400}, 400, "max_tokens must be at least 1, got 0."),
        ({"temperature": -1}, 400, "temperature must be non-negative, got -1.0."),
        ({"temperature": 7}, 400, "temperature must be in [0, 2], got 7.0."),
        ({"top_p": 3}, 400, "top_p must be in (0, 1], got 3.0. (parameter=top_p, value=3.0)"),
        ({"min_tokens": 5, "max_tokens": 2}, 400, "less than or equal to max_tokens=2, got 5."),
        ({"stop": ["a", ""]}, 400, "stop cannot contain an empty string."),
        ({"n": 2}, 400, "n must be 1 on the emulated engine, got 2."),
        ({"stream_options": {}}, 400, "Stream options can only be defined when `stream=True`."),
    ],
)
def test_refusals_are_vllms(fields: dict[str, object], status: int, words: str) -> None:
    """Each wrong request is refused with vLLM's status, words and numbers, in its JSON shape."""
    with pytest.raises(ApiError) as caught:
        completion(**fields)
    error = json.loads(caught.value.body())["error"]
    assert words in error["message"]
    assert (caught.value.status, error["code"]) == (status, status)
    assert set(error) == {"message", "type", "param", "code"}


@pytest.mark.parametrize(
    ("raw", "place"),
    [
        (b'{"prompt', "body"),
        (b"[1]", "body"),
        (b"", "body"),
        (b"\xff", "body"),
        (b'{"prompt":"\xff"}', "body"),
        (b'{"prompt":"\\ud800 and more text"}', "body"),
        (b'{"temperature":NaN}', "body"),
        (b'{"x":' + b"[" * 100_000, "body"),
        (b'{"temperature":"a"}', "body.temperature"),
        (b'{"stop":["a",1]}', "body.stop.1"),
    ],
)
def test_malformed_bodies_name_the_field(raw: bytes, place: str) -> None:
    """A body that is no such JSON is a 400 that says where."""
    with pytest.raises(ApiError) as caught:
        decode(raw, CompletionBody)
    assert (caught.value.status, caught.value.param) == (400, place)


def test_missing_messages_are_named() -> None:
    """A chat request without messages, or with none in them, is refused as by vLLM."""
    with pytest.raises(ApiError) as caught:
        decode(b"{}", ChatBody)
    assert caught.value.param == "body.messages"
    with pytest.raises(ApiError, match="Cannot apply chat template to an empty conversation"):
        chat(messages=[])


def test_the_answer_gets_what_room_is_left() -> None:
    """Like vLLM, max_tokens beyond the context is cut to the room the prompt leaves."""
    assert completion(prompt="x" * 240, max_tokens=100).sampling.max_tokens == 40


def test_defaults() -> None:
    """Without max_tokens a completion gets 16 tokens, a chat all the room; temperature and top_p are 1."""
    job = completion()
    assert (job.sampling.max_tokens, job.sampling.temperature, job.sampling.top_p) == (16, 1.0, 1.0)
    assert chat().sampling.max_tokens == 100 - chat().prompt_tokens


def test_max_completion_tokens_wins() -> None:
    """Chat's newer name for max_tokens is honoured."""
    assert chat(max_tokens=9, max_completion_tokens=5).sampling.max_tokens == 5


def test_content_parts_are_joined() -> None:
    """A message's content may come in parts."""
    parts = [{"type": "text", "text": "Hi"}]
    assert chat(messages=[{"role": "user", "content": parts}]).prompt == chat().prompt


def test_a_final_message_may_be_continued() -> None:
    """With continue_final_message the last turn stays open; asking for a new one as well is refused."""
    turns = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hel"}]
    job = chat(messages=turns, continue_final_message=True, add_generation_prompt=False)
    assert job.prompt == chat().prompt + "Hel"
    assert job.emitted == "Hel"
    assert chat(messages=turns).emitted == ""
    with pytest.raises(ApiError, match="Cannot set both"):
        chat(messages=turns, continue_final_message=True, add_generation_prompt=True)


def test_usage_per_chunk_needs_include_usage() -> None:
    """continuous_usage_stats counts only together with include_usage, as in vLLM."""
    options = {"continuous_usage_stats": True}
    assert not completion(stream=True, stream_options=options).usage_per_chunk
    assert completion(stream=True, stream_options=options | {"include_usage": True}).usage_per_chunk


def test_blocks_cover_whole_blocks_only() -> None:
    """64 bytes make one block of 16 tokens; a rest is not shared."""
    assert len(completion(prompt="x" * 130).blocks()) == 2
    assert completion(prompt="x" * 130).blocks() == completion(prompt="x" * 129).blocks()


@given(st.binary(max_size=200))
def test_any_bytes_are_answered(raw: bytes) -> None:
    """Arbitrary bytes are a proper request or a proper refusal, never another exception."""
    for shape in (CompletionBody, ChatBody):
        with contextlib.suppress(ApiError):
            decode(raw, shape)
