"""One child process: its start, its proof of identity, its family and its bounded end.

`Child` is what is the same for every child; how its end is learned and how it is reached differs between one
that we started (`StartedChild`) and one that a killed supervisor left (`adoption.AdoptedChild`).
"""

from __future__ import annotations

import asyncio
import errno
import os
import signal
import time
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from dreamseed_cli import __version__
from dreamseed_cli.core.errors import MissingError
from dreamseed_cli.core.processes import ProcessIdentity, signal_all
from dreamseed_cli.engine.types import Command
from dreamseed_cli.supervisor.family import living_family
from dreamseed_cli.supervisor.fingerprint import fingerprint
from dreamseed_cli.supervisor.logfile import bound_log, last_lines
from dreamseed_cli.supervisor.notify import MANAGER_VARIABLES
from dreamseed_cli.supervisor.orphans import remove_container
from dreamseed_cli.supervisor.state import ChildRecord, Role

_FOLLOW_S = 2.0
"""How long helpers may take to follow their leader before they are killed."""
_KILL_WAIT_S = 10.0
_POLL_S = 0.05
_NOT_A_PROGRAM = {errno.ENOENT, errno.EACCES, errno.ENOEXEC, errno.ENOTDIR, errno.EISDIR, errno.ELOOP}

UNKNOWN_EXIT = 256
"""The exit code of a child that was adopted: only its parent is told that. No process has one above 255."""


@dataclass(frozen=True, slots=True)
class ChildSpec:
    """What to run, and how it ends."""

    name: str
    role: Role
    command: Command
    endpoint: str
    log: Path
    grace_s: float
    """How long it may take after `stop_signal` before it is killed."""
    container: str | None = None
    stop_signal: signal.Signals = signal.SIGTERM
    """What asks it to end in order."""
    config: str = ""
    """What it reads at its start, as far as that tells it from another one: a part of its fingerprint."""

    def fingerprint(self) -> str:
        """What it would be started with now, as one hash."""
        return fingerprint(self.command, self.config, environment=os.environ, version=__version__)


@dataclass(frozen=True, slots=True)
class Stopped:
    """How one child, or several, ended that were asked to."""

    killed: bool = False
    """A leader did not end by itself when it was asked to: it was killed, in whoever's time."""
    survivors: tuple[ProcessIdentity, ...] = ()
    """Those that outlived even SIGKILL."""

    @classmethod
    def together(cls, parts: Iterable[Stopped]) -> Stopped:
        """Of several, as one."""
        ended = tuple(parts)
        return cls(any(one.killed for one in ended), tuple(left for one in ended for left in one.survivors))


class Child(ABC):
    """A running child, or one that has ended. Its leader has a session of its own, so a Ctrl-C at the
    terminal spares it.
    """

    def __init__(
        self,
        spec: ChildSpec,
        identity: ProcessIdentity,
        *,
        log_start: int,
        members: tuple[ProcessIdentity, ...] = (),
    ) -> None:
        self.spec = spec
        self.identity = identity
        self._log_start = log_start
        self._members = members or (identity,)
        self._killed = False
        # Of what it was started with, whatever the environment may become.
        self._fingerprint = spec.fingerprint()

    @staticmethod
    async def start(spec: ChildSpec) -> Child:
        """Start it with its output appended to its log. MissingError if the program is not there."""
        return await StartedChild.launch(spec)

    @property
    @abstractmethod
    def exit_code(self) -> int | None:
        """None while it runs; negative is the signal that ended it; UNKNOWN_EXIT if nobody told us."""

    @abstractmethod
    async def wait(self) -> int:
        """Wait for the leader's end; its exit code."""

    @abstractmethod
    def _send(self, signum: signal.Signals) -> None:
        """Send the leader a signal, if it still runs."""

    def refresh(self) -> bool:
        """Look for new and gone members of the family; whether there were any. Blocks a few ms."""
        members = living_family(self.identity, self._members)
        changed = members != self._members
        self._members = members
        return changed

    def record(self) -> ChildRecord:
        """The child for `children.json`."""
        spec = self.spec
        return ChildRecord(
            spec.name,
            spec.role,
            spec.endpoint,
            self.identity,
            self._members,
            spec.container,
            stop_signal=spec.stop_signal,
            fingerprint=self._fingerprint,
            log_start=self._log_start,
        )

    def last_lines(self, count: int) -> list[str]:
        """The last lines this run of the child wrote."""
        return last_lines(self.spec.log, count, since_byte=self._log_start)

    def quoted_lines(self, count: int) -> str:
        """The same, indented, one under another; empty for none."""
        return "\n".join(f"  {line}" for line in self.last_lines(count))

    def end_in_words(self, count: int) -> str:
        """How it ended, and the last lines it wrote."""
        how, lines = how_it_ended(self.exit_code), self.quoted_lines(count)
        return f"{how}; its last lines:\n{lines}" if lines else f"{how} without a word"

    async def stop(self, hasten: asyncio.Event) -> Stopped:
        """Its stop signal to the leader, a bounded wait, then SIGKILL to the family.

        hasten: once set, nothing is waited for any more. One that had ended before is not killed.
        """
        await asyncio.to_thread(self.refresh)
        ran = self.exit_code is None
        if ran and not hasten.is_set():
            self._send(self.spec.stop_signal)
            await _first_of(self.wait(), hasten.wait(), timeout_s=self.spec.grace_s)
        survivors = await self.sweep(hasten)
        return Stopped(ran and self._killed, survivors)

    async def sweep(self, hasten: asyncio.Event) -> tuple[ProcessIdentity, ...]:
        """End what is left of the family: helpers may follow a leader that ended, the rest is killed.

        Returns who outlived even SIGKILL.
        """
        if self.exit_code is not None and not hasten.is_set():
            await self._gone_within(_FOLLOW_S)
        deadline = time.monotonic() + _KILL_WAIT_S
        while (left := await self._left()) and time.monotonic() < deadline:
            self._killed = self._killed or self.identity in left
            signal_all(left, signal.SIGKILL)
            await self._gone_within(0.5)
        if self.spec.container:
            await asyncio.to_thread(remove_container, self.spec.container)
        return left

    async def _left(self) -> tuple[ProcessIdentity, ...]:
        await asyncio.to_thread(self.refresh)
        return self._members

    async def _gone_within(self, timeout_s: float) -> None:
        """Wait for the family's end. Never by waitpid: the exit code of the leader is the event loop's."""
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            if not any(member.alive() for member in self._members):
                break
            await asyncio.sleep(_POLL_S)
        if self.exit_code is None and not self.identity.alive():
            await self.wait()


class StartedChild(Child):
    """A child of this process."""

    def __init__(
        self, spec: ChildSpec, process: asyncio.subprocess.Process, identity: ProcessIdentity, log_start: int
    ) -> None:
        super().__init__(spec, identity, log_start=log_start)
        self._process = process

    @classmethod
    async def launch(cls, spec: ChildSpec) -> StartedChild:
        """Start it; see `Child.start`."""
        bound_log(spec.log)
        if spec.role == "engine":
            _remove_socket(spec.endpoint)
        descriptor = os.open(spec.log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            log_start = os.fstat(descriptor).st_size
            process = await asyncio.create_subprocess_exec(
                *spec.command.argv,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=descriptor,
                stderr=descriptor,
                env=child_environment(os.environ, spec.command.env),
                start_new_session=True,
            )
        except OSError as error:
            if error.errno not in _NOT_A_PROGRAM:
                raise  # no memory, no file descriptor: it may be started a moment later
            raise MissingError(
                f"{spec.name} cannot be started: {error.strerror}",
                place=spec.command.argv[0],
                remedy="Install it, or mend the profile.",
            ) from error
        finally:
            os.close(descriptor)
        # It cannot have been reaped yet, so its pid still has a start time, even if it is dead.
        identity = ProcessIdentity.of(process.pid) or ProcessIdentity(process.pid, -1.0)
        return cls(spec, process, identity, log_start)

    @property
    def exit_code(self) -> int | None:
        return self._process.returncode

    async def wait(self) -> int:
        return await self._process.wait()

    def _send(self, signum: signal.Signals) -> None:
        self._process.send_signal(signum)


def child_environment(ours: Mapping[str, str], own: Mapping[str, str]) -> dict[str, str]:
    """Our environment without what the service manager meant for us alone, and its own on top. Pure."""
    inherited = {name: value for name, value in ours.items() if name not in MANAGER_VARIABLES}
    return {**inherited, **own}


def _remove_socket(endpoint: str) -> None:
    """Remove what the process before left there: vLLM does not listen where a socket is."""
    path = Path(endpoint.removeprefix("unix:"))
    if endpoint.startswith("unix:") and path.is_socket():
        path.unlink(missing_ok=True)


def at_once() -> asyncio.Event:
    """What `hasten` is where nothing is to be waited for."""
    event = asyncio.Event()
    event.set()
    return event


def how_it_ended(exit_code: int | None) -> str:
    """An exit code in words, as in "r0 was killed by signal 9". Pure."""
    if exit_code is None:
        return "still runs"
    if exit_code == UNKNOWN_EXIT:
        return "ended (its exit code is not ours to know)"
    return f"was killed by signal {-exit_code}" if exit_code < 0 else f"exited with code {exit_code}"


async def _first_of(*waits: object, timeout_s: float) -> None:
    tasks = [asyncio.ensure_future(wait) for wait in waits]  # type: ignore[call-overload]
    try:
        await asyncio.wait(tasks, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
