"""Shared fixtures: nothing a test starts outlives it, and no test touches the user's own state."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

# Whoever runs the tests in the background may have SIGINT ignored, which every child would inherit: a
# command could then not be ended with Ctrl-C, which is what some tests do.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def _own_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every test has its own state folder; the cache (the prepared model) is shared."""
    monkeypatch.setenv("DREAMSEED_STATE_DIR", str(tmp_path / "state"))
