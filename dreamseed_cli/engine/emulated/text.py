"""Text without a model: the same seed and the same request give the same tokens.

There is no tokenizer either. The rule for counting is: one token for every four bytes of UTF-8, rounded
up, of the prompt as the template renders it.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, cycle, islice

import msgspec

BYTES_PER_TOKEN = 4
_MEDIAN_ANSWER_TOKENS = 180
_ANSWER_SPREAD = 0.5
_WORDS = (
    " the of and to in is that for with as on by this are from it be at or an which can not each when"
    " you we how what why one two more than first next then so if but also into only same other time"
    " step idea answer question example reason result number value point part line word rule unit"
    " learn read write think ask show find give take make use test try check compare explain describe"
    " solve measure repeat change grow move start end begin follow lead hold keep turn build draw"
    " student teacher lesson school exam book page chapter problem solution method practice progress"
    " science history language music energy light water plant animal cell city river ocean weather"
    " simple clear small large short long early late possible correct useful common different similar"
    " important careful because therefore however between before after under over while during again"
    " always often never usually together twice half whole equal left right above below near far"
    " graph table circle square angle area length weight speed force heat sound sum product ratio"
    " fraction figure formula pattern memory feedback attention focus effort goal skill habit reward"
)
_KOREAN = " 학생 은 는 이 가 문제 를 풀이 답 은 먼저 다음 예를 들어 공부 시간 질문 그리고 설명 하면 됩니다"
_PUNCTUATION = (",", ".", ",", ".", ".", ":", "!", "?", ".\n", " —")


def _vocabulary() -> tuple[str, ...]:
    """256 tokens, so that one random byte picks one: words with a leading space, Korean, punctuation."""
    rest = [f" {word}" for word in _KOREAN.split()] + list(_PUNCTUATION) * 3
    words = islice(cycle(_WORDS.split()), 256 - len(rest))
    return (*(f" {word}" for word in words), *rest)


VOCABULARY = _vocabulary()
_ESCAPED = {token: msgspec.json.encode(token) for token in VOCABULARY}


def json_string(text: str) -> bytes:
    """`text` as a JSON string, with its quotes; looked up for the tokens of the vocabulary."""
    return _ESCAPED.get(text) or msgspec.json.encode(text)


def count_tokens(text: str) -> int:
    """Tokens of a rendered prompt: its UTF-8 bytes / 4, rounded up."""
    return -(-len(text.encode()) // BYTES_PER_TOKEN)


def token_ids(text: str) -> list[int]:
    """A number for each token of `text`; their count is `count_tokens(text)`."""
    data = text.encode()
    return [
        int.from_bytes(data[start : start + BYTES_PER_TOKEN], "big")
        for start in range(0, len(data), BYTES_PER_TOKEN)
    ]


@dataclass(frozen=True, slots=True)
class Sampling:
    """What decides a request's text besides its prompt, as vLLM's fields of the same names."""

    max_tokens: int
    min_tokens: int = 0
    temperature: float = 1.0
    top_p: float = 1.0
    seed: int | None = None
    stop: tuple[str, ...] = ()
    ignore_eos: bool = False


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole answer: the text of each token, and why it ends.

    The token that ends a text naturally, and what a stop string cuts away, are tokens without text.
    """

    pieces: tuple[str, ...]
    finish_reason: str
    stop_reason: str | None = None


def write_answer(engine_seed: int, prompt: str, sampling: Sampling) -> Answer:
    """The answer to `prompt`. Does not depend on `max_tokens` except in its length."""
    rng = random.Random(_request_seed(engine_seed, prompt, sampling))  # noqa: S311 - text, not secrets
    natural = int(rng.lognormvariate(0, _ANSWER_SPREAD) * _MEDIAN_ANSWER_TOKENS)
    natural = max(natural, sampling.min_tokens + 1)
    ends = not sampling.ignore_eos and natural <= sampling.max_tokens
    length = natural - 1 if ends else sampling.max_tokens
    # Whole 32-bit words of randomness: so a longer text begins with the shorter one.
    pieces = [VOCABULARY[byte] for byte in rng.randbytes((length + 3) // 4 * 4)[:length]]
    if pieces:
        pieces[0] = pieces[0].lstrip()
    stopped = _stop_at(pieces, sampling) if sampling.stop else None
    if stopped is not None:
        return stopped
    return Answer((*pieces, ""), "stop") if ends else Answer(tuple(pieces), "length")


def continue_answer(engine_seed: int, prompt: str, emitted: str, sampling: Sampling) -> Answer:
    """What the answer to `prompt` goes on with after `emitted`, up to `max_tokens` more; if `emitted` is not
    its beginning, an answer to both together, as of a model that goes on from what it is given.
    """
    ample = replace(sampling, max_tokens=sampling.max_tokens + len(emitted))
    count = _pieces_of(emitted, write_answer(engine_seed, prompt, ample).pieces)
    if count is None:
        return write_answer(engine_seed, prompt + emitted, sampling)
    whole = write_answer(engine_seed, prompt, replace(sampling, max_tokens=sampling.max_tokens + count))
    return replace(whole, pieces=whole.pieces[count:])


def _pieces_of(emitted: str, pieces: Sequence[str]) -> int | None:
    """How many pieces `emitted` is made of; None if it ends elsewhere."""
    ends = accumulate(map(len, pieces))
    count = next((number for number, end in enumerate(ends, start=1) if end == len(emitted)), None)
    return count if count is not None and "".join(pieces[:count]) == emitted else None


def _request_seed(engine_seed: int, prompt: str, sampling: Sampling) -> int:
    key = f"{engine_seed}|{sampling.seed}|{sampling.temperature}|{sampling.top_p}|{prompt}"
    return int.from_bytes(hashlib.blake2b(key.encode(), digest_size=8).digest(), "big")


def _stop_at(pieces: Sequence[str], sampling: Sampling) -> Answer | None:
    """The answer cut before the first stop string that ends after `min_tokens`; None if none occurs."""
    text = ""
    for count, piece in enumerate(pieces, start=1):
        old = len(text)
        text += piece
        if count <= sampling.min_tokens:
            continue
        found = {stop: text.find(stop, max(0, old - len(stop) + 1)) for stop in sampling.stop}
        found = {stop: at for stop, at in found.items() if at >= 0}
        if found:
            return _cut(pieces[:count], found)
    return None


def _cut(pieces: Sequence[str], found: Mapping[str, int]) -> Answer:
    """Keep the text before the earliest stop string; its tokens stay counted."""
    stop = min(found, key=lambda candidate: found[candidate])
    room = found[stop]
    kept: list[str] = []
    for piece in pieces:
        kept.append(piece[: max(room, 0)])
        room -= len(piece)
    return Answer(tuple(kept), "stop", stop)
