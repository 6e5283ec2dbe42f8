"""Kept answers as bytes."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dreamseed_cli.gateway.cache.entry import CachedAnswer, Corrupted, OtherVersion, pack, unpack

_COUNT = st.none() | st.integers(0, 1 << 20)
_ANSWER = st.builds(
    CachedAnswer, st.text(), st.sampled_from(["stop", "length"]), _COUNT, _COUNT, st.booleans()
)


@given(_ANSWER)
def test_what_is_packed_comes_out(answer: CachedAnswer) -> None:
    """Every field."""
    assert unpack(pack(answer)) == answer


@given(_ANSWER, st.data())
def test_a_changed_byte_is_noticed(answer: CachedAnswer, data: st.DataObject) -> None:
    """In the text, in a count, in the checksum: it never becomes another answer."""
    value = bytearray(pack(answer))
    place = data.draw(st.integers(0, len(value) - 1))
    value[place] ^= data.draw(st.integers(1, 255))
    with pytest.raises(Corrupted if place else OtherVersion):
        unpack(bytes(value))


@given(_ANSWER, st.data())
def test_a_cut_value_is_noticed(answer: CachedAnswer, data: st.DataObject) -> None:
    """At any length, none included."""
    value = pack(answer)
    with pytest.raises(Corrupted):
        unpack(value[: data.draw(st.integers(0, len(value) - 1))])


@given(st.binary(max_size=64))
def test_anything_else_is_an_error_of_these_two(value: bytes) -> None:
    """Whoever else writes under our keys cannot make us fail otherwise."""
    with pytest.raises((Corrupted, OtherVersion)):
        unpack(value)


def test_a_valid_checksum_over_another_shape_is_corrupted() -> None:
    """The version says the shape; what has another one is wrong."""
    import zlib

    body = msgspec.msgpack.encode(["text", "stop", 1])
    with pytest.raises(Corrupted):
        unpack(b"\x01" + zlib.crc32(body).to_bytes(4) + body)
