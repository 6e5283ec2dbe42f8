"""Open files: every user has a connection."""

from __future__ import annotations

import resource


def raise_file_limit() -> int:
    """Allow this process, and those it starts, as many open files as the system lets it; the number."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard
