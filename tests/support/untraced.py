"""Programs that coverage does not follow: tracing takes nearly twice the time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest


@contextmanager
def children_untraced() -> Iterator[None]:
    """What is started meanwhile is not traced."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("COVERAGE_PROCESS_CONFIG", raising=False)
        yield
