"""What whoever runs a service needs to know of it: how to prepare a start, and how it does."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Protocol

from dreamseed_cli.core.errors import DreamseedError

RunStep = Callable[[tuple[str, ...]], Awaitable[None]]
"""Runs a command to its end, with its output in the service's log; FailedError with its last lines."""


class NoAnswer(DreamseedError):
    """The service did not answer in time, or at all."""


class Keeper(Protocol):
    """One service: PostgreSQL, one Valkey node, ..."""

    async def prepare(self, run: RunStep) -> None:
        """Before every start of its process. Raises a DreamseedError if it cannot be started."""
        ...

    async def probe(self) -> str | None:
        """None if it can be used, else why not yet. Raises NoAnswer. Bounded in time."""
        ...
