"""A private server on a folder of the drill's own: run, killed as by a power cut, wiped."""

from __future__ import annotations

import shutil
import signal
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import psycopg

from dreamseed_cli.backup import ending
from dreamseed_cli.backup.logical.server import Programs
from dreamseed_cli.backup.manifest import Manifest
from dreamseed_cli.backup.physical.recovery import Goal, PrivateServer, RecoveryFailed, private_server
from dreamseed_cli.backup.programs import programs_for
from dreamseed_cli.core.errors import FailedError
from dreamseed_cli.core.processes import ProcessIdentity, end_all
from dreamseed_cli.services.postgres import USER

_HBA: Final = "local all all trust\nlocal replication all trust\n"
_START_S: Final = 60.0
_POLL_S: Final = 0.05


@dataclass(frozen=True, slots=True)
class Build:
    """What runs a cluster: programs of its version, and its superuser's name."""

    programs: Programs
    user: str

    @classmethod
    def of(cls, manifest: Manifest) -> Build:
        """What a backup needs."""
        user = USER if USER in manifest.roles else "postgres"
        return cls(programs_for(manifest.versions.server_version_num), user)


@contextmanager
def running(
    data: Path, build: Build, settings: Mapping[str, str] | None = None, *, wait: bool = True
) -> Iterator[PrivateServer]:
    """A server on `data`, which others may replicate from; stopped in order at the end, if it still runs.

    wait: until it takes writes; False for a standby, which answers(): RecoveryFailed if it ends.
    """
    hba = data.with_name(f"{data.name}.hba")
    hba.write_text(_HBA, encoding="utf-8")
    every = {"hba_file": str(hba), "synchronous_commit": "on", **(settings or {})}
    with private_server(data, every, build.programs, build.user) as server:
        server.start()
        if wait:
            server.wait(Goal(), _START_S)
        else:
            answers(server)
        yield server


def answers(server: PrivateServer, limit_s: float = _START_S) -> None:
    """Wait until it answers at all, a standby too. RecoveryFailed."""
    deadline = time.monotonic() + limit_s
    while time.monotonic() < deadline:
        if server.process is None or server.process.poll() is not None:
            break
        with suppress(psycopg.Error), psycopg.connect(server.dsn(), connect_timeout=5):
            return
        ending.pause(_POLL_S)
    raise RecoveryFailed(f"it does not answer: {server.said()}", place=str(server.data))


def kill(server: PrivateServer) -> None:
    """SIGKILL to it and all its processes at once, as a power cut would. FailedError if one survives."""
    if server.process is None:
        return
    first = ProcessIdentity.of(server.process.pid)
    family = first.family() if first else []
    left = end_all(family, grace_s=0.0, ask=signal.SIGKILL)
    if left:
        raise FailedError("a killed server's process is still there", place=f"pid {left[0].pid}")
    server.process.wait()


def wipe(data: Path) -> None:
    """The folder as a new disk would be: not there."""
    shutil.rmtree(data)
