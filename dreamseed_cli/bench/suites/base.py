"""What a suite is given and what it gives back."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol

from dreamseed_cli.bench.records import Record
from dreamseed_cli.bench.result import CellResult, Slo, SuiteResult
from dreamseed_cli.bench.server_watch import ServerWatch
from dreamseed_cli.bench.shapes import Arrivals, Cell, Replay, TargetSpec
from dreamseed_cli.database.address import resolve_dsn
from dreamseed_cli.gateway.settings import ServiceAddresses
from dreamseed_cli.profile.schema import Profile


class StopEarly(Exception):
    """The run was interrupted: a suite gives back what it has, marked partial."""


class RunCell(Protocol):
    """Drives a cell with live progress and measures it.

    target: another one than the run's, such as a single engine. After Ctrl-C the cell's result is partial,
    and the next call raises StopEarly.
    """

    async def __call__(self, cell: Cell, target: TargetSpec | None = None) -> CellResult: ...


class Announce(Protocol):
    """Takes what a suite is about to do: the lengths in seconds of its cells from the next one on.

    at_most: it may end sooner. Asked again, it replaces what is left of the plan before.
    """

    def __call__(self, seconds: Sequence[float], *, at_most: bool = False) -> None: ...


def _announce_nothing(seconds: Sequence[float], *, at_most: bool = False) -> None:
    """Nobody is looking."""


@dataclass(frozen=True)
class Bench:
    """One run, as a suite sees it.

    profile: of the stack that is measured; None for somebody else's server.
    replicas: the stack's single engines by name, past the gateway; empty for somebody else's server.
    say: a line for people (stderr). state: a folder of this run's own, for what a suite starts.
    """

    target: TargetSpec
    profile: Profile | None
    slo: Slo
    seed: int
    run_cell: RunCell
    say: Callable[[str], None]
    state: Path
    replicas: Mapping[str, TargetSpec] = field(default_factory=dict)
    duration_s: float | None = None
    """What the operator asked for one cell; None: the suite's own."""
    rounds: int = 1
    """In so many rounds its cells are measured, each of which has its part of their length."""
    arrivals: Arrivals = "poisson"
    """Of the rates that the engine, capacity and cache suites ask for."""
    rates: tuple[float, ...] = ()
    """Requests per second wanted of the engine suite, in place of shares of what it reached."""
    workload: str | None = None
    """What the operator wants asked in place of questions with answers of the document's length."""
    trace: Replay | None = None
    """Recorded traffic that the operator wants replayed in place of the engine suite's sweep."""
    sees_queue: bool = False
    """The target tells how many wait in its own queue, so more streams than places can be seen there."""
    simulated: bool = False
    device: str = ""
    environment: Mapping[str, str] = field(default_factory=dict)
    """Variables that hold what the stack under test needs (a DSN), for suites that talk to its services."""
    dsn_env: str | None = None
    """The variable with the connection string of another PostgreSQL than the stack's."""
    foreign: bool = False
    """`--target` names a server of which nothing is known but its address: its database is not."""
    keep: Callable[[str, Sequence[Record]], None] = lambda cell, records: None
    """Takes the requests of a load that is not driven by `run_cell`, for requests.csv."""
    plan: Announce = _announce_nothing
    """For the time that is left."""
    watch: Callable[[], ServerWatch] = lambda: ServerWatch(())
    """Looks at what the engines tell of themselves, for a load that is not driven by `run_cell`."""
    services: ServiceAddresses | None = None
    """Where the running stack's PostgreSQL and Redis are (its gateway.json); None: no stack of ours."""

    def lasting(self, seconds: float) -> float:
        """How long a cell lasts, in one round: what the operator asked for, else the suite's own."""
        return (self.duration_s or seconds) / self.rounds

    @property
    def provenance(self) -> Literal["measured", "simulated"]:
        """Of what is measured here."""
        return "simulated" if self.simulated else "measured"

    def stack_dsn(self) -> str | None:
        """The database that the operator named, else that of the stack under test; None if it has none.

        Raises as resolve_dsn().
        """
        if self.dsn_env is not None:
            return resolve_dsn(None, self.dsn_env)
        return self.services.dsn({**os.environ, **self.environment}) if self.services else None

    @property
    def places(self) -> int:
        """Sequences that the engines decode at a time, all together; 64 where nobody tells.

        Without those that the gateway keeps free for PREMIUM: what waits in its queue no engine has seen.
        """
        engine = self.profile.engine if self.profile else None
        each = getattr(engine, "max_num_seqs", None)
        if self.profile is None or each is None:
            return 64
        kept_free = self.profile.gateway.admission.reserved_for_premium
        return int(max(1, each - kept_free) * max(1, len(self.replicas)))


class Suite(Protocol):
    """One question of the box. Raises MissingError if what it needs is not there."""

    async def __call__(self, bench: Bench) -> SuiteResult: ...


class Retell(Protocol):
    """A suite's result from cells that it had measured, after more rounds of them."""

    def __call__(self, bench: Bench, cells: Sequence[CellResult]) -> SuiteResult: ...
