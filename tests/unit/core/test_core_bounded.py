"""Another program's words within a bound, from real processes."""

from __future__ import annotations

import time
from pathlib import Path

import psutil

from dreamseed_cli.core.bounded import output_within


def test_what_it_had_started_is_killed_with_it(tmp_path: Path) -> None:
    """Also when it has ended itself, and what it left holds its output open."""
    left = tmp_path / "left"
    assert output_within(["sh", "-c", f"sleep 600 & echo $! > {left}"], 1.0) is None
    child = int(left.read_text())
    give_up_s = time.monotonic() + 30
    while _runs(child) and time.monotonic() < give_up_s:
        time.sleep(0.02)
    assert not _runs(child)


def _runs(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
