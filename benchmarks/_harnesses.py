"""The load tools that are compared with `dreamseed bench`: how each is asked, and what it then says.

Each is asked for the same: streamed chat answers of a fixed length from one server, either so many streams at
a time or Poisson arrivals. What a tool cannot be told is left at its default.
"""

from __future__ import annotations

import asyncio
import csv
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks._peers import Package, environment
from benchmarks._stub import MODEL
from dreamseed_cli.bench.drive import drive, processes_for
from dreamseed_cli.bench.limits import raise_descriptor_limit
from dreamseed_cli.bench.measure.summary import summarise
from dreamseed_cli.bench.records import Ending
from dreamseed_cli.bench.result import CellResult, Latency, Slo
from dreamseed_cli.bench.shapes import Cell, Rate, Streams, TargetSpec

AIPERF = Package("aiperf", "0.13.0")
GUIDELLM = Package("guidellm", "0.8.1")
PROMPT_TOKENS = 16
_PATIENCE_S = 60.0
_LOOSE = Slo(ttft_ms=60_000, tpot_ms=60_000, attainment=0.5)


@dataclass(frozen=True)
class Load:
    """What every tool is asked for. streams or rate_per_s; times in seconds."""

    name: str
    ttft_ms: int
    itl_ms: int
    tokens: int
    requests: int
    streams: int = 0
    rate_per_s: float = 0.0
    ramp_s: float = 0.0

    @property
    def answer_s(self) -> float:
        """An answer of the stub takes this long."""
        return (self.ttft_ms + (self.tokens - 1) * self.itl_ms) / 1000

    @property
    def duration_s(self) -> float:
        """How long requests are begun."""
        if self.rate_per_s:
            return self.requests / self.rate_per_s
        return self.ramp_s + self.answer_s * self.requests / self.streams

    @property
    def limit_s(self) -> float:
        """A tool that takes longer is ended: many times what the load itself takes."""
        return 120 + 3 * self.duration_s


@dataclass(frozen=True)
class Said:
    """What a tool reports of itself; None where it says nothing. All times in milliseconds."""

    ttft_mean_ms: float | None = None
    ttft_p99_ms: float | None = None
    itl_mean_ms: float | None = None
    completed: int | None = None
    errors: int | None = None
    verdict: str = ""
    """`valid`, or why the tool itself says that its figures must not be believed."""
    ttft_from_send_p99_ms: float | None = None
    scheduling_delay_p99_ms: float | None = None
    failed: str = ""
    """Why there are no figures."""


@dataclass(frozen=True)
class Harness:
    """A load tool. ask: puts the load on the server at a port; a folder is its own."""

    name: str
    version: str
    ask: Callable[[Load, int, Path], Said]


def ours(version: str, processes: int | None = None) -> Harness:
    """`dreamseed bench`'s load, measurement and verdict, as its suites use them."""
    name = "dreamseed bench" if processes is None else f"dreamseed bench, {processes} process"
    return Harness(name, version, lambda load, port, _: asyncio.run(_ask_ours(load, port, processes)))


async def _ask_ours(load: Load, port: int, processes: int | None) -> Said:
    raise_descriptor_limit()
    shape: Rate | Streams
    shape = Rate(load.rate_per_s) if load.rate_per_s else Streams(load.streams, load.ramp_s)
    cell = Cell(
        name=load.name,
        shape=shape,
        duration_s=load.duration_s,
        seed=1,
        output_tokens=load.tokens,
        prompt_tokens=PROMPT_TOKENS,
        nonce="accuracy",
    )
    run = await drive(
        cell,
        TargetSpec(kind="openai", address=f"http://127.0.0.1:{port}", model=MODEL),
        processes=processes or processes_for(cell, os.cpu_count() or 1),
        on_progress=lambda _: None,
        stop=asyncio.Event(),
    )
    return said_by(summarise(run, _LOOSE))


def said_by(cell: CellResult) -> Said:
    """Our own report of a cell in the common words."""
    good = cell.endings.get(Ending.COMPLETE.value, 0)
    problems = "; ".join(f"INVALID: {one.reason}" for one in cell.problems)
    return Said(
        ttft_mean_ms=cell.ttft.mean.value if cell.ttft else None,
        ttft_p99_ms=_p99(cell.ttft),
        itl_mean_ms=cell.itl.mean.value if cell.itl else None,
        completed=good,
        errors=sum(cell.endings.values()) - good,
        verdict="; ".join(filter(None, (problems or "valid", *cell.notes))),
        ttft_from_send_p99_ms=_p99(cell.ttft_from_send),
        scheduling_delay_p99_ms=_p99(cell.scheduling_delay),
    )


def _p99(latency: Latency | None) -> float | None:
    found = latency.quantiles.get("p99") if latency else None
    return found.value if found else None


def aiperf(folder: Path, tokenizer: Path) -> Harness:
    """NVIDIA's AIPerf, from PyPI."""

    def ask(load: Load, port: int, place: Path) -> Said:
        argv = [
            *(environment(folder, AIPERF) / "aiperf", "profile", "--model", MODEL),
            *("--url", f"http://127.0.0.1:{port}", "--endpoint-type", "chat", "--streaming"),
            *("--tokenizer", tokenizer, "--use-server-token-count"),
            *("--isl", PROMPT_TOKENS, "--osl", load.tokens),
            *("--extra-inputs", f"max_tokens:{load.tokens}", "--ui", "none", "--artifact-dir", place),
            *("--no-gpu-telemetry", "--no-server-metrics", "--request-count", load.requests),
        ]
        if load.rate_per_s:
            argv += ["--request-rate", load.rate_per_s, "--arrival-pattern", "poisson"]
        else:
            argv += ["--concurrency", load.streams, "--concurrency-ramp-duration", load.ramp_s]
        run(argv, place, load.limit_s)
        report = json.loads((place / "profile_export_aiperf.json").read_text())
        return Said(
            ttft_mean_ms=_of(report, "time_to_first_token", "avg"),
            ttft_p99_ms=_of(report, "time_to_first_token", "p99"),
            itl_mean_ms=_of(report, "inter_token_latency", "avg"),
            completed=int(_of(report, "request_count", "avg") or 0),
            errors=int(_of(report, "error_request_count", "avg") or 0),
        )

    return Harness("AIPerf", AIPERF.version, ask)


def guidellm(folder: Path, tokenizer: Path) -> Harness:
    """GuideLLM, from PyPI."""

    def ask(load: Load, port: int, place: Path) -> Said:
        out = place / "report.json"
        if load.rate_per_s:
            profile = f"kind=poisson,rate={load.rate_per_s:g}"
        else:
            profile = f"kind=concurrent,streams={load.streams},rampup_duration={load.ramp_s:g}"
        argv = [
            *(environment(folder, GUIDELLM) / "guidellm", "run", "--disable-console"),
            *("--backend", f"kind=openai_http,target=http://127.0.0.1:{port},model={MODEL}"),
            *("--profile", profile, "--constraint", f"kind=max_requests,count={load.requests}"),
            *("--tokenizer", f"kind=hf_auto,model={tokenizer}"),
            *(
                "--data",
                f"kind=synthetic_text,prompt_tokens={PROMPT_TOKENS},output_tokens={load.tokens}",
            ),
            *("--output", f"kind=json,path={out}"),
        ]
        run(argv, place, load.limit_s)
        metrics = json.loads(out.read_text())["benchmarks"][0]["metrics"]
        totals = metrics["request_totals"]
        ttft, itl = (
            metrics[name]["successful"] for name in ("time_to_first_token_ms", "inter_token_latency_ms")
        )
        return Said(
            ttft_mean_ms=ttft["mean"],
            ttft_p99_ms=ttft["percentiles"]["p99"],
            itl_mean_ms=itl["mean"],
            completed=totals["successful"],
            errors=totals["errored"] + totals["incomplete"],
        )

    return Harness("GuideLLM", GUIDELLM.version, ask)


def vllm_bench(tokenizer: Path, version: str) -> Harness:
    """`vllm bench serve` of the vLLM that this project installs.

    By its module: the command itself looks for a package named `vllm`, and the CPU build has another name.
    """
    start = (
        "import argparse; from vllm.benchmarks.serve import add_cli_args, main; "
        "p = argparse.ArgumentParser(); add_cli_args(p); main(p.parse_args())"
    )

    def ask(load: Load, port: int, place: Path) -> Said:
        argv: list[object] = [
            *(sys.executable, "-c", start, "--backend", "openai-chat", "--model", MODEL),
            *("--base-url", f"http://127.0.0.1:{port}", "--endpoint", "/v1/chat/completions"),
            *("--tokenizer", tokenizer, "--dataset-name", "random", "--random-input-len", PROMPT_TOKENS),
            *("--random-output-len", load.tokens, "--num-prompts", load.requests, "--disable-tqdm"),
            *("--extra-body", json.dumps({"max_tokens": load.tokens})),
            *("--save-result", "--result-dir", place, "--result-filename", "report.json"),
        ]
        if load.rate_per_s:
            argv += ["--request-rate", load.rate_per_s]
        else:
            argv += ["--max-concurrency", load.streams]
        run(argv, place, load.limit_s)
        report = json.loads((place / "report.json").read_text())
        return Said(
            ttft_mean_ms=report["mean_ttft_ms"],
            ttft_p99_ms=report["p99_ttft_ms"],
            itl_mean_ms=report["mean_itl_ms"],
            completed=report["completed"],
            errors=report["failed"],
        )

    return Harness("vllm bench serve", version, ask)


def plain_locust(version: str) -> Harness:
    """Locust with a plain locustfile, one process a core; it knows users and no arrival rates."""

    def ask(load: Load, port: int, place: Path) -> Said:
        if load.rate_per_s:
            return Said(failed="Locust has users, no arrival rates")
        spawn = load.streams / load.ramp_s if load.ramp_s else load.streams
        argv = [
            *(Path(sys.executable).parent / "locust", "-f", Path(__file__).parent / "_plain_locust.py"),
            *("--headless", "--host", f"http://127.0.0.1:{port}", "-u", load.streams, "-r", spawn),
            *("-t", f"{load.duration_s:.0f}s", "--stop-timeout", f"{load.answer_s + 30:.0f}s"),
            *("--processes", "-1", "--csv", place / "report", "--only-summary"),
        ]
        # Its exit code is 1 if a single request failed, which its table says better.
        run(argv, place, load.limit_s, env={"TOKENS": str(load.tokens)}, accepted=(0, 1))
        with (place / "report_stats.csv").open() as file:
            rows = {row["Name"]: row for row in csv.DictReader(file)}
        asked = rows["/v1/chat/completions"]
        return Said(
            ttft_mean_ms=float(rows["TTFT"]["Average Response Time"]),
            ttft_p99_ms=float(rows["TTFT"]["99%"]),
            itl_mean_ms=float(rows["ITL"]["Average Response Time"]),
            completed=int(asked["Request Count"]) - int(asked["Failure Count"]),
            errors=int(asked["Failure Count"]),
        )

    return Harness("Locust", version, ask)


def run(
    argv: Sequence[object],
    place: Path,
    limit_s: float,
    *,
    env: Mapping[str, str] | None = None,
    accepted: Sequence[int] = (0,),
) -> None:
    """Run a tool in a process group of its own, all of which ends with it.

    Raises TimeoutError beyond its limit, RuntimeError with its last words if it fails.
    """
    log = place / "log.txt"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [str(word) for word in argv],
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, "VLLM_NO_USAGE_STATS": "1", **(env or {})},
            start_new_session=True,
        )
        try:
            code = process.wait(limit_s)
        except subprocess.TimeoutExpired:
            raise TimeoutError(f"not done after {limit_s:.0f} s") from None
        finally:
            _end_group(process)
    if code not in accepted:
        lines = log.read_text(errors="replace").strip().splitlines()
        raise RuntimeError(f"exit code {code}: {' '.join(lines[-3:])[-300:]}")


def _end_group(process: subprocess.Popen[bytes]) -> None:
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        return
    process.wait()


def _of(report: Mapping[str, Any], metric: str, statistic: str) -> float | None:
    found = report.get(metric)
    return float(found[statistic]) if found else None


def asked(harness: Harness, load: Load, port: int, place: Path) -> Said:
    """What the tool says; a tool that fails or hangs says why."""
    try:
        return harness.ask(load, port, place)
    except (RuntimeError, TimeoutError, KeyError, OSError) as error:
        return Said(failed=f"{type(error).__name__}: {error}")
