"""`dreamseed wal push` before a B2 server that takes a request and never answers: the RPO bounds the wait."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from b2_server import DAILY, B2Server, Fault, b2_server
from wal_files import PgWal, segment

ROOT = Path(__file__).resolve().parents[2]
_BOUND_S = 100.0
"""Less than one silence of a backup's calls may last, which is 120 s."""


@dataclass(frozen=True)
class _Host:
    """One that archives to that server, with an RPO of 90 s."""

    folder: Path
    b2: B2Server

    def run(self, *words: str) -> tuple[int, Any]:
        """Exit code, and the data or the errors. TimeoutExpired for one that hangs."""
        done = subprocess.run(
            [sys.executable, "-m", "dreamseed_cli", *words, "--profile", str(self.profile), "--json"],
            env={
                **os.environ,
                **self.b2.environment(DAILY),
                "DREAMSEED_BACKUP_DIR": str(self.folder / "home"),
            },
            capture_output=True,
            text=True,
            timeout=_BOUND_S,
            check=False,
        )
        answer = json.loads(done.stdout)
        return done.returncode, answer["errors"] if answer["data"] is None else answer["data"]

    @property
    def profile(self) -> Path:
        return self.folder / "profile.toml"


@pytest.fixture
def host(tmp_path: Path) -> Iterator[_Host]:
    """With keys, and a server whose stalls outlast every patience."""
    with b2_server() as b2:
        b2.longest_hold_s = 600.0
        shipped = (ROOT / "profiles" / "laptop.toml").read_text(encoding="utf-8")
        table = f'\n[backup]\nstore = "b2:dreamseed"\nb2_realm = "{b2.url}"\nrpo_target_s = 90.0\n'
        made = _Host(tmp_path, b2)
        made.profile.write_text(shipped + table, encoding="utf-8")
        assert made.run("backup", "init")[0] == 0
        yield made


def _only_the_first(call: str) -> Callable[[str], Fault | None]:
    """Stall one request of that kind."""
    stalled: list[str] = []

    def fault(asked: str) -> Fault | None:
        if asked != call or stalled:
            return None
        stalled.append(asked)
        return Fault("stall")

    return fault


def test_one_hung_call_costs_its_silence_alone(host: _Host) -> None:
    """The upload's answer never comes: it is given up and sent again, within the same push."""
    host.b2.failing = _only_the_first("upload")
    path = PgWal(host.folder / "pg_wal").ready_segment(5)
    code, pushed = host.run("wal", "push", str(path))
    assert (code, pushed) == (0, {"name": segment(5).name, "known": False, "ahead": []})
    assert host.b2.calls.count("upload") == 3  # the cluster's claim of the store is the third
    assert any(name.startswith(f"wal/00000001/{segment(5).name}") for name in host.b2.objects())


def test_a_store_that_stays_silent_fails_the_push(host: _Host) -> None:
    """PostgreSQL gets its answer, and asks again: it is not held for ten minutes, and then all is well."""
    host.b2.failing = lambda _: Fault("stall")
    path = PgWal(host.folder / "pg_wal").ready_segment(5)
    code, errors = host.run("wal", "push", str(path))
    assert (code, errors[0]["kind"]) == (4, "store_unreachable"), errors
    host.b2.failing = lambda _: None
    assert host.run("wal", "push", str(path))[1]["name"] == path.name
