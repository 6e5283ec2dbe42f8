"""What the rooms say to each other about engines: addresses, commands, requests, chunks, failures."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from dreamseed_cli.core.errors import DreamseedError


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where an engine listens: a Unix socket on this host, or a base URL without `/v1`."""

    socket: Path | None = None
    url: str | None = None

    def __post_init__(self) -> None:
        if (self.socket is None) == (self.url is None):
            raise ValueError("an endpoint is either a socket or a URL")

    def __str__(self) -> str:
        return f"unix:{self.socket}" if self.socket else str(self.url)

    @classmethod
    def parse(cls, text: str) -> Endpoint:
        """The inverse of str()."""
        if text.startswith("unix:"):
            return cls(socket=Path(text.removeprefix("unix:")))
        return cls(url=text)


@dataclass(frozen=True, slots=True)
class Command:
    """A program to run: its arguments, and the environment on top of ours."""

    argv: tuple[str, ...]
    env: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Turn:
    """One turn of a conversation."""

    role: Literal["user", "assistant"]
    content: str


@dataclass(frozen=True, slots=True)
class GenerationRequest:
    """One prompt with its sampling parameters, already validated and with defaults filled in."""

    request_id: str
    prompt: str
    max_tokens: int
    temperature: float
    top_p: float
    system_prompt: str | None = None
    seed: int | None = None
    stop: tuple[str, ...] = ()
    priority: int = 0
    """vLLM's: a lower number goes first."""
    history: tuple[Turn, ...] = ()
    """The turns before the prompt, oldest first."""
    raw: bool = False
    """Send the prompt as it is, without the chat template."""
    ignore_eos: bool = False
    """Pass the model's end over: the answer has exactly `max_tokens` tokens (for measurements)."""
    emitted: str = ""
    """The part of the answer that an engine already gave: this one goes on after it."""


@dataclass(frozen=True, slots=True)
class Chunk:
    """A piece of an answer as it came from the engine; may hold several tokens.

    The counts are running totals and None where the engine does not tell them (yet).
    """

    text: str
    finish_reason: str | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None


class EngineError(DreamseedError):
    """The engine did not deliver.

    said: its own words. They may quote the prompt, so they are for the caller and not for a log.
    """

    def __init__(self, cause: str, *, place: str = "", remedy: str = "", said: str = "") -> None:
        super().__init__(": ".join(part for part in (cause, said) if part), place=place, remedy=remedy)
        self.for_log = cause


class EngineRefused(EngineError):
    """The request itself was wrong (HTTP 4xx): another replica would refuse it too."""

    def __init__(self, said: str, *, status: int, place: str = "") -> None:
        super().__init__("", place=place, said=said)
        self.status = status
        self.for_log = f"HTTP {status}"


class EngineBusy(EngineError):
    """The engine's own queue is full (HTTP 429 or 503): another replica may have room."""


class EngineUnavailable(EngineError):
    """No connection, a connection cut, or a server error: another replica may answer."""


class EngineTimeout(EngineError):
    """The time budget ran out."""
