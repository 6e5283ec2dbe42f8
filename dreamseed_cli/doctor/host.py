"""The machine itself: Python, files, clock, disk, memory errors of disks."""

from __future__ import annotations

import ctypes
import json
import os
import resource
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

from dreamseed_cli.core.counting import counted
from dreamseed_cli.core.paths import StateDir, cache_dir, nearest
from dreamseed_cli.doctor.finding import Finding, off, ok, problem, warning
from dreamseed_cli.doctor.program import told, told_units
from dreamseed_cli.profile.schema import EmulatedEngine, Profile, VllmEngine

_AREA = "host"
_LEAST_FREE = 0.1
_LEAST_FREE_BYTES = 5 * 1024**3
_FILES_BESIDE_ENGINES = 256
"""Sockets, logs, databases, brokers: what a gateway holds beside one connection for each sequence."""
_TIME_ERROR = 5
"""adjtimex(2): the clock is not synchronised."""
_UNIT = "dreamseed.service"


def python() -> Iterator[Finding]:
    """The versions that this program is tested with."""
    version = ".".join(map(str, sys.version_info[:3]))
    if sys.version_info[:2] >= (3, 14):
        yield warning(
            _AREA, "Python", f"{version} is newer than this program was tried with", "Use 3.11 to 3.13."
        )
    else:
        yield ok(_AREA, "Python", version)


def files(profile: Profile) -> Iterator[Finding]:
    """The limit of open files against a connection for every sequence of every engine."""
    engine = profile.engine
    sequences = (
        engine.replicas * engine.max_num_seqs if isinstance(engine, VllmEngine | EmulatedEngine) else 0
    )
    needed = sequences + _FILES_BESIDE_ENGINES
    whose, allowed = _files_allowed()
    if allowed is not None and allowed < needed:
        yield warning(
            _AREA,
            "open files",
            f"{whose}: {allowed:,} allowed, this profile may need {needed:,}",
            "Raise it: LimitNOFILE= in the unit (deploy render systemd does), or ulimit -n in the shell.",
        )
    else:
        said = "any number" if allowed is None else f"{allowed:,}"
        yield ok(_AREA, "open files", f"{whose}: {said} allowed, {needed:,} needed")


def _files_allowed() -> tuple[str, int | None]:
    """Of the unit where systemd has one, else of this shell (RLIMIT_NOFILE). None: unlimited."""
    for unit in told_units([_UNIT], "LoadState", "LimitNOFILESoft"):
        limit = unit.get("LimitNOFILESoft", "")
        if unit.get("LoadState") == "loaded" and limit:
            return _UNIT, int(limit) if limit.isdigit() else None
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return "this shell", None if soft == resource.RLIM_INFINITY else soft


def clock(profile: Profile) -> Iterator[Finding]:
    """Whether something keeps it right. Stores refuse a clock that is off, and point-in-time means a time."""
    state = ctypes.CDLL(None, use_errno=True).ntp_gettime(ctypes.create_string_buffer(256))
    remote = profile.backup.store is not None and not profile.backup.store.startswith("local:")
    if state == _TIME_ERROR and remote:
        yield warning(
            _AREA,
            "clock",
            "nothing keeps it right",
            "Start a time service: systemctl enable --now systemd-timesyncd.",
        )
    else:
        yield ok(_AREA, "clock", "not kept by a time service" if state == _TIME_ERROR else "synchronised")


def state_folder(state: StateDir) -> Iterator[Finding]:
    """Whether the stack may write where it has to: `serve` refuses to start otherwise. Told only if not."""
    for folder in (state.root, state.socket_dir, state.log_dir):
        there = nearest(folder)
        if there.is_dir() and os.access(there, os.W_OK | os.X_OK):
            continue
        yield problem(
            _AREA,
            "state folder",
            f"nothing can be written to {there}" if there.is_dir() else f"{there} is no folder",
            "Run it as the user who serves, or choose another with --state-dir or DREAMSEED_STATE_DIR.",
        )
        return


def disk(state: StateDir) -> Iterator[Finding]:
    """Room where the state and the models lie."""
    for name, folder in (("state's disk", state.root), ("cache's disk", cache_dir())):
        there = nearest(folder)
        usage = shutil.disk_usage(there)
        said = f"{usage.free / 1024**3:,.0f} of {usage.total / 1024**3:,.0f} GiB free ({there})"
        if usage.free < min(_LEAST_FREE * usage.total, _LEAST_FREE_BYTES):
            yield problem(
                _AREA, name, said, "Make room: logs, old models, WAL that is not archived (backup status)."
            )
        else:
            yield ok(_AREA, name, said)


def disk_health(profile: Profile, devices: Path = Path("/sys/class/nvme")) -> Iterator[Finding]:
    """What NVMe disks say of themselves, through smartctl(8) where it may ask.

    A machine without cards, such as a laptop, is well without that program.
    """
    disks = sorted(devices.glob("nvme*"))
    program = shutil.which("smartctl")
    if not disks:
        return
    if program is None:
        said = f"{counted(len(disks), 'disk')}, nothing asks them"
        if profile.card_engine is not None:
            yield warning(_AREA, "NVMe", said, "Install smartmontools.")
        else:
            yield off(_AREA, "NVMe", f"{said} (smartmontools would)")
        return
    for one in disks:
        yield _smart(program, one.name)


def _smart(program: str, name: str) -> Finding:
    said = told(program, "--health", "--attributes", "--json", f"/dev/{name}")
    try:
        facts = json.loads(said)
    except ValueError:
        facts = {}
    passed = facts.get("smart_status", {}).get("passed")
    if passed is None and os.geteuid() != 0:
        return off(_AREA, name, f"root alone may ask for its health: sudo smartctl --health /dev/{name}")
    if passed is None:
        return warning(_AREA, name, "does not tell its health", f"smartctl --health /dev/{name} says why.")
    used = facts.get("nvme_smart_health_information_log", {}).get("percentage_used")
    said = f"healthy, {used} % of its writes used" if used is not None else "healthy"
    if not passed:
        return problem(
            _AREA, name, "says that it is failing", "Back up now (dreamseed backup), then replace it."
        )
    return ok(_AREA, name, said)
