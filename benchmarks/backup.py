"""How fast are `dreamseed backup` and `restore`, beside pg_basebackup, pg_dump, pgbackrest and barman-cloud?

One pgbench database on one PostgreSQL 15, in one run and in turns whose order rotates: each tool backs it up
and restores it, three times. dreamseed's turns are its commands as people give them, from the start of Python
to the recovered server or the compared digests; the other tools only put the files or rows back.
MB/s are the databases' size on the server by the time of the command. CPU seconds are of the whole machine,
with what the server and barman's S3 server do. Before that, dreamseed does the same to a smaller database of
random bytes: its memory must depend neither on the size nor on the content.
Run it from the repository root, on a machine that does nothing else: `python -m benchmarks.backup`. Needs
Debian's postgresql-15; barman-cloud comes from PyPI and pgbackrest from Debian, into folders of their own.
"""

from __future__ import annotations

import argparse
import json
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks._backup_meter import CommandFailed, Cost, metered
from benchmarks._backup_server import Server, running_server
from benchmarks._backup_tools import (
    KEYS,
    Tool,
    barman,
    base_backup,
    base_backup_to_nowhere,
    dump,
    ours,
    pgbackrest,
    s3_server,
)
from benchmarks.gateway_overhead import device, rounded
from benchmarks.peers import ENVIRONMENTS
from dreamseed_cli.core.errors import DreamseedError

RESULT = Path(__file__).parent / "results" / "backup.json"
REPEATS = 3
SCALE = 100
LIMIT_S = 570.0
SMALL_SCALE, NOISE_MIB = 5, 300
AIMS = {"backup_mb_per_s": 300, "restore_mb_per_s": 300, "peak_mib": 300}
OURS = "dreamseed"
_MB = 1e6

Figures = dict[str, Any]


def turn(tool: Tool, size: int, log: Path) -> Figures:
    """One backup and one restore by one tool, and nothing of it left."""
    tool.prepare()
    try:
        found: Figures = {"backup": _figures(metered(tool.backup(), log, env=tool.env), size)}
        found["stored_bytes"] = tool.stored()
        if tool.restore is not None:
            cost = metered(tool.restore(), log, env=tool.env)
            found["restore"] = _figures(cost, size) | tool.said(cost)
            if "files_s" in found["restore"]:
                found["restore"]["files_mb_per_s"] = size / _MB / found["restore"]["files_s"]
    finally:
        tool.clean()
    return found


def _figures(cost: Cost, size: int) -> Figures:
    return {
        "mb_per_s": size / _MB / cost.wall_s,
        "wall_s": cost.wall_s,
        "cpu_s": cost.cpu_s,
        "own_cpu_s": cost.own_cpu_s,
        "peak_mib": cost.peak_mib,
    }


def measure(options: argparse.Namespace, console: Console) -> Figures:
    """Start everything, take turns, and return the report."""
    stamp, begin = device(), time.monotonic()
    with (
        tempfile.TemporaryDirectory(prefix="ds-backup-") as name,
        running_server(Path(name), KEYS) as server,
        s3_server(Path(name) / "s3.log") as endpoint,
    ):
        folder = Path(name) / "work"
        folder.mkdir()
        log = Path(name) / "log"
        small = _small(server, folder, log, console)
        console.print(f"pgbench --initialize --scale={options.scale}")
        server.fill(options.scale)
        size, version = server.size(), server.version()
        tools, absent = _tools(server, folder, endpoint, options)
        turns, failed = _take_turns(tools, size, log, options, console)
    summary = {name: _summary(found) for name, found in turns.items()}
    return {
        "benchmark": "backup",
        "device": stamp,
        "wall_s": time.monotonic() - begin,
        "provenance": "measured",
        "server": version,
        "database": {"pgbench_scale": options.scale, "bytes": size},
        "small_database": small,
        "aims": AIMS,
        "reached": reached(summary, small),
        "absent": absent | failed,
        "summary": summary,
        "repeats": turns,
    }


def _small(server: Server, folder: Path, log: Path, console: Console) -> Figures:
    """Our own turns with a database that is smaller, and whose rows do not compress: the worst for memory."""
    server.fill(SMALL_SCALE)
    server.add_noise(NOISE_MIB)
    size = server.size()
    found: Figures = {"pgbench_scale": SMALL_SCALE, "noise_mib": NOISE_MIB, "bytes": size}
    for kind in ("physical", "logical"):
        console.print(f"{OURS}, {kind}, {size / _MB:.0f} MB, most of it random")
        found[kind] = turn(ours(kind, server, folder / "small"), size, log)
    return found


def _tools(
    server: Server, folder: Path, endpoint: str, options: argparse.Namespace
) -> tuple[list[Tool], dict[str, str]]:
    """Every tool that can be had; the others with the reason why not."""
    makers: dict[str, Callable[[], Tool]] = {
        "dreamseed": lambda: ours("physical", server, folder / "ours"),
        "dreamseed, digests = false": lambda: ours("physical", server, folder / "bare", digests=False),
        "pg_basebackup to nowhere": lambda: base_backup_to_nowhere(server),
        "pg_basebackup": lambda: base_backup(server, folder / "base"),
        "pgbackrest": lambda: pgbackrest(server, folder / "rest", ENVIRONMENTS, encrypted=False),
        "pgbackrest, encrypted": lambda: pgbackrest(server, folder / "rest", ENVIRONMENTS, encrypted=True),
        "barman-cloud": lambda: barman(server, folder / "barman", ENVIRONMENTS, endpoint),
        "dreamseed, logical": lambda: ours("logical", server, folder / "ours"),
        "pg_dump": lambda: dump(server, folder / "dump"),
    }
    tools, absent = [], {}
    for name, make in makers.items():
        if options.only and name not in options.only:
            continue
        try:
            tools.append(make())
        except (OSError, subprocess.CalledProcessError) as error:
            absent[name] = str(error)
    return tools, absent


def _take_turns(
    tools: Sequence[Tool], size: int, log: Path, options: argparse.Namespace, console: Console
) -> tuple[dict[str, list[Figures]], dict[str, str]]:
    """Every tool once in a repeat; each repeat begins with another one. What failed takes part no more."""
    failed: dict[str, str] = {}
    repeats, begin = options.repeats, time.monotonic()
    turns: dict[str, list[Figures]] = {_row(tool): [] for tool in tools}
    for repeat in range(repeats):
        spent_s = time.monotonic() - begin
        if repeat and spent_s * (repeat + 1) / repeat > options.limit_s:
            console.print(f"only {repeat} of {repeats}: the time is over")
            break
        shift = repeat * len(tools) // repeats
        for tool in [*tools[shift:], *tools[:shift]]:
            if _row(tool) in failed:
                continue
            try:
                found = turn(tool, size, log)
            except (CommandFailed, subprocess.CalledProcessError) as error:
                failed[_row(tool)] = str(error)
                console.print(str(error), markup=False)
                continue
            turns[_row(tool)].append(found)
            speeds = [f"{found[what]['mb_per_s']:.0f}" for what in ("backup", "restore") if what in found]
            console.print(f"{repeat + 1} of {repeats}: {_row(tool)}: {' and '.join(speeds)} MB/s")
    return {name: found for name, found in turns.items() if name not in failed}, failed


def _row(tool: Tool) -> str:
    return f"{tool.kind}: {tool.name}"


def _summary(turns: Sequence[Figures]) -> Figures:
    """The median of every figure; of memory the most."""
    found: Figures = {"stored_bytes": turns[0]["stored_bytes"] and _median(turns, "stored_bytes")}
    for what in ("backup", "restore"):
        if what in turns[0]:
            parts = [one[what] for one in turns]
            found[what] = {key: _median(parts, key) for key in parts[0]}
            found[what]["peak_mib"] = max(part["peak_mib"] for part in parts)
    return found


def _median(turns: Sequence[Figures], key: str) -> float:
    return float(statistics.median(one[key] for one in turns))


def reached(summary: Figures, small: Figures) -> Figures:
    """The aims, and how our memory depends on the database's size."""
    mine = summary.get(f"physical: {OURS}")
    if mine is None:
        return {}
    all_mine = [found for name, found in summary.items() if OURS in name]
    peaks = [found[what]["peak_mib"] for found in all_mine for what in ("backup", "restore")]
    small_peaks = [
        small[kind][what]["peak_mib"] for kind in ("physical", "logical") for what in ("backup", "restore")
    ]
    found: Figures = {
        "backup": mine["backup"]["mb_per_s"] >= AIMS["backup_mb_per_s"],
        "restore_with_recovery": mine["restore"]["mb_per_s"] >= AIMS["restore_mb_per_s"],
        "restore_of_files": mine["restore"]["files_mb_per_s"] >= AIMS["restore_mb_per_s"],
        "peak_mib": max(peaks),
        "peak_mib_random_database": max(small_peaks),
        "memory": max(*peaks, *small_peaks) <= AIMS["peak_mib"],
    }
    bare = summary.get(f"physical: {OURS}, digests = false")
    for name in ("pgbackrest", "pgbackrest, encrypted"):
        peer = summary.get(f"physical: {name}")
        if peer is not None:
            found[f"ahead_of {name}"] = _ahead(mine, peer)
            found[f"digests = false, ahead_of {name}"] = _ahead(bare, peer) if bare else None
    return found


def _ahead(mine: Figures, peer: Figures) -> Figures:
    """Our speed, of the peer's."""
    return {
        "backup": mine["backup"]["mb_per_s"] / peer["backup"]["mb_per_s"],
        "restore_with_recovery": mine["restore"]["mb_per_s"] / peer["restore"]["mb_per_s"],
        "restore_of_files": mine["restore"]["files_mb_per_s"] / peer["restore"]["mb_per_s"],
    }


def table(report: Figures) -> Table:
    """One row a tool."""
    counts = {len(turns) for turns in report["repeats"].values()}
    shown = Table(title=f"{report['database']['bytes'] / _MB:,.0f} MB; medians of {max(counts, default=0)}")
    shown.add_column("tool")
    for heading in (
        *(
            "backup MB/s",
            "CPU s",
            "peak MiB",
            "stored MB",
            "restore MB/s",
            "files alone",
            "CPU s",
            "peak MiB",
        ),
    ):
        shown.add_column(heading, justify="right")
    for name, found in report["summary"].items():
        stored = found["stored_bytes"]
        shown.add_row(
            name,
            *_cells(found["backup"]),
            "" if stored is None else f"{stored / _MB:,.0f}",
            *_restore_cells(found.get("restore")),
        )
    for name, reason in report["absent"].items():
        shown.add_row(name, reason)
    return shown


def _cells(found: Figures) -> list[str]:
    return [f"{found['mb_per_s']:.0f}", f"{found['cpu_s']:.1f}", f"{found['peak_mib']:.0f}"]


def _restore_cells(found: Figures | None) -> list[str]:
    if found is None:
        return []
    speed, *rest = _cells(found)
    files = found.get("files_mb_per_s")
    return [speed, "" if files is None else f"{files:.0f}", *rest]


def main() -> int:
    """Run it, print the table, write the result; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scale", type=int, default=SCALE, help="of pgbench: about 15 MB each")
    parser.add_argument("--repeats", type=int, default=REPEATS)
    parser.add_argument(
        "--limit-s", type=float, default=LIMIT_S, help="no repeat begins that would end later"
    )
    parser.add_argument("--only", action="append", default=[], help="these tools only, by name")
    parser.add_argument("--output", type=Path, default=RESULT)
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that every server is stopped
    console = Console(stderr=True)
    try:
        report = measure(options, console)
    except (CommandFailed, DreamseedError, subprocess.CalledProcessError) as error:
        console.print(str(error), markup=False)
        return 1
    options.output.write_text(json.dumps(rounded(report), indent=1) + "\n")
    Console(width=160).print(table(report))
    print(json.dumps(rounded(report["reached"]), indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
