"""Which requests are in order, and what the others are told."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dreamseed_cli.gateway.call import PriorityClass
from dreamseed_cli.gateway.proto.llm_pb2 import BATCH, PREMIUM, STANDARD, GenerateRequest, Turn
from dreamseed_cli.gateway.settings import GatewaySettings
from dreamseed_cli.gateway.validation import InvalidArgument, Validator
from dreamseed_cli.profile.schema import Gateway, Generation


def _validator(*, max_model_len: int | None = 4096, **generation: Any) -> Validator:
    return Validator(
        GatewaySettings(
            gateway=Gateway(generation=Generation(**generation)),
            served_name="served",
            api="chat",
            max_model_len=max_model_len,
            usage_per_chunk=True,
            simulated=False,
            api_key_env=None,
            admin_socket="/nowhere",
            replicas=(),
        )
    )


def test_what_is_unset_gets_the_profiles_defaults() -> None:
    """A bare prompt gets §B3's limits; temperature stays 0, since proto3 cannot tell unset from 0."""
    request = _validator(system_prompt="Be kind.").check(GenerateRequest(prompt="Why?")).request
    assert (request.max_tokens, request.temperature, request.top_p) == (200, 0.0, 0.9)
    assert (request.system_prompt, request.seed, request.stop) == ("Be kind.", None, ())


def test_requests_without_an_id_get_different_ones() -> None:
    """No two requests share an id, not even over two gateways."""
    ids = {
        validator.check(GenerateRequest(prompt="x")).request.request_id
        for validator in (_validator(), _validator())
        for _ in range(10)
    }
    assert len(ids) == 20


def test_what_is_set_is_taken_as_it_was_meant() -> None:
    """Values pass, float32 is read as the decimal that was written, and an empty system prompt means none."""
    message = GenerateRequest(
        prompt="a\0b",
        max_tokens=7,
        temperature=0.7,
        top_p=0.35,
        seed=-(2**63),
        stop=["\n\n", "END"],
        request_id="a.B_c:1-2",
        system_prompt="",
        model="served",
        user_id="u" * 256,
    )
    request = _validator(system_prompt="Be kind.").check(message).request
    assert (request.prompt, request.max_tokens, request.temperature, request.top_p) == ("a\0b", 7, 0.7, 0.35)
    assert (request.seed, request.stop, request.request_id) == (-(2**63), ("\n\n", "END"), "a.B_c:1-2")
    assert request.system_prompt is None


@pytest.mark.parametrize(("priority", "vllms"), [(PREMIUM, 0), (STANDARD, 1), (BATCH, 2)])
def test_premium_goes_before_batch(priority: Any, vllms: int) -> None:
    """vLLM serves lower numbers first, §D1's enum counts the other way."""
    wish = _validator().check(GenerateRequest(prompt="x", priority=priority))
    assert (wish.priority, wish.priority.engine_priority) == (priority, vllms)


def test_a_conversation_keeps_its_turns() -> None:
    """Turns stay in their order with their roles."""
    turns = [Turn(role="user", content="a"), Turn(role="assistant", content="b")]
    request = _validator().check(GenerateRequest(prompt="x", history=turns)).request
    assert [(turn.role, turn.content) for turn in request.history] == [("user", "a"), ("assistant", "b")]


def test_a_raw_prompt_gets_no_system_prompt_of_the_profile() -> None:
    """A completion is sent as it is: the profile's system prompt belongs to chats."""
    request = _validator(system_prompt="Be kind.").check(GenerateRequest(prompt="x", raw=True)).request
    assert (request.raw, request.system_prompt) == (True, None)


@pytest.mark.parametrize(("given", "label"), [("feedback", "feedback"), ("", "other"), ("zzz", "other")])
def test_workloads_are_a_closed_list(given: str, label: str) -> None:
    """A label from outside can not make metrics without end."""
    assert _validator().check(GenerateRequest(prompt="x", workload=given)).workload.value == label


def test_a_request_may_pass_the_cache_by() -> None:
    """The cache is used unless the request says otherwise."""
    check = _validator().check
    assert check(GenerateRequest(prompt="x")).use_cache
    assert not check(GenerateRequest(prompt="x", bypass_cache=True)).use_cache


def test_a_length_is_forced_only_on_request() -> None:
    """An answer ends where the model ends it, unless a measurement says otherwise."""
    check = _validator().check
    assert not check(GenerateRequest(prompt="x")).request.ignore_eos
    assert check(GenerateRequest(prompt="x", ignore_eos=True)).request.ignore_eos


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"prompt": ""}, "prompt is empty"),
        ({"prompt": " \n\t\u3000"}, "prompt is empty"),
        ({"max_tokens": -1}, "max_tokens is -1: allowed are 1 to 2048"),
        ({"max_tokens": 2049}, "max_tokens is 2049: allowed are 1 to 2048"),
        ({"max_tokens": -(2**31)}, "max_tokens is -2147483648"),
        ({"temperature": -0.01}, "temperature is -0.01: allowed are 0 to 2.0"),
        ({"temperature": 2.01}, "temperature is 2.01: allowed are 0 to 2.0"),
        ({"temperature": math.nan}, "temperature is nan"),
        ({"temperature": math.inf}, "temperature is inf"),
        ({"top_p": 0.0}, "top_p is 0.0: allowed is above 0 and up to 1"),
        ({"top_p": 1.01}, "top_p is 1.01"),
        ({"top_p": math.nan}, "top_p is nan"),
        ({"model": "gpt-9"}, "model is 'gpt-9': this service has 'served'"),
        ({"priority": 3}, "priority is 3: allowed are BATCH 0, STANDARD 1, PREMIUM 2"),
        ({"priority": -1}, "priority is -1"),
        ({"stop": ["a"] * 5}, "stop has 5 strings: at most 4"),
        ({"stop": ["a", ""]}, r"stop\[1\] has 0 characters: allowed are 1 to 256"),
        ({"stop": ["a" * 257]}, r"stop\[0\] has 257 characters"),
        ({"request_id": "a b"}, "request_id must be"),
        ({"request_id": "a\n"}, "request_id must be"),
        ({"request_id": "é"}, "request_id must be"),
        ({"request_id": "a" * 129}, "request_id must be"),
        ({"history": [Turn(role="system")]}, r"history\[0\].role is 'system': allowed are 'user' and"),
        ({"history": [Turn(role="user")] * 257}, "history has 257 turns: at most 256"),
        ({"history": [Turn(role="user")], "raw": True}, "history has no place before a raw prompt"),
        ({"system_prompt": "s", "raw": True}, "system_prompt has no place before a raw prompt"),
        ({"user_id": "a\0b"}, "user_id holds characters that cannot be printed"),
        ({"user_id": "u" * 257}, "user_id has 257 characters: at most 256"),
    ],
)
def test_a_field_out_of_range_is_named_with_its_value_and_range(fields: dict[str, Any], said: str) -> None:
    """The caller learns which field, what it was and what is allowed."""
    with pytest.raises(InvalidArgument, match=said):
        _validator().check(GenerateRequest(**({"prompt": "x"} | fields)))


def test_no_answer_may_be_longer_than_the_models_context() -> None:
    """The model's context bounds both what may be asked for and the default."""
    validator = _validator(max_model_len=100)
    assert validator.check(GenerateRequest(prompt="x")).request.max_tokens == 100
    with pytest.raises(InvalidArgument, match="max_tokens is 101: allowed are 1 to 100"):
        validator.check(GenerateRequest(prompt="x", max_tokens=101))


def test_a_bound_that_float32_cannot_hold_still_lets_itself_through() -> None:
    """float32 makes 1.1 a little more than 1.1; a request for the maximum is not refused for that."""
    wish = _validator(max_temperature=1.1).check(GenerateRequest(prompt="x", temperature=1.1))
    assert wish.request.temperature == 1.1


@given(
    st.builds(
        GenerateRequest,
        prompt=st.text(max_size=20),
        max_tokens=st.integers(-(2**31), 2**31 - 1),
        temperature=st.floats(width=32),
        top_p=st.none() | st.floats(width=32),
        priority=st.integers(-(2**31), 2**31 - 1),
        stop=st.lists(st.text(max_size=3), max_size=6),
        request_id=st.none() | st.text(max_size=5),
    )
)
def test_a_request_is_either_refused_or_within_every_bound(message: GenerateRequest) -> None:
    """No message makes anything but a valid request or an InvalidArgument."""
    try:
        wish = _validator().check(message)
    except InvalidArgument:
        return
    request = wish.request
    assert 1 <= request.max_tokens <= 2048
    assert 0 <= request.temperature <= 2
    assert 0 < request.top_p <= 1
    assert wish.priority in PriorityClass
    assert request.prompt.strip()
