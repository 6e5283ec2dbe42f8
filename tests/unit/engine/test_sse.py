"""Server-sent events, however the network cuts them."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dreamseed_cli.engine.sse import EventTooLong, SseDecoder

_LINE = st.text(st.characters(exclude_characters="\r\n", codec="utf-8"), max_size=20)
_EVENTS = st.lists(st.lists(_LINE, min_size=1, max_size=3), max_size=6)


def _cut(data: bytes, places: list[int]) -> list[bytes]:
    bounds = sorted({0, len(data), *(place % (len(data) + 1) for place in places)})
    return [data[start:end] for start, end in pairwise(bounds)]


@given(events=_EVENTS, ending=st.sampled_from(["\n", "\r\n", "\r"]), cuts=st.lists(st.integers(0, 10_000)))
def test_events_survive_any_cut_and_line_ending(
    events: list[list[str]], ending: str, cuts: list[int]
) -> None:
    """The payloads are the same wherever the reads are cut, in characters and line endings too."""
    wire = "".join("".join(f"data: {line}{ending}" for line in event) + ending for event in events)
    # A lone CR at the very end may be half a CRLF: the decoder waits for what follows.
    decoder = SseDecoder()
    found = [payload for part in _cut(wire.encode(), cuts) for payload in decoder.feed(part)]
    found += decoder.feed(b": end\n\n")
    assert found == ["\n".join(event).encode() for event in events]


def test_comments_and_other_fields_are_no_data() -> None:
    """A comment that keeps the line open, an event name and an id yield nothing."""
    decoder = SseDecoder()
    assert decoder.feed(b": ping\n\nevent: x\nid: 7\ndata:a\n\n\n\ndata: b\n\n") == [b"a", b"b"]


def test_an_event_without_its_blank_line_is_not_delivered() -> None:
    """An unfinished event waits."""
    decoder = SseDecoder()
    assert decoder.feed(b"data: half\n") == []
    assert decoder.feed(b"\n") == [b"half"]


def test_an_endless_event_is_refused() -> None:
    """A server that never ends its event cannot fill the memory."""
    decoder = SseDecoder()
    for _ in range(10):
        decoder.feed(b"x" * 100_000)
    with pytest.raises(EventTooLong):
        decoder.feed(b"x" * 100_000)
