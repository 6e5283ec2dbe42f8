"""Cache keys: equal for equal requests, different for every difference that matters."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dreamseed_cli.engine.types import GenerationRequest, Turn
from dreamseed_cli.gateway.cache.key import DECIDES, LEFT_OUT, answer_keys
from dreamseed_cli.gateway.settings import GatewaySettings
from dreamseed_cli.profile.schema import Gateway

_TEXT = st.text(max_size=12)
_TURN = st.builds(Turn, st.sampled_from(["user", "assistant"]), _TEXT)
_DECIDING: dict[str, st.SearchStrategy[Any]] = {
    "system_prompt": st.none() | _TEXT,
    "history": st.lists(_TURN, max_size=3).map(tuple),
    "prompt": _TEXT,
    "raw": st.booleans(),
    "max_tokens": st.integers(1, 4096),
    "temperature": st.floats(0, 2).map(lambda value: value + 0.0),  # one zero
    "top_p": st.floats(0, 1, exclude_min=True),
    "seed": st.none() | st.integers(-(2**63), 2**63 - 1),
    "stop": st.lists(_TEXT, max_size=3).map(tuple),
    "ignore_eos": st.booleans(),
}
_LEFT_OUT: dict[str, st.SearchStrategy[Any]] = {
    "request_id": _TEXT,
    "priority": st.integers(0, 2),
    "emitted": _TEXT,
}
_REQUEST = st.builds(GenerationRequest, **_DECIDING, **_LEFT_OUT)


def _settings(**changes: Any) -> GatewaySettings:
    values: dict[str, Any] = {
        "gateway": Gateway(),
        "served_name": "served",
        "api": "chat",
        "max_model_len": 4096,
        "usage_per_chunk": True,
        "simulated": False,
        "api_key_env": None,
        "admin_socket": str(Path("admin.sock")),
        "replicas": (),
    }
    return GatewaySettings(**(values | changes))


_key = answer_keys(_settings())


def _request(**changes: Any) -> GenerationRequest:
    values: dict[str, Any] = {
        "request_id": "r",
        "prompt": "Why is the sky blue?",
        "max_tokens": 200,
        "temperature": 0.7,
        "top_p": 0.9,
    }
    return GenerationRequest(**(values | changes))


def test_every_field_of_a_request_is_decided_about() -> None:
    """Whoever adds one says whether the answer depends on it, here and in the key."""
    fields = {field.name for field in dataclasses.fields(GenerationRequest)}
    assert fields == DECIDES | LEFT_OUT
    assert not DECIDES & LEFT_OUT
    assert set(_DECIDING) == DECIDES
    assert {field.name for field in dataclasses.fields(Turn)} == {"role", "content"}


@given(_REQUEST, st.sampled_from(sorted(_DECIDING)), st.data())
def test_requests_that_differ_in_what_decides_have_different_keys(
    request: GenerationRequest, name: str, data: st.DataObject
) -> None:
    """One field changed is enough."""
    value = data.draw(_DECIDING[name].filter(lambda value: value != getattr(request, name)))
    assert _key(dataclasses.replace(request, **{name: value})) != _key(request)


@given(_REQUEST, _REQUEST)
def test_two_requests_have_one_key_exactly_if_all_that_decides_is_equal(
    one: GenerationRequest, other: GenerationRequest
) -> None:
    """Both ways."""
    equal = all(getattr(one, name) == getattr(other, name) for name in DECIDES)
    assert (_key(one) == _key(other)) is equal


@given(_REQUEST, st.fixed_dictionaries(_LEFT_OUT))
def test_what_does_not_decide_changes_nothing(request: GenerationRequest, others: dict[str, Any]) -> None:
    """The same question by another user at another priority has the same answer."""
    assert _key(dataclasses.replace(request, **others)) == _key(request)


@pytest.mark.parametrize(
    "change",
    [{"served_name": "other"}, {"model_revision": "r2"}, {"api": "completions"}, {"simulated": True}],
)
def test_another_model_has_other_keys(change: dict[str, Any]) -> None:
    """Name, revision, interface, and whether it is emulated."""
    assert answer_keys(_settings(**change))(_request()) != _key(_request())


def test_neighbouring_texts_do_not_run_together() -> None:
    """What stands at the end of one field is not what stands at the beginning of the next."""
    texts = [
        _request(system_prompt="ab", prompt="c"),
        _request(system_prompt="a", prompt="bc"),
        _request(system_prompt="", prompt="abc"),
        _request(system_prompt=None, prompt="abc"),
        _request(prompt="c", history=(Turn("user", "ab"),)),
        _request(prompt="c", history=(Turn("user", "a"), Turn("user", "b"))),
        _request(prompt="c", stop=("ab",)),
        _request(prompt="c", stop=("a", "b")),
    ]
    assert len({_key(request) for request in texts}) == len(texts)


def test_the_key_of_a_request_stays_what_it_is() -> None:
    """Otherwise every kept answer would be lost, or an old one taken for a new one: change FORMAT then."""
    assert _key(_request()) == "7bbef6ead53c41c75a74cdaa36d4a40c642fa3e9a88f5aa45307825ccf42945e"


def test_a_whole_number_is_the_number() -> None:
    """A temperature of 1 and one of 1.0 are one temperature."""
    assert _key(_request(temperature=1)) == _key(_request(temperature=1.0))
