"""Shared fixtures: nothing a test starts outlives it, and no test touches the user's own state."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def _own_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every test has its own state folder; the cache (the prepared model) is shared."""
    monkeypatch.setenv("DREAMSEED_STATE_DIR", str(tmp_path / "state"))
