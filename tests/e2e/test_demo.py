"""`dreamseed demo` on emulated engines: the whole tour, and nothing left behind."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import psutil

DEMO = (sys.executable, "-m", "dreamseed_cli", "demo", "--profile", "emulated-rtx5090x3")


def _run(state: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [*DEMO, "--state-dir", str(state), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=280, check=False)


def _left_on(state: Path) -> list[str]:
    lines = (" ".join(process.info["cmdline"] or ()) for process in psutil.process_iter(["cmdline"]))
    return [line for line in lines if str(state) in line]


def test_the_demo_answers_measures_and_stops(tmp_path: Path) -> None:
    """An answer, a burst over all replicas, figures that say simulated, and no process left."""
    done = _run(tmp_path / "s")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Q: " in done.stdout
    assert "tok/s (simulated)" in done.stdout
    assert "(measured)" not in done.stdout
    assert "Draining and stopping" in done.stdout
    assert _left_on(tmp_path) == []


def test_the_demo_as_json_is_one_document(tmp_path: Path) -> None:
    """Progress goes to stderr."""
    done = _run(tmp_path / "s", "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    data = json.loads(done.stdout)["data"]
    assert data["burst_requests"] == 8
    assert sum(data["answers_by_replica"].values()) == 8
    assert set(data["answers_by_replica"]) == {"r0", "r1", "r2"}
    assert data["burst_rate"]["provenance"] == "simulated"
    assert "Ready after" in done.stderr
