"""OpenAI's request becomes the gateway's message."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from dreamseed_cli.api.errors import ApiError
from dreamseed_cli.api.protocol import ChatRequest, TextRequest
from dreamseed_cli.api.translate import Asked, ask_chat, ask_text, for_fallback


def _chat(messages: list[dict[str, Any]] | None = None, **more: Any) -> Asked:
    given = messages or [{"role": "user", "content": "Hi"}]
    return ask_chat(msgspec.convert({"model": "m", "messages": given} | more, ChatRequest))


def _text(**more: Any) -> Asked:
    return ask_text(msgspec.convert({"model": "m", "prompt": "Hi"} | more, TextRequest))


def _turn(role: str, content: Any) -> dict[str, Any]:
    return {"role": role, "content": content}


def test_system_messages_are_joined_and_turns_keep_their_order() -> None:
    """System and developer messages at the beginning are one system prompt."""
    message = _chat(
        [
            _turn("system", "A"),
            _turn("developer", [{"type": "text", "text": "B"}]),
            _turn("user", "1"),
            _turn("assistant", "2"),
            _turn("user", "3"),
        ]
    ).message
    assert message.system_prompt == "A\n\nB"
    assert [(turn.role, turn.content) for turn in message.history] == [("user", "1"), ("assistant", "2")]
    assert message.prompt == "3"


def test_without_a_system_message_the_profiles_own_applies() -> None:
    """Unset is not empty: an empty one means none (llm.proto)."""
    assert not _chat().message.HasField("system_prompt")
    empty = _chat([_turn("system", ""), _turn("user", "x")]).message
    assert empty.HasField("system_prompt")


@pytest.mark.parametrize(
    ("messages", "param"),
    [
        ([_turn("assistant", "x")], "messages"),
        ([_turn("user", "x"), _turn("system", "y"), _turn("user", "z")], "messages[1].role"),
        ([_turn("tool", "x")], "messages[0].role"),
        ([_turn("user", None)], "messages[0].content"),
        ([_turn("user", [])], "messages[0].content"),
        ([_turn("user", [{"type": "image_url", "image_url": {}}])], "messages[0].content"),
        ([_turn("user", "x") | {"tool_calls": [{}]}], "messages[0]"),
    ],
)
def test_messages_that_cannot_be_served(messages: list[dict[str, Any]], param: str) -> None:
    """400 with the place."""
    with pytest.raises(ApiError) as caught:
        _chat(messages)
    assert (caught.value.status, caught.value.param) == (400, param)


@pytest.mark.parametrize(
    ("more", "param"),
    [
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_tokens": -1}, "max_tokens"),
        ({"max_completion_tokens": 0}, "max_tokens"),
        ({"max_tokens": 2**31}, "max_tokens"),
        ({"max_tokens": 5, "max_completion_tokens": 6}, "max_tokens"),
        ({"seed": 2**63}, "seed"),
        ({"priority": "PREMIUM"}, "priority"),
        ({"stream_options": {"include_usage": True}}, "stream_options"),
    ],
)
def test_values_out_of_range(more: dict[str, Any], param: str) -> None:
    """400 with the field; what the gateway's profile bounds is left to the gateway."""
    with pytest.raises(ApiError) as caught:
        _chat(**more)
    assert (caught.value.status, caught.value.param) == (400, param)


def test_sampling_defaults_are_the_documents() -> None:
    """§D1's temperature; an explicit 0 stays greedy; the rest is the profile's."""
    assert _chat().message.temperature == pytest.approx(0.7)
    assert _chat(temperature=0).message.temperature == 0
    assert _chat().message.max_tokens == 0
    assert _chat(temperature=1e300).message.temperature == float("inf")


def test_vllms_forced_length_is_passed_on_to_the_gateway_alone() -> None:
    """`ignore_eos` as vLLM's clients send it; OpenAI's service would refuse it."""
    assert not _chat().message.HasField("ignore_eos")
    for asked in (_chat(ignore_eos=True), _text(ignore_eos=True)):
        assert asked.message.ignore_eos
        body = for_fallback(asked, model="x", tokens_field="max_completion_tokens", max_tokens=9)
        assert "ignore_eos" not in body


def test_texts_are_sent_raw() -> None:
    """The older interface has no template; token numbers and several prompts are refused."""
    asked = _text(prompt=["Once"], stream=True, stream_options={"include_usage": True})
    assert (asked.message.prompt, asked.message.raw) == ("Once", True)
    assert (asked.streamed, asked.include_usage) == (True, True)
    for prompt in ([1, 2, 3], ["a", "b"], [], [[1]]):
        with pytest.raises(ApiError) as caught:
            _text(prompt=prompt)
        assert caught.value.param == "prompt"


def test_the_fallback_is_told_the_texts_and_not_who_asks() -> None:
    """No user, no priority, no workload; the longest answer under the name its model knows."""
    asked = _chat(
        user="u1", priority="batch", workload="question", seed=3, stop=["."], top_p=0.5, stream=True
    )
    assert for_fallback(asked, model="x", tokens_field="max_completion_tokens", max_tokens=50) == {
        "model": "x",
        "messages": [{"role": "user", "content": "Hi"}],
        "max_completion_tokens": 50,
        "temperature": 0.7,
        "seed": 3,
        "stop": ["."],
        "top_p": 0.5,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    assert for_fallback(_text(), model="x", tokens_field="max_completion_tokens", max_tokens=9) == {
        "model": "x",
        "prompt": "Hi",
        "max_tokens": 9,
        "temperature": 0.7,
    }
