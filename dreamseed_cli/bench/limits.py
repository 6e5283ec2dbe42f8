"""How many processes a load is spread over, and whether they have a file descriptor for every stream."""

from __future__ import annotations

import resource

from dreamseed_cli.bench.shapes import Cell, Rate, Replay
from dreamseed_cli.core.errors import UsageError

STREAMS_PER_PROCESS = 1000
REQUESTS_PER_S_PER_PROCESS = 300.0
_OWN_DESCRIPTORS = 64


def processes_for(cell: Cell, cores: int) -> int:
    """How many processes make the cell's load: one up to 1,000 streams or 300 requests/s, `cores` at most."""
    shape = cell.shape
    if isinstance(shape, Replay):
        return 1
    if isinstance(shape, Rate):
        needed = -(-shape.per_s // REQUESTS_PER_S_PER_PROCESS)
    else:
        needed = -(-shape.count // STREAMS_PER_PROCESS)
    return max(1, min(int(needed), cores))


def require_descriptors(cell: Cell, processes: int, hard_limit: int) -> None:
    """UsageError if a process could not hold its streams. hard_limit: of open files to one process."""
    if isinstance(cell.shape, Rate | Replay):
        return
    needed = -(-cell.shape.count // processes) + _OWN_DESCRIPTORS
    if needed > hard_limit:
        raise UsageError(
            f"{cell.shape.count} streams in {processes} processes need {needed} open files each, and the "
            f"limit is {hard_limit}",
            place=cell.name,
            remedy=f"Raise the hard limit (ulimit -Hn {needed}), or ask for fewer streams.",
        )


def hard_descriptor_limit() -> int:
    """Open files that this process and its children may have at most."""
    return resource.getrlimit(resource.RLIMIT_NOFILE)[1]


def raise_descriptor_limit() -> int:
    """Let this process, and those it starts, open as many files as the system lets it; the number."""
    hard = hard_descriptor_limit()
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard
