"""What is known of an answer over several attempts at it."""

from __future__ import annotations

import pytest

from dreamseed_cli.engine.types import Chunk, GenerationRequest
from dreamseed_cli.gateway.continuation import Progress
from dreamseed_cli.gateway.slot import Slot

_REQUEST = GenerationRequest("id", "Why?", max_tokens=20, temperature=0.0, top_p=1.0, priority=1)


def _add(progress: Progress, text: str, tokens: int | None, prompt: int | None = 9) -> int | None:
    chunk = Chunk(text, None, prompt, tokens)
    return progress.add(chunk, Slot("r0", ready=True), simulated=True, queue_s=0.0).completion_tokens


def test_the_first_request_is_the_callers() -> None:
    """Only the priority is ours; where it is the same already, nothing is copied."""
    progress = Progress(_REQUEST)
    assert progress.request(1) is _REQUEST
    assert progress.request(0).priority == 0


def test_the_next_request_asks_for_what_is_missing() -> None:
    """Text and tokens that were delivered are named and taken off; counts run on from there."""
    progress = Progress(_REQUEST)
    _add(progress, "Because", 3)
    _add(progress, " of", 5)
    progress.continue_elsewhere()
    rest = progress.request(2)
    assert (rest.emitted, rest.max_tokens, rest.prompt, rest.priority) == ("Because of", 15, "Why?", 2)
    assert progress.tokens_here == 0
    assert _add(progress, " light", 2, prompt=14) == 7
    assert (progress.tokens, progress.tokens_here, progress.prompt_tokens) == (7, 2, 9)
    assert progress.request(2).emitted == "Because of light"


@pytest.mark.parametrize(
    ("temperature", "seed", "tokens", "allowed"),
    [(0.0, None, 3, True), (0.7, 5, 3, True), (0.7, None, 3, False), (0.0, None, None, False)],
)
def test_who_may_be_continued(
    temperature: float, seed: int | None, tokens: int | None, allowed: bool
) -> None:
    """Greedy or seeded answers whose tokens are counted: no other engine could repeat or measure the rest."""
    request = GenerationRequest("id", "Why?", 20, temperature, 1.0, seed=seed)
    progress = Progress(request)
    _add(progress, "Because", tokens)
    assert progress.may_continue() is allowed


def test_nobody_is_continued_for_ever() -> None:
    """After three continuations the next failure is the caller's to know."""
    progress = Progress(_REQUEST)
    for tokens in (1, 1, 1):
        _add(progress, "x", tokens)
        assert progress.may_continue()
        progress.continue_elsewhere()
    assert not progress.may_continue()
