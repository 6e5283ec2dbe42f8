"""How many users ask for what, how often: from the document's own figures (§A2, §B1, §F3). Pure."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from enum import StrEnum

import msgspec

from dreamseed_cli.estimates.schema import Book, Estimate

USERS_A_PROCESS = 2500
"""One gevent loop serves about 250 users' requests a second at 10 s a request, with room to spare."""
_STEPS = (0.1, 0.25, 0.5, 0.75, 1.0)


class Kind(StrEnum):
    """What a user may ask for. Samples store its place in this list: append only."""

    STATIC = "static"
    """An asset that the CDN does not have. The front serves none (§C3: its origin is object storage), so its
    cheapest answer, /healthz, stands for the connection and the turn that a request costs."""
    QUESTION = "question"
    """GET /v1/questions/{id}, revalidated with its ETag when the user has it already."""
    CHAT = "chat"
    CHAT_STREAM = "chat_stream"
    GRPC_STREAM = "grpc_stream"
    """GenerateStream at the gateway itself (§D1)."""

    @property
    def generates(self) -> bool:
        """Whether a model answers."""
        return self in {Kind.CHAT, Kind.CHAT_STREAM, Kind.GRPC_STREAM}


class Step(msgspec.Struct, frozen=True):
    """A number of users, reached over `ramp_s` and then held for `hold_s`."""

    users: int
    ramp_s: float
    hold_s: float


class LoadPlan(msgspec.Struct, frozen=True, kw_only=True):
    """One load test.

    interval_s: the mean time from one request of a user to its next (half to one and a half of it, evenly);
    an answer that takes longer delays the next. mix: shares of the requests by kind; what is missing to 1 is
    not asked for at all, and makes the users ask less often. grace_s: for requests under way at the end.
    """

    steps: tuple[Step, ...]
    interval_s: float
    mix: dict[Kind, float]
    seed: int
    processes: int = 1
    answer_tokens: int = 200
    grace_s: float = 30.0

    @property
    def users(self) -> int:
        """The most at a time."""
        return max(step.users for step in self.steps)

    @property
    def seconds(self) -> float:
        """From the first user to the end of the last step."""
        return sum(step.ramp_s + step.hold_s for step in self.steps)

    @property
    def pause_s(self) -> float:
        """`interval_s`, stretched by the kinds that are left out."""
        return self.interval_s / sum(self.mix.values())


def request_interval_s(book: Book, users: int) -> float:
    """Seconds from a user's request to its next, by §F3's row with the nearest number of concurrent users."""
    rows = [one for one in book if "api_rps" in one.fields and one.field("api_rps") > 0]
    nearest: Estimate = min(rows, key=lambda row: abs(row.field("concurrent_users") - users))
    return nearest.field("concurrent_users") / nearest.field("api_rps")


def document_mix(book: Book, *, questions: bool, gateway: bool) -> dict[Kind, float]:
    """Shares of what reaches the origin (§A2): AI by §B1's share, static by what the CDN lets through if one
    asset is asked for with each request, questions the rest.

    questions: whether there are any to ask for; gateway: whether half of the AI requests go to it directly.
    """
    ai = book.number("b1-ai-share-percent") / 100
    static = 1 - book.number("a2-cdn-hit-percent") / 100
    shares = {Kind.STATIC: static}
    if questions:
        shares[Kind.QUESTION] = 1 - static - ai
    front = ai / 2 if gateway else ai
    shares |= {Kind.CHAT: front / 2, Kind.CHAT_STREAM: front / 2}
    return shares | ({Kind.GRPC_STREAM: ai / 2} if gateway else {})


def ramp(
    users: int, *, spawn_per_s: float, hold_s: float, parts: Sequence[float] = _STEPS
) -> tuple[Step, ...]:
    """Steps up to `users`, each held, so that one sees where it stops coping."""
    counts = sorted({max(1, math.ceil(users * part)) for part in parts})
    below = [0, *counts]
    return tuple(
        Step(count, (count - before) / spawn_per_s, hold_s)
        for before, count in zip(below, counts, strict=False)
    )


def first_pause(luck: random.Random) -> float:
    """From a user's arrival to its first request, in mean pauses: as for one who has been there for long.

    The rest of a pause met at a random moment (inspection paradox): long pauses are met more often. So users
    that arrive together neither ask in step nor ask more or less often at first than later.
    """
    met = math.sqrt(0.25 + 2 * luck.random())
    return met * luck.random()


def next_pause(luck: random.Random) -> float:
    """From one request to the next, in mean pauses."""
    return luck.uniform(0.5, 1.5)


def processes_for(users: int, cores: int) -> int:
    """Processes of the load: as the users need, but not more than cores."""
    return max(1, min(cores, math.ceil(users / USERS_A_PROCESS)))


class Errand(msgspec.Struct, frozen=True, kw_only=True):
    """What the load's processes are told, in a file. Holds no secret: `api_key_env` names its variable.

    fronts: base addresses, without /v1. gateway: HOST:PORT, empty if nothing goes there. ca_file: the
    authority of both (PEM). folder: for samples. stall_s: no byte for so long ends a request.
    """

    plan: LoadPlan
    fronts: tuple[str, ...]
    folder: str
    gateway: str = ""
    model: str = ""
    questions: tuple[str, ...] = ()
    api_key_env: str | None = None
    ca_file: str | None = None
    force_length: bool = True
    nonce: str = ""
    """In the beginning of every prompt, so that no two runs share one."""
    ours: bool = False
    """The fronts are our own, which take a priority."""
    timeout_s: float = 120.0
    stall_s: float = 30.0
