"""The shapes of load, and one cell of a measurement: plain data that travels to the load's processes."""

from __future__ import annotations

from typing import Literal

import msgspec

Arrivals = Literal["poisson", "constant"]


class Rate(msgspec.Struct, frozen=True, tag="rate"):
    """Open loop: requests come when they come, however long the answers take."""

    per_s: float
    arrivals: Arrivals = "poisson"


class Streams(msgspec.Struct, frozen=True, tag="streams"):
    """Closed loop: so many requests at a time; each that ends is followed at once by the next."""

    count: int
    ramp_s: float = 0.0
    """The first ones are spread evenly over this time."""


class Users(msgspec.Struct, frozen=True, tag="users"):
    """Sessions: each user asks, reads, thinks (exponentially distributed), and asks again.

    Each begins in the midst of thinking, so that there is no ramp.
    """

    count: int
    think_s: float
    """The mean time between an answer's end and the user's next request."""


class Replay(msgspec.Struct, frozen=True, tag="replay"):
    """A trace: requests at their recorded times (`workload.trace` reads the file)."""

    path: str
    length_s: float
    """From its first request to its last one, as recorded."""
    speed: float = 1.0
    """2 replays twice as fast."""
    own_prompts: bool = False
    """Some of its lines bring their prompt, which may repeat as it did when it was recorded."""


Shape = Rate | Streams | Users | Replay


class Cell(msgspec.Struct, frozen=True, kw_only=True):
    """One measurement: a shape of load, held for a time.

    name: unique in its suite (`poisson-4`, `streams-8`). duration_s: how long requests are begun.
    grace_s: how long those under way may take to end after that; the rest is ABANDONED.
    requests: ends the cell earlier, after so many were begun. seed: makes arrivals and prompts.
    workload: a name or a mix as `workload.load` reads it (`question`, `question=0.7,feedback=0.3`).
    output_tokens, prompt_tokens: fixed lengths instead of the workload's distributions.
    """

    name: str
    shape: Shape
    duration_s: float
    seed: int
    workload: str = "question"
    grace_s: float = 30.0
    requests: int | None = None
    output_tokens: int | None = None
    prompt_tokens: int | None = None
    nonce: str = ""
    """Begins every prompt, so that no two cells or runs share a prefix; empty: prompts repeat on purpose."""
    drawn: int = 0
    """So many of the seed's repeating prompts were drawn in a cell before: this one goes on behind them."""


class TargetSpec(msgspec.Struct, frozen=True, kw_only=True):
    """What is measured, as the load's processes need it. Never holds a secret: it names its variable.

    kind: `grpc` is the gateway of §D1 at HOST:PORT; `openai` any OpenAI-compatible server at a base URL
    without `/v1`, or at `unix:PATH`.
    """

    kind: Literal["grpc", "openai"]
    address: str
    model: str = ""
    api: Literal["chat", "completions"] = "chat"
    api_key_env: str | None = None
    ca_file: str | None = None
    vllm: bool = True
    """It knows vLLM's extensions: `ignore_eos`, `continuous_usage_stats`. Else no length is forced."""
    ours: bool = False
    """It is our own HTTP front, which takes `cache`, `priority` and `workload`; nobody else is sent them."""
    timeout_s: float = 120.0
    stall_s: float = 30.0
    """No byte for so long ends a request as STALLED."""
    connect_timeout_s: float = 10.0
