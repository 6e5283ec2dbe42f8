"""API keys: random, recognisable, checked before anybody is asked."""

from __future__ import annotations

import hashlib

from hypothesis import given
from hypothesis import strategies as st

from dreamseed_cli.gateway.accounts.keys import key_hash, new_key


def test_a_key_is_known_by_the_hash_of_its_whole_text() -> None:
    """What is stored at its creation is what a request's key is looked up by."""
    key = new_key()
    assert key.text.startswith("ds_")
    assert len(key.text) == 52
    assert key_hash(key.text) == key.hash == hashlib.sha256(key.text.encode()).digest()


def test_no_two_keys_are_alike() -> None:
    """Nor are the first characters by which lists show them."""
    keys = [new_key() for _ in range(200)]
    assert len({key.text for key in keys}) == len({key.prefix for key in keys}) == 200


@given(position=st.integers(3, 51), letter=st.characters(codec="utf-8"))
def test_a_typo_is_found_without_asking(position: int, letter: str) -> None:
    """Any single character that is wrong."""
    text = new_key().text
    wrong = text[:position] + letter + text[position + 1 :]
    assert (key_hash(wrong) is None) == (wrong != text)


@given(st.text())
def test_garbage_is_no_key(text: str) -> None:
    """Whatever a caller sends, nothing but None."""
    assert key_hash(text) is None
    assert key_hash("ds_" + text) is None


def test_a_line_end_makes_it_another_text() -> None:
    """A pattern's `$` would let it pass."""
    assert key_hash(new_key().text + "\n") is None
