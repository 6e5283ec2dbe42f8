"""From what a target is said to be to the thing that asks it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from dreamseed_cli.bench.records import Job, Record
from dreamseed_cli.bench.shapes import TargetSpec


class Target(Protocol):
    """Something that answers jobs."""

    async def ask(self, job: Job, record: Record, clock: Callable[[], float]) -> None:
        """Ask and fill the record. clock: seconds since the cell's start. Raises CancelledError only."""

    async def close(self) -> None:
        """Close every connection."""


def open_target(spec: TargetSpec) -> Target:
    """Its client, in the running event loop; it connects at the first request.

    Raises UsageError for an address or a key that cannot be, MissingError for a key or a CA file that lacks.
    """
    if spec.kind == "grpc":
        from dreamseed_cli.bench.target.grpc import GrpcTarget

        return GrpcTarget(spec)
    from dreamseed_cli.bench.target.openai import OpenAiTarget

    return OpenAiTarget(spec)
