"""`dreamseed bench` against a running emulated stack: measured, written down, compared, interrupted."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.e2e.conftest import Stack


def _bench(stack: Stack, out: Path, *options: str) -> subprocess.CompletedProcess[str]:
    return stack.run("bench", "--out", str(out), *options)


def _run_folder(out: Path) -> Path:
    (folder,) = out.iterdir()
    return folder


def test_a_run_is_measured_written_and_comparable(emulated_stack: Stack, tmp_path: Path) -> None:
    """Every figure is called simulated, answers have their forced length, and a run compares with itself."""
    done = _bench(emulated_stack, tmp_path / "a", "--suite", "batching", "--duration", "1", "--json")
    document = json.loads(done.stdout)
    data = document["data"]
    # A busy machine may make a run INVALID: then it says so, and everything else holds just as well.
    assert (done.returncode, data["valid"]) in {(0, True), (1, False)}, done.stderr
    assert data["provenance"] == "simulated"
    assert data["profile"] == "emulated-rtx5090x3"
    cells = data["suites"][0]["cells"]
    assert [cell["asked_streams"] for cell in cells] == [1, 2, 4, 8, 16, 32, 64]
    assert all(set(cell["endings"]) <= {"complete"} for cell in cells)
    assert all(one["provenance"] == "simulated" for one in data["measurements"])

    folder = _run_folder(tmp_path / "a")
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert "simulated" in page.lower()
    assert (folder / "requests.csv").read_text(encoding="utf-8").count("\n") > sum(
        cell["requests"] for cell in cells
    )
    compared = emulated_stack.run("bench", "compare", str(folder), str(folder), "--json")
    changes = [change for cell in json.loads(compared.stdout)["data"]["cells"] for change in cell["changes"]]
    assert changes
    assert {change["verdict"] for change in changes} <= {"no difference", "not comparable"}


def test_an_interrupted_run_keeps_what_it_has(emulated_stack: Stack, tmp_path: Path) -> None:
    """Ctrl-C: exit code 130, the files are there, and say that they are partial."""
    environment = {**os.environ, "DREAMSEED_STATE_DIR": str(emulated_stack.state_dir)}
    argv = [*emulated_stack.argv[:-5], "bench", "--duration", "60", "--out", str(tmp_path / "out"), "--json"]
    process = subprocess.Popen(
        argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    )
    assert process.stderr is not None
    for line in process.stderr:
        if "streams-1" in line:
            break
    process.send_signal(signal.SIGINT)
    stdout, stderr = process.communicate(timeout=280)
    assert process.returncode == 130, stderr
    data = json.loads(stdout)["data"]
    assert data["partial"]
    saved = json.loads((_run_folder(tmp_path / "out") / "result.json").read_text(encoding="utf-8"))
    assert saved["partial"]


def test_wrong_wishes_are_refused_before_anything_starts(emulated_stack: Stack, tmp_path: Path) -> None:
    """An unknown suite, no address, a folder that cannot be; each with its place."""
    (tmp_path / "file").touch()
    for options, code, place in (
        (("--suite", "motor"), 2, "--suite"),
        (("--target", "nowhere"), 2, "--target"),
        (("--target", "http://127.0.0.1:9"), 3, "http://127.0.0.1:9"),
        (("--out", str(tmp_path / "file")), 4, str(tmp_path / "file")),
    ):
        done = emulated_stack.run("bench", *options, "--json")
        assert done.returncode == code, done.stderr
        assert json.loads(done.stdout)["errors"][0]["place"] == place
