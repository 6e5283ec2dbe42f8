"""A state folder whose path is short: a socket's path may have 107 bytes."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dreamseed_cli.core.paths import StateDir


@contextmanager
def short_state() -> Iterator[StateDir]:
    """Made, and removed at the end of the block."""
    with tempfile.TemporaryDirectory(prefix="ds-") as folder:
        state = StateDir(Path(folder))
        state.create()
        yield state
