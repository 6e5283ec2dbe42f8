"""An OpenAI-compatible stream becomes a record, however the network cuts it."""

from __future__ import annotations

import json
import re
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dreamseed_cli.bench.records import Ending, Record
from dreamseed_cli.bench.target.events import EventReader
from dreamseed_cli.bench.target.judge import Reception

_DONE = b"data: [DONE]\n\n"


def _event(text: str = "", finish: str | None = None, total: int | None = None, **more: Any) -> bytes:
    document: dict[str, Any] = {
        "choices": [{"index": 0, "delta": {"content": text}, "finish_reason": finish}]
    }
    if total is not None:
        document["usage"] = {"prompt_tokens": 7, "completion_tokens": total}
    return b"data: " + json.dumps(document | more).encode() + b"\n\n"


def _usage(total: int) -> bytes:
    return _event(total=total, choices=[])


def _read(*parts: bytes, wanted: int = 3, forced: bool = True) -> Record:
    """Each part arrives a second after the one before."""
    record = Record(number=0, workload="w", scheduled_s=0.0, wanted_tokens=wanted, forced=forced)
    reader = EventReader(Reception(record), epoch=100.0)
    for second, part in enumerate(parts, start=1):
        reader.feed(part, 100.0 + second)
    if not reader.over:
        reader.end()
    return record


_GOOD = (
    _event(total=0, role="assistant"),
    _event("one", total=1),
    _event(" två", total=2),
    _event(" three", "length", total=3),
    _usage(3),
    _DONE,
)


def test_a_whole_answer() -> None:
    """Every piece has its moment and the total then; the role's and the usage's events are no pieces."""
    record = _read(*_GOOD)
    assert (record.ending, record.detail) == (Ending.COMPLETE, "")
    assert (record.piece_s, record.piece_tokens) == ([2.0, 3.0, 4.0], [1, 2, 3])
    assert (record.first_token_s, record.last_token_s) == (2.0, 4.0)
    assert (record.prompt_tokens, record.completion_tokens) == (7, 3)


@given(st.lists(st.integers(0, len(b"".join(_GOOD))), max_size=12))
def test_cuts_change_nothing_but_moments(cuts: list[int]) -> None:
    """A read may end anywhere, in the middle of a character too."""
    stream = b"".join(_GOOD)
    edges = sorted({0, *cuts, len(stream)})
    record = _read(*(stream[begin:end] for begin, end in pairwise(edges)))
    assert record.ending is Ending.COMPLETE
    assert record.piece_tokens == [1, 2, 3]


@given(st.binary(max_size=300))
def test_no_bytes_are_too_strange(noise: bytes) -> None:
    """Whatever comes ends as something named, and never as an answer."""
    record = _read(noise, _DONE)
    assert record.ending not in {Ending.COMPLETE, Ending.ABANDONED}
    assert record.detail


def test_a_token_without_text_is_a_token() -> None:
    """With ignore_eos a model may go on in tokens that show nothing: the growing total tells of them."""
    record = _read(_event("a", total=1), _event(total=2), _event("", "length", total=3), _DONE)
    assert (record.ending, record.piece_tokens) == (Ending.COMPLETE, [1, 2, 3])


def test_a_total_at_the_end_is_no_token() -> None:
    """Usage that comes once for all, with the end, has no moment of its own."""
    record = _read(_event("a"), _event("bc"), _event("", "length", total=3), _DONE)
    assert (record.ending, record.piece_s, record.piece_tokens) == (Ending.COMPLETE, [1.0, 2.0], [0, 0])


def test_our_front_tells_more() -> None:
    """Cache, replica and provenance come with the last chunk."""
    facts = {"source": "gateway", "cache": "hit", "replica": "gpu0", "provenance": "simulated"}
    record = _read(_event("abc", total=3), _event("", "length", dreamseed=facts), _DONE)
    assert (record.cache_hit, record.replica, record.simulated) == (True, "gpu0", True)


_LIES = [
    ([_event("a"), _event("b", "length"), _DONE], Ending.MISCOUNTED, "no usage"),
    ([_event("a"), _event("b"), _event("c", "length"), _usage(2), _DONE], Ending.MISCOUNTED, "fewer tokens"),
    ([_event("a", total=3), _event("b", "length", total=2), _DONE], Ending.MISCOUNTED, "fell"),
    ([_event("a", "length"), _usage(4), _DONE], Ending.MISCOUNTED, "more tokens than were asked"),
    ([_event("a", "stop", total=1), _DONE], Ending.WRONG_LENGTH, r"shorter .*\(finish_reason stop\)"),
    ([_event("abc", total=3), _DONE], Ending.CUT, "without a finish_reason"),
    ([_event("abc", total=3)], Ending.CUT, "without a finish_reason"),
    ([_event("abc", "length", total=3)], Ending.CUT, r"without \[DONE\]"),
    ([_event("a", "abort", total=1), _DONE], Ending.SERVER_ERROR, r"broke the answer off \(abort\)"),
    (
        [_event("a"), b'data: {"error": {"message": "out of memory"}}\n\n'],
        Ending.SERVER_ERROR,
        "out of memory",
    ),
    ([_event("a"), b'data: {"choices": [{"de\n\n'], Ending.BROKEN, "no chunk of an answer"),
    ([_event("a"), b'data: {"choices": 7}\n\n'], Ending.BROKEN, "no chunk of an answer"),
    ([_event("a"), b"data: " + b"x" * (1 << 21)], Ending.BROKEN, "1 MiB"),
    ([_DONE], Ending.BROKEN, "without a single chunk"),
    ([b"hello\n\nworld\n\n"], Ending.BROKEN, "without a single chunk"),
    ([], Ending.BROKEN, "without a single chunk"),
]


@pytest.mark.parametrize(("stream", "ending", "detail"), _LIES)
def test_what_is_wrong_is_named(stream: list[bytes], ending: Ending, detail: str) -> None:
    """Every way to spoil an answer has its name and plain words."""
    record = _read(*stream)
    assert record.ending is ending
    assert re.search(detail, record.detail), record.detail


def test_nothing_after_the_end_counts() -> None:
    """What a server sends behind [DONE] or behind its error changes nothing."""
    record = _read(*_GOOD, _event("more", total=9))
    assert (record.ending, record.completion_tokens) == (Ending.COMPLETE, 3)


def test_an_unforced_answer_may_be_short() -> None:
    """Without a forced length the model ends where it likes."""
    assert _read(_event("a", "stop", total=1), _DONE, forced=False).ending is Ending.COMPLETE


def test_the_first_token_is_the_first_that_shows_something() -> None:
    """A token is counted at once and nothing shown of it; its text comes two seconds later."""
    record = _read(_event(total=1), _event(), _event("on", total=2), _event("e", "length", total=3), _DONE)
    assert (record.ending, record.first_token_s, record.last_token_s) == (Ending.COMPLETE, 3.0, 4.0)
    assert (record.piece_s, record.text_bytes) == ([1.0, 3.0, 4.0], 3)


def test_an_answer_of_half_a_character_shows_no_text() -> None:
    """So few tokens may be right without any; more of them are made up."""
    short = _read(_event(), _event("", "length", total=2), _DONE, wanted=2)
    assert (short.ending, short.first_token_s) == (Ending.COMPLETE, None)
    long = _read(_event(), _event("", "length", total=200), _DONE, wanted=200)
    assert (long.ending, long.detail) == (Ending.MISCOUNTED, "the usage tells tokens, and no text came")


def test_text_is_counted_in_bytes() -> None:
    """Three for a Hangul syllable."""
    assert _read(_event("강", total=1), _event("a", "length", total=3), _DONE).text_bytes == 4
