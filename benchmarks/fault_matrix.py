"""The fault matrix (§H): every fault, on an idle and on a loaded stack of three emulated engines.

`dreamseed serve` as a process of its own, faults from outside (signals, the engines' own fault orders, a
taken port, a full disk, a stand-in of NVML), callers that ask without a pause and count how every request
ended. Times are measured from the fault to the supervisor's word for it and to the last replica's first
token; the engines are emulated: their own start takes half a second where a real vLLM takes a minute.
Run it from the repository root: `python -m benchmarks.fault_matrix`; with names for some faults only.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import (
    AbstractAsyncContextManager,
    AsyncExitStack,
    asynccontextmanager,
    contextmanager,
    suppress,
)
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import uvloop

from benchmarks._fire import Callers, Stack, all_ready, away, incidents, stack
from benchmarks.gateway_overhead import device
from dreamseed_cli.supervisor.snapshot import StackSnapshot

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests" / "support"))
from fake_nvml import FakeNvml

RESULT = Path(__file__).parent / "results" / "fault_matrix.json"
AIMS = {"lost": 0, "wrong": 0, "crash_detect_s": 1.0, "hang_detect_s": 15.0}
CALLERS = 24
_BOUND_S = 100.0

Inject = Callable[[Stack], Awaitable[None]]
Seen = Callable[[StackSnapshot], bool]


@dataclass(frozen=True)
class Fault:
    """inject: does it. seen: how the supervisor's word for it looks. over: how it looks when it is over.

    module, supervision: how the stack is started for it. at_start: the fault is there from the start on.
    retries: attempts of a caller whose gateway is gone (§H2's client makes 3). deadline_s: how long a caller
    waits for an answer. settle_s: how long the load runs before it.
    """

    name: str
    inject: Inject
    seen: Seen
    over: Seen = all_ready
    module: tuple[str, ...] = ("dreamseed_cli", "serve")
    supervision: str = ""
    at_start: bool = False
    retries: int = 0
    deadline_s: float = 30.0
    hang: bool = False
    gpu: bool = False
    settle_s: float = 1.5
    means: str = ""


async def _crash(stand: Stack) -> None:
    stand.kill("r0")


async def _hang(stand: Stack) -> None:
    await stand.order("r0", fault="hang")


async def _freeze(stand: Stack) -> None:
    stand.kill("r0", signal.SIGSTOP)


async def _slow(stand: Stack) -> None:
    await stand.order("r0", fault="slow", factor=15.0)


async def _garbage(stand: Stack) -> None:
    await stand.order("r0", fault="garbage")


async def _refuse(stand: Stack) -> None:
    await stand.order("r0", fault="refuse")


async def _gateway_crash(stand: Stack) -> None:
    stand.kill("gateway")


async def _supervisor_crash(stand: Stack) -> None:
    assert stand.process
    stand.process.kill()
    stand.process.wait()
    stand.start()


async def _fill_disk(stand: Stack) -> None:
    """The disk of the state folder is full, and an engine crashes: it must come back without its log."""
    with (stand.state.root / "filler").open("wb", buffering=0) as filler, suppress(OSError):
        while filler.write(b"\0" * 4096):
            pass
    stand.kill("r0")


async def _nothing(_: Stack) -> None:
    """It is there from the start on."""


async def _gpu_lost(stand: Stack) -> None:
    """NVML's GPU_IS_LOST, and the engine on the card ends, as it would."""
    FakeNvml(stand.folder).set(cards=3, c0_error=15)
    stand.kill("r0")


async def _gpu_fault(stand: Stack) -> None:
    """Xid 48: a double-bit ECC error."""
    FakeNvml(stand.folder).set(cards=3, c0_xid=48, c0_xid_number=1, c0_pids="none", c0_used=0)


async def _nvml_hang(stand: Stack) -> None:
    FakeNvml(stand.folder).set(cards=3, c0_hang=1)


def _state(replica: str, *states: str) -> Seen:
    def look(snapshot: StackSnapshot) -> bool:
        return any(one.name == replica and one.state in states for one in snapshot.replicas)

    return look


def _cause(replica: str, word: str) -> Seen:
    def look(snapshot: StackSnapshot) -> bool:
        return any(one.name == replica and word in f"{one.reason} {one.detail}" for one in snapshot.replicas)

    return look


def _card(*states: str) -> Seen:
    def look(snapshot: StackSnapshot) -> bool:
        return bool(snapshot.cards) and snapshot.cards[0].state in states

    return look


def _never() -> None:
    """Nothing has to be taken away for the fault to be over."""


def _adopted(snapshot: StackSnapshot) -> bool:
    return any("Adopted" in note for note in snapshot.notes)


_WITH_CARDS = ("benchmarks._stack", "--cards")


def _serve_with(fault: str) -> tuple[str, ...]:
    return ("benchmarks._stack", "--start-fault", fault)


FAULTS = (
    Fault("engine_crash", _crash, away("r0"), means="SIGKILL of its processes"),
    Fault("engine_hang", _hang, away("r0"), hang=True, means="generates nothing, /health says 200"),
    Fault("engine_frozen", _freeze, away("r0"), hang=True, means="SIGSTOP of its processes"),
    Fault(
        "engine_slow",
        _slow,
        _state("r0", "degraded"),
        _state("r0", "degraded"),
        hang=True,
        settle_s=15.0,
        means="every step takes 15 times as long; noticed under load only, then avoided",
    ),
    Fault("engine_garbage", _garbage, away("r0"), hang=True, means="bytes that are no answer"),
    Fault("engine_refuses", _refuse, away("r0"), hang=True, means="503 to everything"),
    Fault(
        "out_of_memory_at_start",
        _nothing,
        _cause("r0", "out_of_gpu_memory"),
        _state("r0", "failed"),
        module=_serve_with("out_of_memory"),
        supervision="first_backoff_s = 0.2\nmost_failures = 3",
        at_start=True,
        means="it is tried three times here, then failed with its last words",
    ),
    Fault(
        "wrong_model_path",
        _nothing,
        _cause("r0", "configuration"),
        _state("r0", "failed"),
        module=_serve_with("wrong_model_path"),
        at_start=True,
        means="failed at once: no retry would help",
    ),
    Fault(
        "port_taken",
        _nothing,
        _cause("r0", "port_taken"),
        module=_serve_with("port_taken"),
        at_start=True,
        means="another program has it until that was noticed",
    ),
    Fault("gateway_crash", _gateway_crash, away("gateway"), retries=3, means="SIGKILL"),
    Fault(
        "supervisor_crash",
        _supervisor_crash,
        _adopted,
        retries=3,
        means="SIGKILL, and a new serve as systemd would start it",
    ),
    Fault(
        "gpu_lost",
        _gpu_lost,
        _state("r0", "restarting", "hung", "quarantined"),
        _state("r0", "quarantined"),
        module=_WITH_CARDS,
        gpu=True,
        means="NVML: the GPU is lost, its engine ends; quarantined, the others go on",
    ),
    Fault(
        "gpu_fault",
        _gpu_fault,
        away("r0"),
        module=_WITH_CARDS,
        gpu=True,
        hang=True,
        means="Xid 48: its engine is ended, the memory found free, the engine started again",
    ),
    Fault(
        "nvml_hang",
        _nvml_hang,
        _card("suspect"),
        lambda now: all_ready(now) and _card("suspect")(now),
        module=_WITH_CARDS,
        gpu=True,
        hang=True,
        means="calls on a card block: its reader is killed, the card suspect, its engine serves on",
    ),
    Fault(
        "disk_full", _fill_disk, away("r0"), means="the state folder's disk is full, and an engine crashes"
    ),
)


@asynccontextmanager
async def _small_disk(folder: Path) -> AsyncIterator[None]:
    """A disk of 64 MiB for the state folder. As root only."""
    (folder / "s").mkdir()
    argv = ["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", str(folder / "s")]
    await asyncio.to_thread(subprocess.run, argv, check=True)
    try:
        yield
    finally:
        await asyncio.to_thread(subprocess.run, ["umount", "--lazy", str(folder / "s")], check=True)


@contextmanager
def _taken_port(folder: Path) -> Iterator[socket.socket]:
    """Another program has the port until this is closed."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        (folder / "port").write_text(str(taken.getsockname()[1]))
        yield taken


def _stack(folder: Path, fault: Fault) -> AbstractAsyncContextManager[Stack]:
    env = {}
    if fault.gpu:
        cards = FakeNvml(folder)
        cards.set(cards=3)
        env = cards.environment
    poll_s = 1.0 if fault.gpu else 5.0
    return stack(folder, supervision=fault.supervision, module=fault.module, env=env, gpu_poll_s=poll_s)


async def case(fault: Fault, *, loaded: bool) -> dict[str, Any]:
    """One cell of the matrix. Raises TimeoutError if the fault is not noticed, or never over."""
    async with AsyncExitStack() as around:
        folder = Path(around.enter_context(tempfile.TemporaryDirectory(prefix="ds-fire-")))
        if fault.name == "disk_full":
            await around.enter_async_context(_small_disk(folder))
        eases = around.enter_context(_taken_port(folder)).close if fault.name == "port_taken" else _never
        began = time.monotonic()
        stand = await around.enter_async_context(_stack(folder, fault))
        # What is there from the start on is noticed before anybody can ask.
        watching = asyncio.create_task(_times(stand, fault, began, eases)) if fault.at_start else None
        ready = _serving_anyhow if fault.at_start else all_ready
        snapshot = await stand.until(ready, _BOUND_S)
        callers = Callers(
            str(snapshot.gateway.address),
            CALLERS if loaded else 0,
            retries=fault.retries,
            deadline_s=fault.deadline_s,
        )
        async with callers.asking():
            if not fault.at_start:
                await asyncio.sleep(fault.settle_s if loaded else 0.5)
                began = time.monotonic()
            await fault.inject(stand)
            times = await (watching or _times(stand, fault, began, eases))
            await asyncio.sleep(1.0)  # what was in the air at the end has its own end, and is in the book
        told = await asyncio.to_thread(incidents, stand.state)
        code = await asyncio.to_thread(stand.end)
        return {
            **times,
            "requests": callers.tally.data() if loaded else None,
            "incidents": [f"{one['subject']}: {one['cause']}: {one['outcome']}" for one in told],
            "exit_code": code,
            "processes_left": len(stand.left()),
        }


async def _times(stand: Stack, fault: Fault, began: float, eases: Callable[[], None]) -> dict[str, float]:
    """eases: called once the fault was noticed, so that it can be over."""
    await stand.until(fault.seen, _BOUND_S)
    detect_s = time.monotonic() - began
    eases()
    await stand.until(fault.over, _BOUND_S)
    return {"detect_s": round(detect_s, 3), "recover_s": round(time.monotonic() - began, 3)}


def _serving_anyhow(snapshot: StackSnapshot) -> bool:
    return snapshot.gateway.state == "serving" and snapshot.ready >= 2


def sound(cell: dict[str, Any]) -> bool:
    """Whether nobody's request was lost or answered wrongly, and the end left nothing."""
    requests = cell["requests"] or {"lost": 0, "wrong": 0}
    clean = cell["exit_code"] == 0 and cell["processes_left"] == 0
    return bool(requests["lost"] == 0 and requests["wrong"] == 0 and clean)


def reached(fault: Fault, cell: dict[str, Any]) -> bool:
    """Whether a cell is what it has to be: sound, and noticed in time."""
    bound = AIMS["hang_detect_s"] if fault.hang else AIMS["crash_detect_s"]
    in_time = fault.at_start or fault.name == "supervisor_crash" or cell["detect_s"] <= bound
    return sound(cell) and bool(in_time)


def table(cells: dict[str, dict[str, Any]]) -> str:
    """The matrix as Markdown."""
    lines = [
        "| fault | stack | noticed after | all well after | answered | cut with an error | lost | reached |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, cell in cells.items():
        requests = cell["requests"] or {}
        counts = [str(requests.get(key, "-")) for key in ("answered", "cut", "lost")]
        fault, _, load = name.partition(" ")
        times = f"{cell['detect_s']:.2f} s | {cell['recover_s']:.2f} s"
        yes = "yes" if cell["reached"] else "**no**"
        lines.append(f"| {fault} | {load} | {times} | {' | '.join(counts)} | {yes} |")
    return "\n".join(lines)


async def matrix(names: list[str]) -> dict[str, dict[str, Any]]:
    """All cells, one after another."""
    cells = {}
    for fault in FAULTS:
        if names and fault.name not in names:
            continue
        for loaded in (False, True):
            if fault.name == "engine_slow" and not loaded:
                continue  # without work nothing is slow
            cell = await case(fault, loaded=loaded)
            cell["reached"] = reached(fault, cell)
            cells[f"{fault.name} {'loaded' if loaded else 'idle'}"] = cell
            print(f"{fault.name} {'loaded' if loaded else 'idle'}: {json.dumps(cell)}", flush=True)
    return cells


def main() -> None:
    """Run it, print the table, write the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("faults", nargs="*", choices=[[], *(fault.name for fault in FAULTS)])
    parser.add_argument("--output", type=Path, default=None)
    options = parser.parse_args()
    cells = uvloop.run(matrix(options.faults))
    print(table(cells))
    found = {
        "benchmark": "fault_matrix",
        "device": device(),
        "provenance": "simulated: the engines; measured: noticing, restarting, what became of the requests",
        "callers": CALLERS,
        "aims": AIMS,
        "faults": {fault.name: fault.means for fault in FAULTS},
        "cells": cells,
    }
    output = options.output or (None if options.faults else RESULT)
    if output is not None:
        output.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
