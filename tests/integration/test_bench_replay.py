"""`dreamseed bench --trace`, as the runbook shows it: each request is asked when the trace says."""

from __future__ import annotations

import csv
import json
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from gateway_harness import emulated_engine, gateway_process, settings, socket_folder, target

from dreamseed_cli.bench.workload.trace import read

ROOT = Path(__file__).resolve().parents[2]
_BOUND_S = 120


def _documented() -> list[str]:
    """The runbook's example, as words behind `dreamseed`."""
    page = (ROOT / "docs" / "runbooks" / "bench.md").read_text(encoding="utf-8")
    (line,) = re.findall(r"^\$ dreamseed (bench .*--trace .*)$", page, re.MULTILINE)
    return shlex.split(line)


def _run(words: list[str], address: str, *more: str) -> subprocess.CompletedProcess[str]:
    words = [address if word.startswith("http://") else word for word in words]
    return subprocess.run(
        [sys.executable, "-m", "dreamseed_cli", *words, *more, "--json"],
        capture_output=True, text=True, timeout=_BOUND_S, check=False, cwd=ROOT,
    )  # fmt: skip


@pytest.mark.parametrize("kind", ["openai", "grpc"])
def test_the_documented_replay_runs(kind: str, tmp_path: Path) -> None:
    """Against any OpenAI-compatible server and against the gateway: every request when it is due."""
    words = _documented()
    speed = float(words[words.index("--trace-speed") + 1])
    entries = read(ROOT / words[words.index("--trace") + 1])
    with (
        socket_folder() as folder,
        emulated_engine(folder, "e0") as engine,
        gateway_process(folder, settings(folder, target("e0", engine.socket))) as gateway,
    ):
        address = gateway.address if kind == "grpc" else f"unix:{engine.socket}"
        done = _run(words, address, "--out", str(tmp_path), "--state-dir", str(folder / "s"))
    data: dict[str, Any] = json.loads(done.stdout)["data"]
    # A busy machine may make a run INVALID: then it says so, and everything else holds just as well.
    assert (done.returncode, data["valid"]) in {(0, True), (1, False)}, done.stderr
    (cell,) = data["suites"][0]["cells"]
    assert cell["shape"] == {
        "type": "replay", "path": words[words.index("--trace") + 1], "length_s": entries[-1].at_s,
        "speed": speed, "own_prompts": True,
    }  # fmt: skip
    (file,) = tmp_path.glob("*/requests.csv")
    with file.open(encoding="utf-8", newline="") as text:
        rows = list(csv.DictReader(text))
    assert [float(row["scheduled_s"]) for row in rows] == pytest.approx(
        [entry.at_s / speed for entry in entries], abs=1e-5
    )
    assert [int(row["completion_tokens"]) for row in rows] == [entry.output_tokens for entry in entries]
    assert {row["ending"] for row in rows} == {"complete"}


def test_a_wrong_line_is_told_before_anything_is_asked(tmp_path: Path) -> None:
    """File, line and field, the cause and what to write; nobody listens at the target, which is not tried."""
    trace = tmp_path / "t.jsonl"
    trace.write_text('{"at_s": 0, "prompt_tokens": 5, "output_tokens": 5}\n{"at_s": 1, "prompt_tokens": 5}\n')
    done = _run(["bench", "--trace", str(trace), "--target", "http://127.0.0.1:9"], "http://127.0.0.1:9")
    assert done.returncode == 2
    (error,) = json.loads(done.stdout)["errors"]
    assert error["place"] == f"{trace}:2: output_tokens"
    assert "missing" in error["cause"]
    assert error["remedy"]
