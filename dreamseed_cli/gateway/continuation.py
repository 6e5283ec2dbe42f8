"""One answer over all attempts at it: what has been delivered, and the request for the rest. Pure."""

from __future__ import annotations

from dataclasses import replace

from dreamseed_cli.engine.types import Chunk, EngineUnavailable, GenerationRequest
from dreamseed_cli.gateway.call import Delta
from dreamseed_cli.gateway.slot import Slot

_MOST_CONTINUATIONS = 3


class AnswerCut(EngineUnavailable):
    """The engine failed after a part of the answer was delivered, and no other one could go on.

    emitted: the text that was delivered. tokens: how many that were, as far as known.
    """

    def __init__(self, cause: str, *, place: str = "", emitted: str = "", tokens: int = 0) -> None:
        super().__init__(cause, place=place)
        self.emitted = emitted
        self.tokens = tokens


class Progress:
    """What the caller has of its answer. Token counts are running totals over all attempts.

    started: whether anything of it was delivered. finished: whether the engine said that it is complete.
    simulated: whether an emulated engine gave the last part.
    """

    def __init__(self, request: GenerationRequest) -> None:
        self._request = request
        self._texts: list[str] = []
        self._before = 0
        self._continuations = 0
        self.tokens = 0
        self.prompt_tokens: int | None = None
        self.started = False
        self.finished = False
        self.simulated = False

    @property
    def emitted(self) -> str:
        """The delivered text."""
        return "".join(self._texts)

    @property
    def tokens_here(self) -> int:
        """Tokens of the present attempt."""
        return self.tokens - self._before

    @property
    def tokens_left(self) -> int:
        """How many more the caller allows."""
        return self._request.max_tokens - self.tokens

    def request(self, engine_priority: int) -> GenerationRequest:
        """What to ask the next engine for: everything, or what is missing."""
        if not self.started:
            known = self._request.priority == engine_priority
            return self._request if known else replace(self._request, priority=engine_priority)
        return replace(
            self._request, priority=engine_priority, emitted=self.emitted, max_tokens=self.tokens_left
        )

    def add(self, chunk: Chunk, slot: Slot, *, simulated: bool, queue_s: float) -> Delta:
        """Take an engine's chunk in; as it goes to the caller."""
        self.started, self.simulated = True, simulated
        if chunk.text:
            self._texts.append(chunk.text)
        tokens = chunk.completion_tokens
        if tokens is not None:
            tokens += self._before
            self.tokens = tokens
        self.prompt_tokens = self.prompt_tokens or chunk.prompt_tokens
        self.finished = self.finished or chunk.finish_reason is not None
        return Delta(
            chunk.text,
            slot.name,
            chunk.finish_reason,
            self.prompt_tokens,
            tokens,
            simulated,
            elsewhere=slot.elsewhere,
            queue_s=queue_s,
        )

    def may_continue(self) -> bool:
        """Whether another engine with the same model may go on: greedy or seeded, every token counted, and
        not too often.
        """
        repeatable = self._request.temperature == 0 or self._request.seed is not None
        return repeatable and self.tokens > 0 and self._continuations < _MOST_CONTINUATIONS

    def continue_elsewhere(self) -> None:
        """The next request goes on from here."""
        self._continuations += 1
        self._before = self.tokens
