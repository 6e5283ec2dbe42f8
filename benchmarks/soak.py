"""A soak (§H): random faults on three emulated engines under load, for as long as wished.

Every request has an end that its caller knows: answered, refused with a status, or cut with one. At the end
nothing is left over: no process, no descriptor, no queue slot; and memory is flat. In the second half gateway
and supervisor are spared, so that their memory and descriptors are judged over one long unbroken series.
Run it from the repository root: `python -m benchmarks.soak --minutes 30`; the seed tells which faults come.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import sys
import tempfile
import time
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Any

import uvloop

from benchmarks._fire import Callers, Stack, all_ready, stack
from benchmarks._soak_faults import Faults
from benchmarks._soak_watch import Rest, Series, Watch, rest
from benchmarks.gateway_overhead import device
from dreamseed_cli.incidents.read import read_incidents
from dreamseed_cli.incidents.record import incidents_file
from dreamseed_cli.supervisor.snapshot import StackSnapshot

RESULT = Path(__file__).parent / "results" / "soak.json"
SEED = 20260801
CALLERS = 24
PACE = "first_backoff_s = 0.2\nlongest_backoff_s = 2.0\nstable_after_s = 2.0\n"
"""Faults come every few seconds, where in life there are hours between them: what is ready for two seconds
counts as well again.
"""
QUICK = "hang_after_s = 3.0\ncanary_every_s = 3.0\ncanary_timeout_s = 5.0\n"
"""For short soaks: a hang is noticed after 3 s instead of 10, so that more of them fit in."""
FDS_MARGIN = 6
"""A connection to each of the three engines, kept for the next request, one of this program's own, and what
gRPC or the logs may just have open.
"""
RSS_BOUND_MIB_PER_MIN = 1.0
"""Some 1300 requests end in a minute of a soak: this is 800 bytes for each, less than one would take that was
kept in memory with its prompt, its answer of 40 pieces and its ticket.
"""
RSS_BOUND_YOUNG_MIB_PER_MIN = 6.0
"""The same for a process that could not be judged for a minute after its warm-up: caches and metrics still
fill, and only a gross leak can be told from that.
"""
_SHORT_MIN = 5.0
_CALM_S = 6.0
_BOUND_S = 120.0


async def soak(minutes: float, seed: int, *, retries: int = 3, deadline_s: float = 30.0) -> dict[str, Any]:
    """One soak; what came of it, JSON-able. TimeoutError if the stack does not become whole again.

    retries, deadline_s: of the callers (`_fire.Callers`).
    """
    quick = minutes <= _SHORT_MIN
    supervision = PACE + (QUICK if quick else "")
    with tempfile.TemporaryDirectory(prefix="ds-soak-") as folder:
        async with stack(Path(folder), supervision=supervision) as stand:
            snapshot = await stand.until(all_ready, _BOUND_S)
            before = await rest(stand)
            watch, faults = Watch(stand), Faults(stand, random.Random(seed))  # noqa: S311
            address = str(snapshot.gateway.address)
            callers = Callers(address, CALLERS, retries=retries, deadline_s=deadline_s)
            began = time.time()
            async with watch.watching():
                async with callers.asking():
                    try:
                        await _fire(stand, faults, minutes * 60.0)
                    except Exception as error:
                        error.add_note(f"seed {seed}, after these faults: {faults.done}")
                        raise
                await asyncio.sleep(_CALM_S)
                await _ask_a_few(address)
                after = await rest(stand)
            told = await asyncio.to_thread(read_incidents, incidents_file(stand.state), 1000)
            code = await asyncio.to_thread(stand.end)
            return {
                "minutes": round(minutes, 2),
                "seed": seed,
                "supervision": supervision.split("\n")[:-1],
                "faults": dict(Counter(name for _, name, _ in faults.done)),
                "requests": callers.tally.data(),
                "before": before.data(),
                "after": after.data(),
                "memory": {role: memory(watch.longest(role)) for role in ("gateway", "supervisor")},
                "most_processes": max(watch.processes),
                "most_outstanding": max(watch.outstanding),
                "incidents": dict(Counter(f"{one.cause}: {one.outcome}" for one in told)),
                "exit_code": code,
                "processes_left": len(stand.left()),
                "done": [(round(at - began, 1), name, victim) for at, name, victim in faults.done],
                "series": [asdict(series) for series in watch.series],
            }


async def _fire(stand: Stack, faults: Faults, seconds: float) -> None:
    """Fault after fault, then until all is well again."""
    began = time.monotonic()
    while (spent := time.monotonic() - began) < seconds:
        now = await stand.until(_supervised, _BOUND_S)
        await faults.one(now, unbroken=spent > seconds / 2)
        await asyncio.sleep(faults.rng.uniform(0.5, 4.0))
    await faults.over()
    await stand.until(_calm, _BOUND_S)


async def _ask_a_few(address: str) -> None:
    """The gateway drops connections to engines that nobody needed for some seconds: at the next request."""
    async with Callers(address, 1).asking():
        await asyncio.sleep(2.0)


def _supervised(snapshot: StackSnapshot) -> bool:
    return snapshot.gateway.state == "serving" and any(one.state == "ready" for one in snapshot.replicas)


def _calm(snapshot: StackSnapshot) -> bool:
    rolling = snapshot.rolling is not None and snapshot.rolling.finished_at is None
    return all_ready(snapshot) and not rolling


def memory(series: Series) -> dict[str, Any]:
    """How one process's memory went, and by what it is judged."""
    slope = series.slope_mib_per_min()
    return {
        "watched_s": round(series.times_s[-1] - series.times_s[0], 1),
        "judged_s": round(series.judged_s(), 1),
        "rss_mib": (series.rss_mib[0], series.rss_mib[-1]),
        "slope_mib_per_min": None if slope is None else round(slope, 3),
        "bound_mib_per_min": RSS_BOUND_MIB_PER_MIN if series.ripe() else RSS_BOUND_YOUNG_MIB_PER_MIN,
    }


def problems(found: dict[str, Any]) -> list[str]:
    """What is not as it has to be, in words; nothing if all is well."""
    requests, before, after = found["requests"], Rest(**found["before"]), Rest(**found["after"])
    said = {
        f"requests were lost: {requests}": requests["lost"],
        f"answers were wrong: {requests}": requests["wrong"],
        f"hardly anything was answered: {requests}": requests["answered"] < 2 * found["minutes"] * 60,
        f"requests are still with an engine: {after.outstanding}": any(after.outstanding.values()),
        f"{after.queued:.0f} requests are still queued": after.queued,
        f"other processes than before: {after.processes}, not {before.processes}": (
            after.processes != before.processes
        ),
        f"exit code {found['exit_code']}": found["exit_code"],
        f"{found['processes_left']} processes outlived the end": found["processes_left"],
        f"incidents are open: {found['incidents']}": any("open" in one for one in found["incidents"]),
    }
    for role, fds in after.fds.items():
        said[f"{role} has {fds} descriptors, not {before.fds[role]}"] = fds > before.fds[role] + FDS_MARGIN
    for role, grown in found["memory"].items():
        slope, bound = grown["slope_mib_per_min"], grown["bound_mib_per_min"]
        said[f"{role} grows by {slope} MiB a minute"] = slope is not None and slope > bound
    return [words for words, wrong in said.items() if wrong]


def main() -> None:
    """Run it and write the result; exit code 1 if something is not as it has to be."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--output", type=Path, default=None, help=f"for the committed result: {RESULT}")
    options = parser.parse_args()
    found = {
        "benchmark": "soak",
        "device": device(),
        "provenance": "simulated: the engines; measured: requests, processes, descriptors, memory",
        "callers": CALLERS,
        **uvloop.run(soak(options.minutes, options.seed)),
    }
    found["problems"] = problems(found)
    shown = {name: value for name, value in found.items() if name not in {"series", "done", "device"}}
    print(json.dumps(shown, indent=1))
    if options.output is not None:
        options.output.write_text(json.dumps(found) + "\n")
    sys.exit(bool(found["problems"]))


if __name__ == "__main__":
    main()
