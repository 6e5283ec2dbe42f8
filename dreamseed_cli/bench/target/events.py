"""An OpenAI-compatible stream, read as its bytes arrive. No socket in here."""

from __future__ import annotations

import msgspec

from dreamseed_cli.bench.records import Ending
from dreamseed_cli.bench.target.judge import Reception
from dreamseed_cli.engine.openai_api import BROKEN_OFF, DONE, NO_ERROR, Choice, Delta, Usage, error_message
from dreamseed_cli.engine.sse import EventTooLong, SseDecoder


class _Delta(Delta, gc=False):
    """Some servers send a model's thinking apart: its tokens count, too."""

    reasoning_content: str | None = None
    reasoning: str | None = None


class _Choice(Choice, gc=False):
    delta: _Delta | None = None


class _Facts(msgspec.Struct, gc=False):
    """Our front's, with a stream's last chunk."""

    cache: str | None = None
    replica: str | None = None
    provenance: str | None = None


class _Event(msgspec.Struct, gc=False):
    choices: list[_Choice] = []
    usage: Usage | None = None
    error: msgspec.Raw = msgspec.Raw()
    dreamseed: _Facts | None = None


_decode = msgspec.json.Decoder(_Event).decode


class EventReader:
    """Reads one answer into its reception.

    epoch: the monotonic moment that the record's times count from.
    over: nothing more of it matters, as it ended with [DONE] or is spoilt.
    """

    __slots__ = ("_chunks", "_epoch", "_sse", "over", "reception")

    def __init__(self, reception: Reception, *, epoch: float) -> None:
        self.reception = reception
        self._epoch = epoch
        self._sse = SseDecoder()
        self._chunks = 0
        self.over = False

    def feed(self, data: bytes, at_s: float) -> None:
        """What arrived at the monotonic moment `at_s`."""
        if self.over:
            return
        at_s -= self._epoch
        try:
            for payload in self._sse.feed(data):
                if not self._take(payload, at_s):
                    return
        except EventTooLong:
            self._spoil(Ending.BROKEN, "an event of over 1 MiB: this is no stream of tokens")
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            self._spoil(Ending.BROKEN, f"an event is no chunk of an answer: {error}")

    def end(self) -> None:
        """The response is complete, and [DONE] did not come."""
        if not self._chunks:
            self._spoil(Ending.BROKEN, "the event stream ended without a single chunk of an answer")
        elif self.reception.finish_reason is None:
            self.reception.judge()
        else:
            self._spoil(Ending.CUT, "the stream ended without [DONE]")

    def _take(self, payload: bytes, at_s: float) -> bool:
        """Whether more of the answer matters."""
        if payload == DONE:
            self._done()
        else:
            self._chunk(_decode(payload), at_s)
        return not self.over

    def _chunk(self, event: _Event, at_s: float) -> None:
        self._chunks += 1
        if bytes(event.error) not in NO_ERROR:
            self._spoil(Ending.SERVER_ERROR, f"an error in the stream: {error_message(event.error)}")
            return
        usage, choice = event.usage, event.choices[0] if event.choices else None
        if usage is not None and usage.prompt_tokens is not None:
            self.reception.record.prompt_tokens = usage.prompt_tokens
        total = usage.completion_tokens if usage is not None else None
        if choice is not None:
            reason = choice.finish_reason
            self.reception.note(at_s, text=_text_of(choice), total=total, finish_reason=reason)
            if reason in BROKEN_OFF:
                self._spoil(Ending.SERVER_ERROR, f"the engine broke the answer off ({reason})")
        elif total is not None:
            self.reception.tell(total)
        if event.dreamseed is not None:
            self._facts(event.dreamseed)

    def _facts(self, facts: _Facts) -> None:
        record = self.reception.record
        record.replica = facts.replica or record.replica
        if facts.cache is not None:
            record.cache_hit = facts.cache == "hit"
        record.simulated = record.simulated or facts.provenance == "simulated"

    def _done(self) -> None:
        self.over = True
        if self._chunks:
            self.reception.judge()
        else:
            self.end()

    def _spoil(self, ending: Ending, detail: str) -> None:
        self.over = True
        self.reception.end(ending, detail)


def _text_of(choice: _Choice) -> str:
    delta = choice.delta
    if delta is None:
        return choice.text or ""
    return delta.content or delta.reasoning_content or delta.reasoning or ""
