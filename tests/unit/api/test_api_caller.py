"""Who asks, from the headers."""

from __future__ import annotations

import pytest

from dreamseed_cli.api.caller import RequestIds, read_caller
from dreamseed_cli.api.errors import ApiError


def test_the_bearers_key_is_read_and_not_shown() -> None:
    """Whatever the case of the scheme; repr() does not tell it."""
    caller = read_caller([(b"authorization", b"bearer  ds_key ")], allow_anonymous=False)
    assert caller.key == "ds_key"
    assert "ds_key" not in repr(caller)


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"Bearer",
        b"Bearer ",
        b"Basic eDp5",
        b"Bearer a b",
        b"Bearer \xc3\xa9",
        b"Bearer a\x00",
        b"Bearer " + b"x" * 513,
    ],
)
def test_what_is_no_key_is_401(value: bytes) -> None:
    """Also for anonymous callers: a broken key is a mistake, not its absence. It is not in the message."""
    for allowed in (False, True):
        with pytest.raises(ApiError) as caught:
            read_caller([(b"authorization", value)], allow_anonymous=allowed)
        assert caught.value.status == 401


def test_no_key_is_for_anonymous_callers_only() -> None:
    """401 unless they are allowed."""
    assert read_caller([], allow_anonymous=True).key is None
    with pytest.raises(ApiError):
        read_caller([], allow_anonymous=False)


def test_made_up_keys_are_none_where_none_is_needed() -> None:
    """OpenAI's clients insist on one; a key of ours is judged all the same."""
    for shown, key in ((b"Bearer EMPTY", None), (b"Bearer ds_x", "ds_x")):
        assert read_caller([(b"authorization", shown)], allow_anonymous=True).key == key
    assert read_caller([(b"authorization", b"Bearer EMPTY")], allow_anonymous=False).key == "EMPTY"


def test_cache_control_asks_for_a_fresh_answer() -> None:
    """no-cache and no-store do, in any case and whatever other lines there are; max-age does not."""
    for values, fresh in (
        ([b"no-cache"], True),
        ([b"max-age=0, No-Store"], True),
        ([b"no-cache", b"max-age=0"], True),
        ([b"max-age=0"], False),
    ):
        headers = [(b"cache-control", value) for value in values]
        assert read_caller(headers, allow_anonymous=True).fresh is fresh


def test_two_keys_are_none() -> None:
    """What is between client and front may have looked at the other one."""
    with pytest.raises(ApiError) as caught:
        read_caller(
            [(b"authorization", b"Bearer ds_a"), (b"authorization", b"Bearer ds_b")], allow_anonymous=True
        )
    assert caught.value.status == 401


def test_a_trace_is_read_if_it_is_one() -> None:
    """By the W3C's Trace Context; what is none is passed over."""
    shown = b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    assert read_caller([(b"traceparent", shown)], allow_anonymous=True).traceparent == shown.decode()
    for wrong in (b"", b"00-x-y-01", shown + b"\n", shown.upper(), b"\xff"):
        assert read_caller([(b"traceparent", wrong)], allow_anonymous=True).traceparent is None


def test_requests_have_names() -> None:
    """Their own if it is in order, else one that no other request has."""
    ids = RequestIds()
    assert ids.name([(b"x-request-id", b"lesson-7.a:b_c")]) == "lesson-7.a:b_c"
    made = {ids.name([(b"x-request-id", wrong)]) for wrong in (b"", b"a b", b"x" * 129, b"a\nb", b"\xff")}
    assert len(made | {RequestIds().name([])}) == 6
