"""Asks a child process for the cards' figures, in a time box: a call into NVML may never come back."""

from __future__ import annotations

import asyncio
import json
import sys
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

from dreamseed_cli.supervisor.gpu.reading import (
    CardReading,
    LostCard,
    Poll,
    Problem,
    Skip,
    XidEvent,
    poll_from,
)

CHILD = (sys.executable, "-m", "dreamseed_cli.supervisor.gpu.nvml_child")

_START_S = 30.0
"""How long the child's interpreter may take to start on a busy machine. NVML is not touched before."""
_FOLLOW_S = 1.0
"""How long a child that answered may take to end by itself once it is no longer needed."""
_KILL_WAIT_S = 1.0
"""How long a killed child is waited for. One in an uninterruptible call stays, and is not waited for."""
_MOST_STUCK = 3
"""Children that outlived SIGKILL, after which no more are started until one of them is gone."""
_LAST_WORDS = 5
_LONGEST_LINE_BYTES = 1 << 20

OnXid = Callable[[XidEvent], None]


class Telemetry:
    """The cards as NVML sees them. Use it inside a running event loop. The first poll starts its child."""

    def __init__(self, *, call_timeout_s: float, on_xid: OnXid, argv: tuple[str, ...] = CHILD) -> None:
        self._call_timeout_s = call_timeout_s
        self._on_xid = on_xid
        self._argv = argv
        self._turn = asyncio.Lock()
        self._child: _NvmlChild | None = None
        self._stuck: list[_NvmlChild] = []
        self._places: dict[str, int] = {}
        """The index of each card by its uuid, when all were last read ..."""
        self._count = 0
        """... and how many there were."""

    async def poll(self, skip: frozenset[str] = frozenset()) -> Poll:
        """One look at every card, but for those whose uuid is in `skip`. Takes `call_timeout_s` at most.

        A child that does not answer is killed, and the next poll starts another. Nothing is raised.
        """
        async with self._turn:
            self._stuck = [child for child in self._stuck if child.running]
            if len(self._stuck) >= _MOST_STUCK:
                detail = f"{len(self._stuck)} readers hang in NVML and cannot be killed"
                return Poll(problem=Problem.HANG, detail=detail)
            try:
                poll = await self._ask(skip)
            except BaseException:
                await self._end()
                raise
            if poll.problem is not None:
                await self._end()
            elif not skip:
                self._remember(poll)
            return poll

    @asynccontextmanager
    async def released(self) -> AsyncIterator[None]:
        """No process of ours uses NVML meanwhile, as a reset of a card demands. Polls wait."""
        async with self._turn:
            await self._end()
            yield

    async def close(self) -> None:
        """End the child."""
        async with self._turn:
            await self._end()

    def _remember(self, poll: Poll) -> None:
        everything: tuple[CardReading | LostCard, ...] = (*poll.cards, *poll.lost)
        self._places = {card.uuid: card.index for card in everything if card.uuid}
        self._count = len(everything)

    async def _ask(self, uuids: frozenset[str]) -> Poll:
        skip = Skip(
            uuids, frozenset(self._places[uuid] for uuid in uuids if uuid in self._places), self._count
        )
        if self._child is not None and self._child.skip.uuids != uuids:
            await self._end()
        if self._child is None:
            try:
                self._child = await _NvmlChild.start(self._argv, self._on_xid, skip)
            except OSError as error:
                return Poll(problem=Problem.FAILED, detail=f"the reader cannot be started: {error.strerror}")
        return await self._child.ask(self._call_timeout_s)

    async def _end(self) -> None:
        child, self._child = self._child, None
        if child is not None and not await child.end():
            self._stuck.append(child)


class _NvmlChild:
    """One process that talks to NVML. Which cards it leaves alone is settled for its life."""

    def __init__(self, process: asyncio.subprocess.Process, on_xid: OnXid, skip: Skip) -> None:
        self.skip = skip
        self._process = process
        self._on_xid = on_xid
        self._greeted = False
        self._hangs = False
        self._at: tuple[int | None, str] = (None, "")
        self._said: asyncio.Queue[Any] = asyncio.Queue()
        self._words: deque[str] = deque(maxlen=_LAST_WORDS)
        self._listener = asyncio.create_task(self._listen())

    @classmethod
    async def start(cls, argv: tuple[str, ...], on_xid: OnXid, skip: Skip) -> _NvmlChild:
        process = await asyncio.create_subprocess_exec(
            *argv,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            start_new_session=True,
            limit=_LONGEST_LINE_BYTES,
        )
        return cls(process, on_xid, skip)

    @property
    def running(self) -> bool:
        return self._process.returncode is None

    async def ask(self, timeout_s: float) -> Poll:
        """One poll, or the problem that stood in the way."""
        try:
            if not self._greeted:
                async with asyncio.timeout(_START_S):
                    self._greeted = await self._said.get() is not None
                if not self._greeted:
                    return self._died()
            self._at = (None, "")
            self._write_request()
            async with asyncio.timeout(timeout_s):
                poll = await self._said.get()
        except TimeoutError:
            return self._hang(timeout_s if self._greeted else _START_S)
        return poll if isinstance(poll, Poll) else self._died()

    async def end(self) -> bool:
        """Let it end with its stdin, or kill it; whether it is gone. Never waits longer than two seconds."""
        if self._process.stdin is not None:
            self._process.stdin.close()
        waits = {asyncio.ensure_future(self._process.wait()), self._listener}
        if not self._hangs:
            await asyncio.wait(waits, timeout=_FOLLOW_S)
        if self.running:
            with suppress(ProcessLookupError):
                self._process.kill()
        _, late = await asyncio.wait(waits, timeout=_KILL_WAIT_S)
        for wait in late:
            wait.cancel()
        await asyncio.gather(*waits, return_exceptions=True)
        return not self.running

    def _hang(self, timeout_s: float) -> Poll:
        self._hangs = True
        index, uuid = self._at
        where = "NVML" if index is None else f"NVML at card {index}"
        detail = f"{where} does not answer within {timeout_s:g} s"
        return Poll(problem=Problem.HANG, detail=detail, at_card=index, at_uuid=uuid)

    def _died(self) -> Poll:
        words = " | ".join(self._words) or "without a word"
        return Poll(problem=Problem.FAILED, detail=f"the reader of NVML ended: {words}")

    def _write_request(self) -> None:
        skip = self.skip
        request = {"uuids": sorted(skip.uuids), "indices": sorted(skip.indices), "of": skip.of}
        if self._process.stdin is not None:
            self._process.stdin.write(json.dumps(request).encode() + b"\n")

    async def _listen(self) -> None:
        stream = self._process.stdout
        try:
            while stream is not None and (line := await stream.readline()):
                self._take(line)
        except (ValueError, OSError) as error:
            self._words.append(str(error))
        self._said.put_nowait(None)

    def _take(self, line: bytes) -> None:
        try:
            document = json.loads(line)
            self._dispatch(document)
        except (ValueError, KeyError, TypeError):
            self._words.append(line.decode(errors="replace").strip())

    def _dispatch(self, document: dict[str, Any]) -> None:
        if "card" in document:
            self._at = (int(document["card"]), str(document["uuid"]))
        elif "xid" in document:
            self._on_xid(XidEvent(**document["xid"]))
        elif "poll" in document:
            self._said.put_nowait(poll_from(document["poll"]))
        elif document["hello"]:
            self._said.put_nowait(True)
