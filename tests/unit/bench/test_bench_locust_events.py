"""What a stream, a status or an error says of a request's ending."""

from __future__ import annotations

import errno
import socket

import pytest

from dreamseed_cli.bench.locust_users.endings import of_answer, of_failure
from dreamseed_cli.bench.locust_users.events import Answer, completion_tokens, has_text
from dreamseed_cli.bench.records import Ending
from dreamseed_cli.bench.target.judge import of_status

_ROLE = b'data: {"choices":[{"delta":{"role":"assistant","content":""}}],"usage":null}\n'
_TEXT = b'data: {"choices":[{"delta":{"content":"a"}}],"usage":null}\n'
_USAGE = b'data: {"choices":[],"usage":{"completion_tokens":7}}\n'
_DONE = b"data: [DONE]\n"


def _fed(*lines: bytes) -> Answer:
    answer = Answer()
    for line in lines:
        answer.feed(line)
    return answer


def test_the_first_text_is_not_the_first_event() -> None:
    """An event that only names the role has no text."""
    assert not _fed(_ROLE, b"\n").text_begun
    assert _fed(_ROLE, b"\n", _TEXT).text_begun


def test_a_whole_answer_has_its_usage_and_its_end() -> None:
    """Tokens are the server's; comments and blank lines are passed over."""
    answer = _fed(_ROLE, b"\n", b": ping\n", _TEXT, _TEXT, _USAGE, b"\n", _DONE)
    assert (answer.ending(), answer.tokens) == (Ending.COMPLETE, 7)


def test_the_front_says_that_an_answer_is_simulated() -> None:
    """In the chunk that ends it."""
    last = b'data: {"choices":[],"dreamseed":{"source":"gateway","provenance":"simulated"}}\n'
    assert _fed(_TEXT, last, _DONE).simulated
    assert not _fed(_TEXT, _USAGE, _DONE).simulated


@pytest.mark.parametrize(
    ("lines", "ending"),
    [
        ((_TEXT, _USAGE), Ending.CUT),
        ((), Ending.CUT),
        ((_TEXT, b'data: {"error":{"code":"answer_cut"}}\n'), Ending.SERVER_ERROR),
        ((b"data: <html>\n", _DONE), Ending.BROKEN),
        ((b"data: [1]\n", _DONE), Ending.BROKEN),
    ],
)
def test_what_is_not_whole_is_named(lines: tuple[bytes, ...], ending: Ending) -> None:
    """Without [DONE] it is cut; an error in the stream and nonsense are themselves."""
    assert _fed(*lines).ending() is ending


def test_a_text_about_errors_is_no_error() -> None:
    """The word stands in the text, with its quotes escaped."""
    said = b'data: {"choices":[{"delta":{"content":"the \\"error\\" of \\"usage\\""}}]}\n'
    assert _fed(_TEXT, said, _USAGE, _DONE).ending() is Ending.COMPLETE


@pytest.mark.parametrize("document", [None, [], {}, {"usage": None}, {"usage": {"completion_tokens": "9"}}])
def test_usage_that_tells_nothing_is_none(document: object) -> None:
    """0, which no answer has."""
    assert completion_tokens(document) == 0


@pytest.mark.parametrize(
    ("status", "ending"),
    [
        (200, Ending.COMPLETE),
        (304, Ending.COMPLETE),
        (401, Ending.REJECTED),
        (429, Ending.REFUSED),
        (503, Ending.REFUSED),
        (500, Ending.SERVER_ERROR),
        (504, Ending.SERVER_ERROR),
    ],
)
def test_a_status_is_an_ending(status: int, ending: Ending) -> None:
    """429 and 503 say that there is no room, another 4xx that the request is wrong."""
    assert of_status(status) is ending


@pytest.mark.parametrize(
    ("error", "ending"),
    [
        (ConnectionRefusedError(errno.ECONNREFUSED, "no"), Ending.UNREACHABLE),
        (socket.gaierror(-2, "unknown"), Ending.UNREACHABLE),
        (OSError(errno.EMFILE, "too many"), Ending.UNSENT),
        (TimeoutError("timed out"), Ending.STALLED),
        (ConnectionResetError(errno.ECONNRESET, "reset"), Ending.CUT),
    ],
)
def test_a_failure_is_an_ending(error: OSError, ending: Ending) -> None:
    """No connection, no byte, or half an answer; also in geventhttpclient's wrapping."""
    assert of_failure(error) is ending
    wrapped = Exception("retries exceeded")
    wrapped.original = error  # type: ignore[attr-defined]
    assert of_failure(wrapped) is ending


def test_an_answer_of_another_length_is_no_answer() -> None:
    """Where a length was forced; one without any tokens is miscounted."""
    assert of_answer(5, 5) is Ending.COMPLETE
    assert of_answer(4, 5) is Ending.WRONG_LENGTH
    assert of_answer(4, None) is Ending.COMPLETE
    assert of_answer(0, None) is Ending.MISCOUNTED
    assert of_answer(5, 5, text=False) is Ending.MISCOUNTED


@pytest.mark.parametrize(
    ("message", "text"),
    [({"content": "a"}, True), ({"content": ""}, False), ({"reasoning_content": "Hm"}, True), (None, False)],
)
def test_a_whole_answer_without_text_is_told(message: object, text: bool) -> None:
    """Thoughts are text, too."""
    assert has_text({"choices": [{"message": message}]}, "message") is text
