"""What a suite is given and what it gives back."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from dreamseed_cli.bench.result import CellResult, Slo, SuiteResult
from dreamseed_cli.bench.shapes import Cell, TargetSpec
from dreamseed_cli.profile.schema import Profile


class StopEarly(Exception):
    """The run was interrupted: a suite gives back what it has, marked partial."""


@dataclass(frozen=True)
class Bench:
    """One run, as a suite sees it.

    run_cell: drives a cell against the target with live progress and measures it; after Ctrl-C its result is
    partial, and the next call raises StopEarly. say: a line of progress for people (stderr).
    profile: of the stack that is measured; None for somebody else's server.
    replicas: addresses of the stack's single engines, by name, for figures per replica.
    scale: stretches or shortens every duration (`--duration` over the suite's default).
    state: a folder of this run's own, for servers that a suite starts.
    """

    target: TargetSpec
    profile: Profile | None
    slo: Slo
    seed: int
    run_cell: Callable[[Cell], Awaitable[CellResult]]
    say: Callable[[str], None]
    state: Path
    replicas: dict[str, TargetSpec]
    duration_s: float | None = None
    """What the operator asked for a cell; None: the suite's own."""
    simulated: bool = False
    device: str = ""


class Suite(Protocol):
    """One question of the box. Raises MissingError if what it needs is not there."""

    async def __call__(self, bench: Bench) -> SuiteResult: ...
