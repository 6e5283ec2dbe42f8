"""Programs whose output is a backup: in a group of their own, read, and believed only at exit code 0."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import threading
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Final, Self, cast

from psycopg.pq import Conninfo

from dreamseed_cli.backup import ending
from dreamseed_cli.core.errors import FailedError, MissingError

_KEPT_LINES: Final = 20
_GRACE_S: Final = 5.0
_CHUNK: Final = 1 << 20


class ProducerFailed(FailedError):
    """A program ended with another exit code than 0: what it wrote is worth nothing."""

    kind = "producer_failed"


class ProgramMissing(MissingError):
    """The program is not installed."""

    kind = "program_missing"


class Producer:
    """A running program. read() gives what it writes, and the end only when it ended well.

    Use it as a context manager: leaving early, for whatever reason, ends the program and all its children.
    """

    def __init__(self, argv: Sequence[str | Path], *, environment: Mapping[str, str] | None = None) -> None:
        """environment: beside this process's own. ProgramMissing if there is no such program."""
        self.name = Path(argv[0]).name
        self._lines: deque[str] = deque(maxlen=_KEPT_LINES)
        ending.check()
        try:
            # Its own session: a Ctrl-C at the terminal reaches us, and we end it with its workers.
            self._process = subprocess.Popen(
                [str(argument) for argument in argv],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env={**os.environ, **(environment or {}), "LC_MESSAGES": "C"},
                start_new_session=True,
            )
        except OSError as error:
            raise ProgramMissing(
                f"this program cannot be started: {error.strerror}",
                place=str(argv[0]),
                remedy="Install PostgreSQL's client programs.",
            ) from error
        self._output = cast("IO[bytes]", self._process.stdout)
        self._errors = cast("IO[bytes]", self._process.stderr)
        _widen(self._output.fileno())
        self._reader = threading.Thread(target=self._keep_lines, daemon=True)
        self._reader.start()
        self._forget = ending.on_end(self._end)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.stop()

    def read(self, size: int, /) -> bytes:
        """Up to `size` bytes of its output; none once it ended with exit code 0. Else ProducerFailed."""
        data = self._output.read(size)
        if len(data) < size:
            self._finish()
        return data

    def run(self) -> None:
        """Wait for its end, whatever it writes. ProducerFailed."""
        while self.read(_CHUNK):
            pass

    @property
    def last_lines(self) -> str:
        """The end of what it said on its standard error."""
        return "\n".join(self._lines)

    def stop(self) -> None:
        """End it and its children, if they still run: asked first, then killed."""
        self._forget()
        if self._process.poll() is None:
            self._signal(signal.SIGTERM)
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(_GRACE_S)
        self._signal(signal.SIGKILL)
        self._process.wait()
        self._reader.join(_GRACE_S)
        self._output.close()
        self._errors.close()

    def _finish(self) -> None:
        code = self._process.wait()
        self._reader.join(_GRACE_S)
        if code != 0:
            ending.check()
            told = f"exit code {code}" if code > 0 else f"killed by signal {-code}"
            raise ProducerFailed(
                f"{told}: {self.last_lines or 'it said nothing'}",
                place=self.name,
                remedy="What it wrote is not used. Mend the cause and run it again.",
            )

    def _keep_lines(self) -> None:
        for line in self._errors:
            self._lines.append(line.decode(errors="replace").rstrip())

    def _end(self, hard: bool) -> None:
        if self._process.returncode is None:
            self._signal(signal.SIGKILL if hard else signal.SIGTERM)

    def _signal(self, signum: signal.Signals) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signum)


def _widen(pipe: int) -> None:
    """Let the program get ahead of its reader by more than the usual 64 KiB, where the system allows it."""
    if hasattr(fcntl, "F_SETPIPE_SZ"):
        with suppress(OSError):
            fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, _CHUNK)


def run_program(argv: Sequence[str | Path], *, environment: Mapping[str, str] | None = None) -> None:
    """Run a program to its end. ProducerFailed, ProgramMissing."""
    with Producer(argv, environment=environment) as running:
        running.run()


def program_version(path: Path) -> str:
    """What `--version` ends with: `18.6` of `pg_dump (PostgreSQL) 18.6`."""
    with Producer([path, "--version"]) as running:
        words = running.read(_CHUNK).decode().partition("\n")[0].split(") ", 1)[-1].split()
    return words[0]


def libpq_environment(dsn: str) -> dict[str, str]:
    """A connection string as environment variables: a password on a command line could be read by anyone."""
    options = Conninfo.parse(dsn.encode())
    return {
        option.envvar.decode(): option.val.decode()
        for option in options
        if option.envvar is not None and option.val is not None
    }
