"""What a running stack leaves on disk about itself: who supervises, and which processes are its own."""

from __future__ import annotations

import fcntl
import os
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeVar

import msgspec

from dreamseed_cli.core.errors import UsageError
from dreamseed_cli.core.files import write_atomically
from dreamseed_cli.core.paths import StateDir
from dreamseed_cli.core.processes import ProcessIdentity, boot_id

Role = Literal["engine", "gateway", "service"]
_Record = TypeVar("_Record")


@dataclass(frozen=True, slots=True)
class SupervisorRecord:
    """The supervisor of a state folder, as `supervisor.json` tells it."""

    identity: ProcessIdentity
    boot_id: str
    started_at: float
    """Seconds since the epoch, for people; the proof is `identity`."""
    profile: str
    version: str
    gateway: str | None = None
    """HOST:PORT of the gateway once it listens."""
    stop_bound_s: float = 60.0
    """The longest an orderly stop may take."""

    def alive(self) -> bool:
        """Whether this very supervisor still runs."""
        return self.boot_id == boot_id() and self.identity.alive()


@dataclass(frozen=True, slots=True)
class ChildRecord:
    """One child of the supervisor and every process of its family seen so far."""

    name: str
    role: Role
    endpoint: str
    leader: ProcessIdentity
    members: tuple[ProcessIdentity, ...]
    container: str | None = None
    """The container the child runs in, if it is a `docker run`."""
    stop_signal: int = signal.SIGTERM
    fingerprint: str = ""
    """Of what it was started with (see `supervisor.fingerprint`); empty: of an older version."""
    log_start: int = 0
    """Where in its log this run of it began, in bytes."""


@dataclass(frozen=True, slots=True)
class _Children:
    boot_id: str
    children: tuple[ChildRecord, ...]


def read_supervisor(state: StateDir) -> SupervisorRecord | None:
    """The last supervisor of this folder, alive or not; None if it left in order."""
    return _read(_supervisor_file(state), SupervisorRecord)


def write_supervisor(state: StateDir, record: SupervisorRecord) -> None:
    """Say who supervises this folder."""
    write_atomically(_supervisor_file(state), msgspec.json.encode(record))


def read_children(state: StateDir) -> tuple[ChildRecord, ...]:
    """The recorded children; none if they are of another boot, whose pids prove nothing."""
    recorded = _read(_children_file(state), _Children)
    return recorded.children if recorded and recorded.boot_id == boot_id() else ()


def write_children(state: StateDir, children: Sequence[ChildRecord]) -> None:
    """Record every child with its family, so that the next run can prove what is its own."""
    write_atomically(_children_file(state), msgspec.json.encode(_Children(boot_id(), tuple(children))))


def forget(state: StateDir) -> None:
    """After an orderly end: nobody supervises, nothing runs."""
    _supervisor_file(state).unlink(missing_ok=True)
    _children_file(state).unlink(missing_ok=True)


@contextmanager
def only_supervisor(state: StateDir) -> Iterator[None]:
    """Hold the folder's lock; UsageError naming the pid if another process does.

    The kernel drops the lock with its holder, so one that was killed blocks nobody.
    """
    try:
        held = _open_lock(state.root / "supervisor.lock")
    except OSError as error:
        raise UsageError(
            f"the state folder cannot be written: {error.strerror}",
            place=str(state.root),
            remedy="Choose another with --state-dir or DREAMSEED_STATE_DIR.",
        ) from error
    with os.fdopen(held) as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise _already_running(state) from None
        yield


def _open_lock(path: Path) -> int:
    """Reading is enough to lock it, where root made it (`ups watch`) beside another user's stack."""
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    except PermissionError:
        return os.open(path, os.O_RDONLY)


def _already_running(state: StateDir) -> UsageError:
    record = read_supervisor(state)
    who = f"pid {record.identity.pid}, profile '{record.profile}'" if record else "it is just starting"
    return UsageError(
        f"a stack already runs here ({who})",
        place=str(state.root),
        remedy="Stop it with: dreamseed stop. Or give this one a folder of its own with --state-dir.",
    )


def _read(path: Path, kind: type[_Record]) -> _Record | None:
    try:
        return msgspec.json.decode(path.read_bytes(), type=kind)
    except (FileNotFoundError, NotADirectoryError, msgspec.DecodeError):
        return None  # files are replaced whole, so an unreadable one is another version's


def _supervisor_file(state: StateDir) -> Path:
    return state.root / "supervisor.json"


def _children_file(state: StateDir) -> Path:
    return state.root / "children.json"


def gateway_file(state: StateDir) -> Path:
    """What the gateway process reads at its start."""
    return state.root / "gateway.json"
