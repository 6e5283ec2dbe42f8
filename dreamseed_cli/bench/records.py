"""One request as it was asked for and as it went: what every other part of the room works on."""

from __future__ import annotations

from enum import StrEnum

import msgspec


class Ending(StrEnum):
    """How a request ended. Only COMPLETE is an answer; all others count against the SLO."""

    COMPLETE = "complete"
    REFUSED = "refused"
    """The server has no room: HTTP 429 or 503, gRPC RESOURCE_EXHAUSTED or UNAVAILABLE with a reason."""
    REJECTED = "rejected"
    """The server finds the request wrong: another 4xx, gRPC INVALID_ARGUMENT, UNAUTHENTICATED, ..."""
    SERVER_ERROR = "server_error"
    """HTTP 5xx, or an error sent in the stream."""
    UNREACHABLE = "unreachable"
    """No connection came about."""
    CUT = "cut"
    """The connection was reset, or the stream ended, before the answer was complete."""
    BROKEN = "broken"
    """What came is no HTTP, no event stream or no chunk of an answer."""
    STALLED = "stalled"
    """No byte for the target's `stall_s`."""
    TIMED_OUT = "timed_out"
    MISCOUNTED = "miscounted"
    """The usage that the server tells cannot be true (fewer than pieces, no text, or none at all)."""
    WRONG_LENGTH = "wrong_length"
    """Complete, but of another length than was forced."""
    ABANDONED = "abandoned"
    """Still under way when the run was interrupted, or was given up at the end of its grace."""
    UNSENT = "unsent"
    """This client had no file descriptor or port left for it: the load's doing, not the server's."""


class Job(msgspec.Struct, frozen=True):
    """One request to make.

    number: unique in its cell, from 0 on. Lengths are tokens.
    """

    number: int
    workload: str
    prompt: str
    wanted_tokens: int
    forced: bool = True
    """Whether the answer must have exactly `wanted_tokens` tokens (`ignore_eos`)."""
    system_prompt: str | None = None
    temperature: float = 0.7
    top_p: float = 0.9
    """Said by every request, whatever it goes to: a server's own default is not the gateway's, and on a
    processor the sorting that it asks for takes a good part of a step."""
    seed: int | None = None
    priority: str = "STANDARD"
    user: str = ""
    bypass_cache: bool = True
    path: str = ""
    """For requests that are no generation (a static file, a question): what to GET."""


class Record(msgspec.Struct):
    """One request as it went. Times are seconds since the cell's start, on the monotonic clock.

    scheduled_s: when it was due; every latency counts from here. sent_s: when its first byte was written.
    connect_s: how long a new connection was opened for it just before; None: one was open, or none came.
    first_token_s: when the first text arrived; last_token_s: when the last piece did. end_s: when it was
    over. piece_s, piece_tokens: the arrival of every piece (text, or a token that shows none), and the
    running total of tokens by the server's usage then (0: not told with it). A piece may hold several tokens.
    text_bytes: of all its text, in UTF-8.
    """

    number: int
    workload: str
    scheduled_s: float
    wanted_tokens: int
    sent_s: float | None = None
    connect_s: float | None = None
    first_token_s: float | None = None
    last_token_s: float | None = None
    end_s: float | None = None
    piece_s: list[float] = []
    piece_tokens: list[int] = []
    text_bytes: int = 0
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    ending: Ending = Ending.ABANDONED
    detail: str = ""
    replica: str = ""
    cache_hit: bool | None = None
    simulated: bool = False
    user: str = ""
    forced: bool = True
