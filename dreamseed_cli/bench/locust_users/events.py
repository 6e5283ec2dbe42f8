"""A streamed answer of OpenAI's interface, looked at no closer than the load has processor time for. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import msgspec

from dreamseed_cli.bench.records import Ending

_DATA = b"data:"
_TEXTS = ("content", "reasoning_content", "reasoning")
"""Some servers send a model's thinking apart."""


@dataclass(slots=True)
class Answer:
    """What the lines told so far. Feed it every line; `text_begun` turns true with the first text."""

    text_begun: bool = False
    tokens: int = 0
    done: bool = False
    simulated: bool = False
    """By our front's word in the last chunk."""
    failure: Ending | None = None
    detail: str = ""

    def feed(self, line: bytes) -> None:
        """Take one line of the stream, with its end or without."""
        if not line.startswith(_DATA):
            return
        data = line[len(_DATA) :].strip()
        if data == b"[DONE]":
            self.done = True
        elif not self.text_begun or b'"error"' in data or b'"dreamseed"' in data or _counts(data):
            self._read(data)

    def ending(self) -> Ending:
        """How it ended, if it is whole; `tokens` is judged elsewhere."""
        if self.failure is not None:
            return self.failure
        return Ending.COMPLETE if self.done else Ending.CUT

    def _read(self, data: bytes) -> None:
        try:
            chunk = msgspec.json.decode(data)
        except msgspec.DecodeError:
            self.failure, self.detail = Ending.BROKEN, "an event is no JSON"
            return
        if not isinstance(chunk, dict):
            self.failure, self.detail = Ending.BROKEN, "an event is no object"
            return
        if error := chunk.get("error"):
            self.failure, self.detail = Ending.SERVER_ERROR, f"in the stream: {str(error)[:100]}"
        self.text_begun = self.text_begun or has_text(chunk)
        self.tokens = completion_tokens(chunk) or self.tokens
        facts = chunk.get("dreamseed")
        if isinstance(facts, dict) and facts.get("provenance") == "simulated":
            self.simulated = True


def completion_tokens(document: Any) -> int:
    """Of a chunk or a whole answer; 0 if it does not tell."""
    usage = document.get("usage") if isinstance(document, dict) else None
    found = usage.get("completion_tokens") if isinstance(usage, dict) else None
    return found if isinstance(found, int) and found > 0 else 0


def _counts(data: bytes) -> bool:
    return b'"usage"' in data and b'"usage":null' not in data.replace(b" ", b"")


def has_text(document: Any, part: str = "delta") -> bool:
    """Whether a chunk, or a whole answer's `message`, holds any."""
    choices = document.get("choices") if isinstance(document, dict) else None
    first = choices[0] if isinstance(choices, list) and choices else None
    delta = first.get(part) if isinstance(first, dict) else None
    return isinstance(delta, dict) and any(delta.get(name) for name in _TEXTS)
