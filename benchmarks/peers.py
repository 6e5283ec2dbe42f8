"""dreamseed beside its peers: the same streams and unary requests through each gateway to one stub engine.

In one run and in turns, whose order rotates: the engine directly, dreamseed's gRPC gateway and its HTTP
front, LiteLLM's proxy, vllm-router and SMG, each peer from PyPI in a virtual environment of its own, made
when it is not there yet. The gateways have the last core to themselves; the stub engine and the load share
the others.
The stub takes 50 ms to an answer's first token and 10 ms to each of the next ones; unary requests of 8 tokens
it answers at once. HTTP peers get unary requests as `stream: false` and pass them on as they are; dreamseed's
gateway always streams from the engine, so it reads 8 events where they read one document.
Run it from the repository root: `python -m benchmarks.peers`.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import os
import signal
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from time import monotonic
from typing import Any

import psutil
import uvloop
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from benchmarks._load import GrpcAioAsker, Phase, Plan, run_phase
from benchmarks._peers import House, Peer, answers, free_port, over_grpc, over_http, running
from benchmarks._stub import ITL_MS, TTFT_MS
from benchmarks.gateway_overhead import device, rounded

RESULT = Path(__file__).parent / "results" / "peers.json"
ENVIRONMENTS = Path.home() / ".cache" / "dreamseed" / "peers"
FRONT = "{python} -m dreamseed_cli api --host 127.0.0.1 --port {port} --allow-anonymous"
NOT_THERE = "not there yet"
DIRECT, GRPC, HTTP = "direct", "dreamseed gRPC", "dreamseed HTTP"
GRPC_AIO = "dreamseed gRPC, read by grpc.aio"
STREAM_TOKENS, UNARY_TOKENS = 50, 8
STREAMS = (1, 32, 256)
UNARY = (1, 32, 64)
# Beyond this share of the core that it shares with the engine, the load may be what limits a peer.
FULL = 0.9

Figures = dict[str, Any]


@dataclass(frozen=True)
class Length:
    """How long the phases of one turn are, in seconds."""

    repeats: int
    stream_s: dict[int, float]
    unary_s: float

    def plans(self) -> dict[str, Plan]:
        """A turn: streams at each concurrency, then unary calls. One stream alone asks for 5 tokens an
        answer, which gives more first tokens in the time.
        """
        streams = {
            f"streams_{n}": Plan(
                n, STREAM_TOKENS if n > 1 else 5, True, self.stream_s[n], 0.5 if n > 1 else 0.0
            )
            for n in STREAMS
        }
        unary = {f"unary_{n}": Plan(n, UNARY_TOKENS, False, self.unary_s, 0.1) for n in UNARY}
        return streams | unary


WHOLE = Length(repeats=3, stream_s={1: 4.0, 32: 4.0, 256: 4.5}, unary_s=2.0)
QUICK = Length(repeats=1, stream_s={1: 1.5, 32: 2.0, 256: 2.5}, unary_s=0.8)


class Turn:
    """One peer's turn: its phases, with the CPU that each side took."""

    def __init__(self, peer: Peer, engine: psutil.Process) -> None:
        self._peer = peer
        self._engine = engine
        self._load = psutil.Process()

    async def run(self, plans: dict[str, Plan]) -> Figures:
        """The figures of every phase, after requests that warm the peer up."""
        for stream in (True, False):
            await run_phase(self._peer.way, Plan(16, 8, stream, 0.5, 0.1), lambda _: None)
        return {name: await self._phase(plan) for name, plan in plans.items()}

    async def _phase(self, plan: Plan) -> Figures:
        await self._quiet()
        marks: list[tuple[float, float, float, float]] = []
        phase = await run_phase(self._peer.way, plan, lambda _: marks.append(self._cpu_s()))
        spent = [after - before for before, after in zip(*marks, strict=True)]
        return _figures(phase, plan, spent)

    def _cpu_s(self) -> tuple[float, float, float, float]:
        """Gateway, engine, load, and the whole machine."""
        machine = psutil.cpu_times()
        whole = sum(machine) - machine.idle - machine.iowait - machine.guest - machine.guest_nice
        own = (sum(process.cpu_times()[:2]) for process in (self._engine, self._load))
        return (self._peer.cpu_s(), *own, whole)  # type: ignore[return-value]

    async def _quiet(self) -> None:
        """Wait until the peer has put the phase before behind it, 10 s at most."""
        for _ in range(50):
            before = self._peer.cpu_s()
            await asyncio.sleep(0.2)
            if self._peer.cpu_s() - before < 0.03:
                return


def _figures(phase: Phase, plan: Plan, spent: Sequence[float]) -> Figures:
    gateway, engine, load, machine = spent
    done = phase.tokens if plan.stream else phase.answers
    return {
        "requests": len(phase.ttft_s),
        "failed": phase.failed.total(),
        "failures": dict(phase.failed),
        "unfinished": phase.unfinished,
        "without_token": phase.without_token,
        "ttft_p50_ms": quantile(phase.ttft_s, 0.5) * 1000,
        "ttft_p99_ms": quantile(phase.ttft_s, 0.99) * 1000,
        "window_s": phase.window_s,
        "tokens_per_s": phase.tokens / phase.window_s,
        "answers_per_s": phase.answers / phase.window_s,
        "tokens_per_message": phase.tokens / phase.messages if phase.messages else None,
        "gateway_cpu_us_per_" + ("token" if plan.stream else "request"): gateway / done * 1e6
        if done
        else None,
        "gateway_core_share": gateway / phase.window_s,
        "engine_core_share": engine / phase.window_s,
        "load_core_share": load / phase.window_s,
        "other_processes_core_share": max(0.0, machine - gateway - engine - load) / phase.window_s,
    }


def quantile(values: Sequence[float], share: float) -> float:
    """The smallest value that `share` of all do not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, math.ceil(share * len(ordered)) - 1)]


@dataclass(frozen=True)
class Entry:
    """One row: a peer, and the phases it takes part in."""

    name: str
    peer: Peer
    plans: dict[str, Plan]


async def measure(options: argparse.Namespace, console: Console) -> Figures:
    """Start everything, take turns, and return the report."""
    stamp = device()
    cores = sorted(os.sched_getaffinity(0))
    gateway_core, other_cores = cores[-1:], cores[:-1] or cores
    os.sched_setaffinity(0, other_cores)
    length = QUICK if options.quick else WHOLE
    begin = monotonic()
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="ds-peers-")))
        port = free_port()
        engine_argv = [sys.executable, "-m", "benchmarks._stub", str(port)]
        engine = stack.enter_context(running(engine_argv, other_cores, folder / "engine.log"))
        direct = Peer(DIRECT, over_http(port), port)
        await answers(direct.way, folder / "engine.log")
        house = House(stack, folder, options.environments, gateway_core, f"http://127.0.0.1:{port}")
        peers, absent = await _start(house, direct, options, console)
        started_s = monotonic() - begin
        turns = await _take_turns(_entries(peers, length), engine, length.repeats, console)
        rows = [_describe(peer) for peer in peers]
    report = {"start_s": started_s, "wall_s": monotonic() - begin, "quick": options.quick}
    return {"benchmark": "peers", "device": stamp, **report, **_report(rows, absent, turns)}


async def _start(
    house: House, direct: Peer, options: argparse.Namespace, console: Console
) -> tuple[list[Peer], dict[str, str]]:
    """Everything that can be started; the others with the reason why not."""
    starts: dict[str, Callable[[], Awaitable[Peer]]] = {
        GRPC: house.grpc,
        HTTP: lambda: house.front(options.front),
        "litellm": house.litellm,
        "vllm-router": house.vllm_router,
        "smg": house.smg,
    }
    peers, absent = [direct], {}
    for name, start in starts.items():
        if options.only and name not in options.only:
            continue
        if name == HTTP and not await asyncio.to_thread(_front_is_there, options.front):
            absent[name] = NOT_THERE
            continue
        console.print(f"starting {name}")
        try:
            peers.append(await start())
        except (OSError, RuntimeError, subprocess.CalledProcessError) as error:
            absent[name] = f"did not start: {str(error) or type(error).__name__}"
            console.print(absent[name], markup=False)
    return peers, absent


def _front_is_there(template: str) -> bool:
    """Whether `dreamseed api` exists; any other command is believed."""
    if template != FRONT:
        return True
    asked = [sys.executable, "-m", "dreamseed_cli", "api", "--help"]
    return subprocess.run(asked, capture_output=True, check=False).returncode == 0


def _entries(peers: Sequence[Peer], length: Length) -> list[Entry]:
    """A row for every peer, and one for the gRPC gateway as grpc.aio's own client reads it."""
    plans = length.plans()
    entries = [Entry(peer.name, peer, plans) for peer in peers]
    for peer in peers:
        if peer.name == GRPC:
            way = over_grpc(peer.port, GrpcAioAsker)
            some = {name: plans[name] for name in ("streams_256", "unary_64")}
            entries.append(Entry(GRPC_AIO, replace(peer, way=way), some))
    return entries


async def _take_turns(
    entries: Sequence[Entry], engine: psutil.Process, repeats: int, console: Console
) -> dict[str, list[Figures]]:
    """Every entry once in a repeat; each repeat begins with another one."""
    turns: dict[str, list[Figures]] = {entry.name: [] for entry in entries}
    with Progress(console=console, transient=True) as progress:
        task = progress.add_task("turns", total=repeats * len(entries))
        for repeat in range(repeats):
            shift = repeat * len(entries) // repeats
            for entry in [*entries[shift:], *entries[:shift]]:
                progress.update(task, description=f"{entry.name}, {repeat + 1} of {repeats}")
                turns[entry.name].append(await Turn(entry.peer, engine).run(entry.plans))
                progress.advance(task)
    return turns


def _describe(peer: Peer) -> Figures:
    return {
        "name": peer.name,
        "version": peer.version,
        "command": " ".join(peer.argv),
        "peak_rss_mib": peer.peak_rss_mib() or None,
        "processes": len(peer.processes),
        "died": peer.died(),
    }


def _report(rows: list[Figures], absent: dict[str, str], turns: dict[str, list[Figures]]) -> Figures:
    """The medians over the repeats, beside the figures they are of."""
    summary = {name: _summary(found, turns[DIRECT]) for name, found in turns.items()}
    for row in rows:
        summary[row["name"]]["peak_rss_mib"] = row["peak_rss_mib"]
    return {
        "provenance": {
            "engine": f"a stub: first token after {TTFT_MS} ms, {ITL_MS} ms between tokens, "
            f"{STREAM_TOKENS} tokens a stream (5 where there is one stream); unary requests of "
            f"{UNARY_TOKENS} tokens at once",
            "added": "measured: a quantile through the gateway minus the same one past it, in one repeat",
        },
        "placement": "gateways on the last core, engine and load on the others",
        "aims": AIMS,
        "reached": _reached(summary),
        "peers": rows,
        "absent": absent,
        "summary": summary,
        "repeats": turns,
    }


def _summary(turns: Sequence[Figures], direct: Sequence[Figures]) -> Figures:
    found: Figures = {}
    for name in turns[0]:
        phases = [turn[name] for turn in turns]
        found[name] = {key: _median(phases, key) for key in phases[0] if key not in {*_SUMS, "failures"}}
        found[name] |= {key: sum(phase[key] for phase in phases) for key in _SUMS}
        for key in ("ttft_p50_ms", "ttft_p99_ms"):
            found[name][f"added_{key}"] = statistics.median(
                phase[key] - turn[name][key] for phase, turn in zip(phases, direct, strict=True)
            )
        found[name]["load_is_full"] = (
            max(phase["engine_core_share"] + phase["load_core_share"] for phase in phases) > FULL
        )
    return found


_SUMS = ("requests", "failed", "unfinished", "without_token")


def _median(phases: Sequence[Figures], key: str) -> float | None:
    values = [phase[key] for phase in phases if phase[key] is not None]
    return statistics.median(values) if values else None


AIMS = {
    "tokens_per_s_256": 20_000,
    "unary_per_s": 2_500,
    "times_litellm": 20,
    "added_ttft_p50_ms_32": "at most SMG's",
    "added_ttft_p99_ms_256": "below SMG's",
}


def _reached(summary: Figures) -> Figures:
    """The aims, for the gRPC gateway; those that need an absent peer are left out."""
    mine, smg, litellm = (summary.get(name) for name in (GRPC, "smg", "litellm"))
    if mine is None:
        return {}
    tokens = mine["streams_256"]["tokens_per_s"]
    unary = max(mine[f"unary_{n}"]["answers_per_s"] for n in UNARY)
    found: Figures = {
        "tokens_per_s_256": tokens >= AIMS["tokens_per_s_256"],
        "unary_per_s": unary >= AIMS["unary_per_s"],
    }
    if litellm:
        its_unary = max(litellm[f"unary_{n}"]["answers_per_s"] for n in UNARY)
        found["times_litellm_tokens"] = tokens / litellm["streams_256"]["tokens_per_s"]
        found["times_litellm_unary"] = unary / its_unary
    if smg:
        for key, phase in (("added_ttft_p50_ms", "streams_32"), ("added_ttft_p99_ms", "streams_256")):
            found[f"{key}_{phase[8:]}"] = mine[phase][key] <= smg[phase][key]
    return found


def tables(report: Figures) -> list[Table]:
    """Streams and unary requests, one row a peer."""
    streams = Table(title="Streams: time to first token added (ms, p50 / p99); 256 streams in detail")
    for heading in ("through", *(f"{n} stream{'s' * (n > 1)}" for n in STREAMS)):
        streams.add_column(heading, justify="left" if heading == "through" else "right")
    for heading in ("tok/s", "CPU µs/token", "core used", "failed / unfinished", "peak MiB"):
        streams.add_column(heading, justify="right")
    unary = Table(title="Unary requests of 8 tokens: answers a second")
    unary.add_column("through")
    for heading in (*(f"{n} at a time" for n in UNARY), f"CPU µs/request at {UNARY[-1]}", "failed"):
        unary.add_column(heading, justify="right")
    for name, found in report["summary"].items():
        streams.add_row(name, *_stream_cells(name, found))
        unary.add_row(name, *_unary_cells(found))
    for name, reason in report["absent"].items():
        streams.add_row(name, reason)
        unary.add_row(name, reason)
    return [streams, unary]


def _stream_cells(name: str, found: Figures) -> list[str]:
    cells = [_added(name, found.get(f"streams_{n}")) for n in STREAMS]
    most = found["streams_256"]
    phases = [phase for key, phase in found.items() if key.startswith(("streams", "unary"))]
    failed, unfinished = (sum(phase[key] for phase in phases) for key in ("failed", "unfinished"))
    memory = found.get("peak_rss_mib")
    return [
        *cells,
        f"{most['tokens_per_s']:,.0f}",
        _number(most["gateway_cpu_us_per_token"] or None, 1),
        _number(most["gateway_core_share"] or None, 2),
        f"{failed} / {unfinished}",
        _number(memory, 0),
    ]


def _added(name: str, phase: Figures | None) -> str:
    if phase is None:
        return ""
    if name == DIRECT:
        return f"({phase['ttft_p50_ms']:.1f} / {phase['ttft_p99_ms']:.1f})"
    # What was still waited for when the phase was cut off took longer than this.
    more = "> " if phase["without_token"] else ""
    return f"{phase['added_ttft_p50_ms']:.2f} / {more}{phase['added_ttft_p99_ms']:.2f}"


def _unary_cells(found: Figures) -> list[str]:
    phases = [found.get(f"unary_{n}") for n in UNARY]
    rates = [
        f"{'≥ ' * phase['load_is_full']}{phase['answers_per_s']:,.0f}" if phase else "" for phase in phases
    ]
    last = found[f"unary_{UNARY[-1]}"]
    failed = sum(phase["failed"] for phase in phases if phase)
    return [*rates, _number(last["gateway_cpu_us_per_request"] or None, 1), str(failed)]


def _number(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:,.{digits}f}"


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="one repeat with short phases, under 2 minutes")
    parser.add_argument("--environments", type=Path, default=ENVIRONMENTS, help="where peers are installed")
    parser.add_argument(
        "--front", default=FRONT, help="the front's command; GPU_ENDPOINT is in its environment"
    )
    parser.add_argument("--only", action="append", metavar="NAME", help="only this peer (may be repeated)")
    parser.add_argument("--output", type=Path, default=RESULT)
    return parser.parse_args()


async def _until_stopped(options: argparse.Namespace, console: Console) -> Figures:
    """SIGTERM ends it as Ctrl-C does: everything that was started is stopped first."""
    task = asyncio.ensure_future(measure(options, console))
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    return await task


def main() -> int:
    """Run it, print the tables, write the result; the exit code."""
    options = _options()
    console = Console(stderr=True)
    try:
        report = uvloop.run(_until_stopped(options, console))
    except (KeyboardInterrupt, asyncio.CancelledError):
        console.print("interrupted; everything is stopped")
        return 130
    options.output.write_text(json.dumps(rounded(report), indent=1) + "\n")
    for table in tables(report):
        Console(width=160).print(table)
    print(json.dumps(rounded(report["reached"]), indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
