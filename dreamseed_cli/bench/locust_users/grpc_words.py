"""What a process of users and the one that asks over gRPC for it say to each other: JSON, a document a line.

The first line is the Errand. Times are seconds of CLOCK_MONOTONIC, which both share.
"""

from __future__ import annotations

import msgspec

from dreamseed_cli.bench.records import Ending


class Wish(msgspec.Struct, frozen=True, tag="wish"):
    """Ask for this. number: unique among the wishes of one process."""

    number: int
    prompt: str
    tokens: int


class Leave(msgspec.Struct, frozen=True, tag="leave"):
    """Nobody waits for it any more."""

    number: int


class Answered(msgspec.Struct, frozen=True, tag="answered"):
    """How a wish ended. first_s: its first text; None: there was none. tokens: by the server's count."""

    number: int
    first_s: float | None
    tokens: int
    ending: Ending
    detail: str
    simulated: bool


class Lag(msgspec.Struct, frozen=True, tag="lag"):
    """When each tick of the asking process's loop came, and how many milliseconds late."""

    ticks: list[tuple[float, float]]


Asked = Wish | Leave
Told = Answered | Lag
READ_ASKED: msgspec.json.Decoder[Asked] = msgspec.json.Decoder(Asked)
READ_TOLD: msgspec.json.Decoder[Told] = msgspec.json.Decoder(Told)
_encode = msgspec.json.Encoder().encode


def line(word: msgspec.Struct) -> bytes:
    """JSON escapes line ends in strings, so that a line is a document."""
    return _encode(word) + b"\n"
