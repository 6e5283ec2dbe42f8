"""What a soak looks at: processes, file descriptors, memory and queue slots of a stack under fire."""

from __future__ import annotations

import asyncio
import statistics
import time
from bisect import bisect_left
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import psutil
from prometheus_client.parser import text_string_to_metric_families

from benchmarks._fire import Stack
from dreamseed_cli.core.processes import ProcessIdentity
from dreamseed_cli.supervisor.state import read_children

EVERY_S = 5.0
WARM_UP_S = 120.0
"""A gateway's first two garbage collections under a soak's load come within this time (5,000 objects: five of
each call, and its own first ones). What waits for the next one has room where the last one made it.
"""
JUDGED_S = 60.0
_MIB = 2.0**20


@dataclass
class Series:
    """One process of the stack over its life. times_s: since the soak's begin."""

    role: str
    pid: int
    times_s: list[float] = field(default_factory=list)
    fds: list[int] = field(default_factory=list)
    rss_mib: list[float] = field(default_factory=list)

    def ripe(self) -> bool:
        """Whether it lived for so long after its warm-up that it can be judged by that."""
        return self.times_s[-1] - self.times_s[0] >= WARM_UP_S + JUDGED_S

    def judged_s(self) -> float:
        """How long the part of its life is that it is judged by: the second half without the warm-up, in
        which a process grows without a leak; all of that half if it is not ripe.
        """
        times_s = self._judged(self.times_s)
        return times_s[-1] - times_s[0]

    def slope_mib_per_min(self) -> float | None:
        """The growth of its memory in that part, by least squares; None for a life too short to tell."""
        times_s, rss_mib = self._judged(self.times_s), self._judged(self.rss_mib)
        if len(times_s) < 5:
            return None
        return statistics.linear_regression([at / 60.0 for at in times_s], rss_mib).slope

    def _judged(self, values: list[float]) -> list[float]:
        half = len(values) // 2
        warm = bisect_left(self.times_s, self.times_s[0] + WARM_UP_S) if self.ripe() else 0
        return values[max(half, warm) :]


@dataclass(frozen=True, slots=True)
class Rest:
    """A stack that nobody asks. processes: their command lines, the same for the same role.

    outstanding: by replica; queued: over all classes; fds: by role.
    """

    processes: tuple[str, ...]
    outstanding: dict[str, int]
    queued: float
    fds: dict[str, int]

    def data(self) -> dict[str, Any]:
        """JSON-able."""
        return asdict(self)


class Watch:
    """Takes samples of supervisor and gateway, each process with a series of its own."""

    def __init__(self, stand: Stack) -> None:
        self.series: list[Series] = []
        self.processes: list[int] = []
        self.outstanding: list[int] = []
        self._stand = stand
        self._began = time.monotonic()

    @asynccontextmanager
    async def watching(self) -> AsyncIterator[None]:
        """Every few seconds for as long as the block runs."""
        task = asyncio.create_task(self._look_on())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    def longest(self, role: str) -> Series:
        """The process of this role that was watched for the longest time."""
        return max((one for one in self.series if one.role == role), key=lambda one: len(one.times_s))

    async def _look_on(self) -> None:
        while True:
            self._stand.remember()
            for role, identity in leaders(self._stand).items():
                self._sample(role, identity)
            self.processes.append(len(await asyncio.to_thread(processes, self._stand)))
            with suppress(aiohttp.ClientError, OSError, TimeoutError):
                self.outstanding.append(sum((await outstanding(self._stand)).values()))
            await asyncio.sleep(EVERY_S)

    def _sample(self, role: str, identity: ProcessIdentity) -> None:
        process = identity.process()
        with suppress(psutil.Error):
            if process is None:
                return
            fds, rss = process.num_fds(), process.memory_info().rss / _MIB
            series = self._series(role, identity.pid)
            series.times_s.append(round(time.monotonic() - self._began, 1))
            series.fds.append(fds)
            series.rss_mib.append(round(rss, 2))

    def _series(self, role: str, pid: int) -> Series:
        known = (one for one in self.series if (one.role, one.pid) == (role, pid))
        found = next(known, None)
        if found is None:
            found = Series(role, pid)
            self.series.append(found)
        return found


def leaders(stand: Stack) -> dict[str, ProcessIdentity]:
    """Supervisor and gateway, as far as they are there."""
    found = {child.name: child.leader for child in read_children(stand.state) if child.name == "gateway"}
    supervisor = ProcessIdentity.of(stand.process.pid) if stand.process else None
    return {**found, "supervisor": supervisor} if supervisor else found


def processes(stand: Stack) -> tuple[str, ...]:
    """Everything that lives and belongs to the stack: by its command line, which names the state folder, by
    its parent, and by what was ever on record. Without the folder, so that two of them can be compared.
    """
    found: dict[int, str] = {}
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            command = " ".join(process.cmdline())
            if str(stand.state.root) in command:
                found |= {one.pid: " ".join(one.cmdline()) for one in _with_children(process)}
    known = {member.pid: f"pid {member.pid}" for member in stand.left()}
    # A new profile or log shows in no command line; a pid would.
    return tuple(sorted(text.replace(str(stand.state.root), "STATE") for text in (known | found).values()))


def _with_children(process: psutil.Process) -> list[psutil.Process]:
    return [process, *process.children(recursive=True)]


async def rest(stand: Stack) -> Rest:
    """The stack as it is now."""
    fds = {role: _fds(identity) for role, identity in leaders(stand).items()}
    return Rest(
        await asyncio.to_thread(processes, stand), await outstanding(stand), await _queued(stand), fds
    )


async def outstanding(stand: Stack) -> dict[str, int]:
    """Requests that the gateway has at each replica."""
    told = msgspec.json.decode(await _ask_gateway(stand, "stats"))
    return {replica["name"]: replica["outstanding"] for replica in told["replicas"]}


async def _queued(stand: Stack) -> float:
    text = (await _ask_gateway(stand, "metrics")).decode()
    families: Iterable[Any] = text_string_to_metric_families(text)
    lengths = [
        sample.value
        for family in families
        if family.name == "dreamseed_queue_length"
        for sample in family.samples
    ]
    assert lengths
    return float(sum(lengths))


async def _ask_gateway(stand: Stack, what: str) -> bytes:
    path = Path(stand.state.socket("gateway-admin"))
    timeout = aiohttp.ClientTimeout(total=20.0)
    async with (
        aiohttp.ClientSession(connector=aiohttp.UnixConnector(str(path)), timeout=timeout) as session,
        session.get(f"http://gateway/{what}") as response,
    ):
        return await response.read()


def _fds(identity: ProcessIdentity) -> int:
    process = identity.process()
    assert process
    return process.num_fds()
