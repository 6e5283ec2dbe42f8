"""The load's processes as this program sees them: their start, their news, the death of one, their end."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from dreamseed_cli.bench.locust_users.plan import Errand
from dreamseed_cli.bench.locust_users.samples import Table, read_samples, read_ticks
from dreamseed_cli.core.errors import FailedError
from dreamseed_cli.core.processes import ProcessIdentity, end_all

_MODULE = "dreamseed_cli.bench.locust_users"
_START_S = 60.0
_END_S = 15.0
_WORDS_OF_LOG = 400


@dataclass(frozen=True, slots=True)
class StepTimes:
    """A step as it went; seconds of the monotonic clock. ended_s is None for one that was broken off."""

    users: int
    began_s: float
    spawned_s: float
    ended_s: float


@dataclass(frozen=True, slots=True)
class LoadRun:
    """Everything that is known of a load test.

    ticks: of each process. lost: the processes that died, in words. locust_requests: Locust's own count, None
    if its master did not end in order.
    """

    samples: Table
    ticks: tuple[Table, ...]
    steps: tuple[StepTimes, ...]
    lost: tuple[str, ...] = ()
    details: dict[str, int] = field(default_factory=dict)
    locust_requests: int | None = None
    interrupted: bool = False


class Crew:
    """A master and its workers, each in a session of its own: a Ctrl-C at the terminal is ours to pass on."""

    def __init__(self, errand: Errand, tell: Callable[[dict[str, Any]], None]) -> None:
        self._errand = errand
        self._folder = Path(errand.folder)
        self._tell = tell
        self._steps: list[StepTimes] = []
        self._locust_requests: int | None = None
        self._lost: list[str] = []
        self._master: asyncio.subprocess.Process | None = None
        self._workers: list[asyncio.subprocess.Process] = []

    @property
    def worker_pids(self) -> tuple[int, ...]:
        return tuple(worker.pid for worker in self._workers)

    @property
    def pids(self) -> tuple[int, ...]:
        """Of all its processes, ended ones as well."""
        return (*(() if self._master is None else (self._master.pid,)), *self.worker_pids)

    def release(self) -> None:
        """Close the pipes to all of them, as the end of this program would: they end by themselves."""
        for process in (self._master, *self._workers):
            self._close_stdin(process)

    async def run(self) -> LoadRun:
        """The whole plan, or as much of it as came about; leaves no process behind.

        Cancelled (Ctrl-C) it ends the load and gives back what there is, marked interrupted.
        Raises FailedError if the processes do not come up.
        """
        interrupted = False
        try:
            try:
                await self._lead()
            except asyncio.CancelledError:
                interrupted = True
                await self._wind_up()
        finally:
            await self._end()
        return LoadRun(
            samples=read_samples(self._folder),
            ticks=read_ticks(self._folder),
            steps=tuple(self._steps),
            lost=tuple(self._lost),
            details=_details(self._folder),
            locust_requests=self._locust_requests,
            interrupted=interrupted,
        )

    async def _lead(self) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        file = self._folder / "errand.json"
        file.write_bytes(msgspec.json.encode(self._errand))
        self._master = master = await self._start("master", str(file))
        port = (await self._news(master, _START_S)).get("port")
        if port is None:
            raise self._broken("the load's master did not start", "master")
        for index in range(self._errand.plan.processes):
            self._workers.append(await self._start("worker", str(file), str(index), str(port)))
        watch = [asyncio.create_task(self._watch(index)) for index in range(len(self._workers))]
        try:
            await self._follow(master)
        finally:
            for task in watch:
                task.cancel()
            await asyncio.gather(*watch, return_exceptions=True)

    async def _follow(self, master: asyncio.subprocess.Process) -> None:
        """Until the master has finished."""
        while news := await self._news(master, None):
            self._note(news)
            if news["event"] == "failed":
                raise self._broken(news["reason"], "worker-0")
            if news["event"] == "finished":
                return
        raise self._broken("the load's master ended early", "master")

    def _note(self, news: dict[str, Any]) -> None:
        if news["event"] == "step":
            self._steps.append(StepTimes(news["users"], news["began_s"], news["spawned_s"], news["ended_s"]))
        elif news["event"] == "finished":
            self._locust_requests = news["requests"]
        self._tell(news)

    async def _watch(self, index: int) -> None:
        """A worker that dies is lost, and its users with it: the load is over. Told to end it ends with 0."""
        worker = self._workers[index]
        code = await worker.wait()
        if code == 0:
            return
        how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with code {code}"
        self._lost.append(f"load process {index} (pid {worker.pid}) {how}{self._last_words(index)}")
        self._close_stdin(self._master)

    def _last_words(self, index: int) -> str:
        text = _tail(self._folder / f"worker-{index}.log")
        return f": {text.splitlines()[-1]}" if text else ""

    async def _wind_up(self) -> None:
        """Ask the load to end, and wait for it a little."""
        self._close_stdin(self._master)
        if self._master is not None:
            with suppress(TimeoutError, FailedError):
                async with asyncio.timeout(_END_S):
                    await self._follow(self._master)

    async def _end(self) -> None:
        processes = [one for one in (self._master, *self._workers) if one is not None]
        self.release()
        waits = [asyncio.create_task(process.wait()) for process in processes]
        if waits:
            await asyncio.wait(waits, timeout=_END_S)
        for wait in waits:
            wait.cancel()
        left = [ProcessIdentity.of(process.pid) for process in processes if process.returncode is None]
        await asyncio.to_thread(end_all, [one for one in left if one], grace_s=1.0)
        for process in processes:
            await process.wait()

    async def _start(self, role: str, *arguments: str) -> asyncio.subprocess.Process:
        name = f"{role}-{arguments[1]}" if role == "worker" else role
        with (self._folder / f"{name}.log").open("wb") as log:
            return await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                _MODULE,
                role,
                *arguments,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE if role == "master" else log,
                stderr=log,
                start_new_session=True,
            )

    async def _news(self, master: asyncio.subprocess.Process, timeout_s: float | None) -> dict[str, Any]:
        """The master's next line; empty at its end or after `timeout_s`."""
        assert master.stdout is not None  # noqa: S101 - it was started with a pipe
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                line = await master.stdout.readline()
                return dict(json.loads(line)) if line.strip() else {}
        return {}

    def _broken(self, cause: str, log: str) -> FailedError:
        file = self._folder / f"{log}.log"
        words = _tail(file)
        return FailedError(f"{cause}{': ' if words else ''}{words}", place=str(file))

    @staticmethod
    def _close_stdin(process: asyncio.subprocess.Process | None) -> None:
        if process is not None and process.stdin is not None:
            process.stdin.close()


def _tail(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8", errors="replace").strip()[-_WORDS_OF_LOG:]
    except OSError:
        return ""


def _details(folder: Path) -> dict[str, int]:
    """Reasons of failures, summed over the processes that ended in order; the commonest first."""
    counted: Counter[str] = Counter()
    for path in folder.glob("details-*.json"):
        counted.update(json.loads(path.read_text(encoding="utf-8")))
    return dict(counted.most_common())
