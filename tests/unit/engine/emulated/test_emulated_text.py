"""Deterministic text, its lengths and its ends."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dreamseed_cli.engine.emulated.text import (
    VOCABULARY,
    Sampling,
    continue_answer,
    count_tokens,
    json_string,
    token_ids,
    write_answer,
)

FORCED = Sampling(max_tokens=100, ignore_eos=True)


def test_same_request_same_text() -> None:
    """The same seed and request give the same tokens, whatever was asked in between."""
    first = write_answer(7, "Why is the sky blue?", FORCED)
    write_answer(7, "another", FORCED)
    assert write_answer(7, "Why is the sky blue?", FORCED) == first


@pytest.mark.parametrize(
    ("seed", "prompt", "sampling"),
    [
        (8, "Hi", FORCED),
        (7, "Ho", FORCED),
        (7, "Hi", replace(FORCED, seed=1)),
        (7, "Hi", replace(FORCED, temperature=0.5)),
        (7, "Hi", replace(FORCED, top_p=0.5)),
    ],
)
def test_other_request_other_text(seed: int, prompt: str, sampling: Sampling) -> None:
    """Engine seed, prompt, request seed, temperature and top_p each change the text."""
    assert write_answer(seed, prompt, sampling).pieces != write_answer(7, "Hi", FORCED).pieces


def test_max_tokens_only_cuts() -> None:
    """A smaller max_tokens gives the beginning of the same text and finish reason 'length'."""
    long = write_answer(0, "Hi", FORCED)
    short = write_answer(0, "Hi", replace(FORCED, max_tokens=10))
    assert short.pieces == long.pieces[:10]
    assert short.finish_reason == "length"


@given(prompt=st.text(max_size=20), limit=st.integers(1, 600), least=st.integers(0, 600))
def test_lengths(prompt: str, limit: int, least: int) -> None:
    """1..max_tokens tokens come, at least min_tokens before a natural end; forced ones exactly."""
    least = min(least, limit)
    answer = write_answer(0, prompt, Sampling(limit, min_tokens=least))
    assert max(1, least) <= len(answer.pieces) <= limit
    if answer.finish_reason == "stop":
        assert answer.pieces[-1] == ""
        assert len(answer.pieces) > least
    else:
        assert len(answer.pieces) == limit
    forced = write_answer(0, prompt, Sampling(limit, ignore_eos=True))
    assert (len(forced.pieces), forced.finish_reason) == (limit, "length")


def test_some_answers_end_by_themselves() -> None:
    """With room enough, answers end naturally, at lengths that differ."""
    answers = [write_answer(0, str(number), Sampling(4000)) for number in range(20)]
    assert {answer.finish_reason for answer in answers} == {"stop"}
    assert len({len(answer.pieces) for answer in answers}) > 10


@given(start=st.integers(0, 300), length=st.integers(1, 12), least=st.integers(0, 80))
def test_stop_string_cuts_at_its_first_occurrence(start: int, length: int, least: int) -> None:
    """The text ends before the first stop string that ends after min_tokens; its tokens are counted."""
    free = write_answer(0, "Hi", FORCED)
    text = "".join(free.pieces)
    stop = text[start : start + length]
    answer = write_answer(0, "Hi", replace(FORCED, stop=("never there", stop), min_tokens=least))

    assert (answer.finish_reason, answer.stop_reason) == ("stop", stop) or least
    if answer.finish_reason == "stop":
        kept = "".join(answer.pieces)
        used = "".join(free.pieces[: len(answer.pieces)])
        assert used.startswith(kept + stop)
        assert len(answer.pieces) > least
        before = "".join(free.pieces[: len(answer.pieces) - 1])
        assert stop not in before or least


def test_vocabulary_is_words_and_korean() -> None:
    """One byte picks a token; tokens are words with a leading space, Korean among them."""
    assert len(VOCABULARY) == 256
    assert sum(token.startswith(" ") for token in VOCABULARY) > 200
    assert any(len(token.encode()) > len(token) for token in VOCABULARY)


@given(st.text())
def test_tokens_are_four_bytes(text: str) -> None:
    """A prompt has one token for every four bytes of UTF-8, rounded up."""
    assert count_tokens(text) == -(-len(text.encode()) // 4) == len(token_ids(text))


@pytest.mark.parametrize("text", ["", " the", 'a"b\\', "한국\n"])
def test_json_string(text: str) -> None:
    """Known tokens and any other text alike become JSON strings."""
    import json

    assert json.loads(json_string(text)) == text


@given(
    prompt=st.text(max_size=20),
    limit=st.integers(2, 300),
    cut=st.integers(1, 299),
    stop=st.sampled_from([(), (" the",)]),
)
def test_a_continued_answer_is_the_uninterrupted_one(
    prompt: str, limit: int, cut: int, stop: tuple[str, ...]
) -> None:
    """Whatever has been emitted of an answer, the rest is what would have come, and ends as it would have."""
    sampling = Sampling(limit, stop=stop)
    whole = write_answer(3, prompt, sampling)
    cut = min(cut, len(whole.pieces) - 1)
    emitted = "".join(whole.pieces[:cut])
    if not emitted:
        return
    rest = continue_answer(3, prompt, emitted, replace(sampling, max_tokens=limit - cut))
    assert emitted + "".join(rest.pieces) == "".join(whole.pieces)
    assert (rest.finish_reason, rest.stop_reason) == (whole.finish_reason, whole.stop_reason)


def test_a_foreign_beginning_is_part_of_the_prompt() -> None:
    """Text that this engine would not have given is continued like any other prompt."""
    assert continue_answer(3, "Hi", "Bonjour", FORCED) == write_answer(3, "HiBonjour", FORCED)
