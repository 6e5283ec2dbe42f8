"""How long a command takes from its launch to its end: `dreamseed --help` beside `borgmatic --help`,
`pgcli --help` and `locust --help`, and every command of ours that only reads.

In turns, after one that is not counted and leaves files in the page cache and compiled. The peers come from
PyPI, each into an environment of its own. What reads a running stack reads one of emulated engines with a
PostgreSQL, a Valkey cluster and a backup of its own, which runs beside all turns: its idle load is in every
figure.
Run it from the repository root: `python -m benchmarks.startup`.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import track
from rich.table import Table

from benchmarks._peers import Package, environment
from benchmarks.gateway_overhead import device, rounded
from benchmarks.peers import ENVIRONMENTS
from dreamseed_cli.profile.load import profile_path

RESULT = Path(__file__).parent / "results" / "startup.json"
BORGMATIC = Package("borgmatic", "2.1.10")
PGCLI = Package("pgcli", "4.7.1")
LOCUST = Package("locust", "2.47.0")
DREAMSEED = (str(Path(sys.executable).with_name("dreamseed")),)
EMULATED = "emulated-rtx5090x3"
READ_ONLY = (
    "--version",
    "status",
    "logs --lines 5",
    "incidents",
    "doctor",
    "top --json",
    "metrics",
    "chaos --list",
    "plan --profile rtx5090x3",
    "cost-sim --users 1000000 --hours 0 --draws 10",
    "estimates",
    "restore",
    "bench compare report report",
    "backup list",
    "backup show",
    "backup prune --dry-run",
    "backup status",
    "schedule show",
    "drill history",
    "drill show",
    "drill checklist",
    "ups status",
    "ups test --dry-run",
    "ups plan",
    "wal settings",
    "profile list",
    "profile show laptop",
    "profile check rtx5090x3",
    "user list",
    "user key list ann",
    "db status",
    "db tune",
    "events tail",
    "certs show",
    "deploy render",
    "deploy diff",
    "deploy check",
)
CHANGING = (
    "serve",
    "reload",
    "restart",
    "stop",
    "ask",
    "api",
    "demo",
    "bench",
    "backup",
    "backup init",
    "backup verify",
    "backup pin",
    "backup unpin",
    "wal push",
    "wal fetch",
    "schedule install",
    "schedule remove",
    "schedule run",
    "drill lost-host",
    "drill lost-database",
    "drill bad-deploy",
    "drill corrupt-backup",
    "drill failover",
    "drill due",
    "user add",
    "user tier",
    "user disable",
    "user enable",
    "user key create",
    "user key revoke",
    "db migrate",
    "db watch",
    "db promote",
    "db failback",
    "certs create",
    "certs token",
    "ups watch",
)
"""The others: what changes something, or goes on until it is ended. `backup verify` notes what it proved."""
_PREPARED = (
    "backup init",
    "backup --kind logical",
    "certs create --name gpu.dreamseed.ai",
    "user add ann --tier paid",
    "drill lost-host --surprise 0",
    "bench --suite batching --duration 1 --out reports",
)
# A command that finds something to tell ends with 1, one that finds nothing to read with 3.
_ENDS = {0, 1, 3}
_READY_WITHIN_S = 90.0


def commands() -> dict[str, Sequence[str | Path]]:
    """What is timed, by its name: the four helps, then ours that only read."""
    helps: dict[str, Sequence[str | Path]] = {"dreamseed --help": [*DREAMSEED, "--help"]}
    for peer in (BORGMATIC, PGCLI, LOCUST):
        helps[f"{peer.name} --help"] = [environment(ENVIRONMENTS, peer) / peer.name, "--help"]
    return helps | {f"dreamseed {words}": [*DREAMSEED, *words.split()] for words in READ_ONLY}


def seconds(argv: Sequence[str | Path], env: Mapping[str, str], folder: Path) -> tuple[float, int]:
    """From its launch in `folder` to its end, and its exit code. RuntimeError if it failed."""
    start = time.perf_counter()
    done = subprocess.run(argv, env=env, cwd=folder, capture_output=True, text=True, check=False)
    took = time.perf_counter() - start
    if done.returncode not in _ENDS:
        raise RuntimeError(f"{argv} ended with {done.returncode}: {done.stderr}")
    return took, done.returncode


@contextmanager
def stack(folder: Path) -> Iterator[Mapping[str, str]]:
    """The environment in which commands find a running stack of emulated engines, a backup of it, a drill,
    and in `folder` a report of bench.
    """
    places = {f"XDG_{name}_HOME": str(folder / name.lower()) for name in ("STATE", "DATA", "CONFIG")}
    env = os.environ | places | {"NO_COLOR": "1"}
    profile = folder / "startup.toml"
    profile.write_text(profile_path(EMULATED).read_text(encoding="utf-8") + "\n[gateway]\nport = 0\n")
    argv = [*DREAMSEED, "serve", "--profile", str(profile)]
    with subprocess.Popen(argv, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as serve:
        try:
            _wait_until_ready(env)
            for words in _PREPARED:
                seconds([*DREAMSEED, *words.split()], env, folder)
            next((folder / "reports").iterdir()).rename(folder / "report")
            yield env
        finally:
            serve.send_signal(signal.SIGTERM)


def _wait_until_ready(env: Mapping[str, str]) -> None:
    deadline = time.monotonic() + _READY_WITHIN_S
    while True:
        status = subprocess.run([*DREAMSEED, "status", "--json"], env=env, capture_output=True, check=False)
        data = json.loads(status.stdout)["data"] if status.returncode == 0 else {}
        parts = [*data.get("replicas", []), *data.get("services", [])]
        if parts and all(part["state"] in {"ready", "off", "outbox"} for part in parts):
            return
        if time.monotonic() > deadline:
            raise RuntimeError(f"the stack is not ready after {_READY_WITHIN_S} s: {parts}")
        time.sleep(0.5)


def measure(rounds: int) -> dict[str, Any]:
    """Start the stack, take turns, and return the report."""
    stamp = device()
    timed = commands()
    took: dict[str, list[float]] = {name: [] for name in timed}
    ended: dict[str, int] = {}
    # A short path: the sockets below it may have 107 characters.
    with tempfile.TemporaryDirectory(prefix="ds-") as name, stack(folder := Path(name)) as env:
        for turn in track(range(rounds + 1), "turns", console=Console(stderr=True)):
            for command, argv in timed.items():
                lasted, ended[command] = seconds(argv, env, folder)
                if turn:
                    took[command].append(lasted)
    medians = {name: statistics.median(values) for name, values in took.items()}
    return {
        "benchmark": "startup",
        "device": stamp,
        "provenance": "measured",
        "peers": {peer.name: peer.version for peer in (BORGMATIC, PGCLI, LOCUST)},
        "seconds": {
            name: {"median": medians[name], "min": min(values), "max": max(values), "count": len(values)}
            for name, values in took.items()
        },
        "exit_codes": ended,
        "dreamseed_help_to": {
            name: medians["dreamseed --help"] / median
            for name, median in medians.items()
            if not name.startswith("dreamseed")
        },
    }


def main() -> None:
    """Run it, print and write the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=11, help="turns that count")
    parser.add_argument("--output", type=Path, default=RESULT)
    options = parser.parse_args()
    found = rounded(measure(options.rounds))
    options.output.write_text(json.dumps(found, indent=1) + "\n")
    table = Table("command", "median", "least", "most", "exit code")
    for name, one in found["seconds"].items():
        figures = (f"{one[key]:.2f} s" for key in ("median", "min", "max"))
        table.add_row(name, *figures, str(found["exit_codes"][name]))
    Console().print(table)


if __name__ == "__main__":
    main()
