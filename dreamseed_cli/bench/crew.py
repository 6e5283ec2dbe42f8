"""The driver's side of one process of the load."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
import tempfile
from contextlib import suppress
from typing import IO

from dreamseed_cli.bench.lag import Lags
from dreamseed_cli.bench.messages import (
    Batch,
    Done,
    Order,
    Ready,
    Refusal,
    Start,
    Tick,
    read_message,
    write_message,
)
from dreamseed_cli.bench.records import Record
from dreamseed_cli.core.errors import DreamseedError, FailedError, MissingError, UsageError

_ERRORS: dict[int, type[DreamseedError]] = {kind.exit_code: kind for kind in (UsageError, MissingError)}
_PREPARE_TIMEOUT_S = 60.0
_LEAVE_TIMEOUT_S = 5.0
_LAST_WORDS = 2000
_IDLE = Tick(begun=0, in_flight=0, failed=0, tokens=0, ttfts_s=[])


class Worker:
    """One process: its messages, and what it has told so far.

    records: what it handed over so far. ended_s: when its part was over, since the cell's start; None as long
    as it has not handed everything over, which one that died never does. lags: of its event loop.
    """

    def __init__(
        self,
        process: asyncio.subprocess.Process,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        errors: IO[bytes],
    ) -> None:
        self._process = process
        self._reader = reader
        self._writer = writer
        self._errors = errors
        self._tick = _IDLE
        self._ttfts_s: list[float] = []
        self.pid = process.pid
        self.records: list[Record] = []
        self.ended_s: float | None = None
        self.lags: Lags = []

    async def prepare(self, order: Order) -> None:
        """Have it load all it needs. Raises what it says, or FailedError if it says nothing."""
        write_message(self._writer, order)
        try:
            async with asyncio.timeout(_PREPARE_TIMEOUT_S):
                answer = await read_message(self._reader)
        except TimeoutError:
            answer = None
        if isinstance(answer, Refusal):
            kind = _ERRORS.get(answer.exit_code, FailedError)
            raise kind(answer.cause, place=answer.place, remedy=answer.remedy)
        if not isinstance(answer, Ready):
            raise FailedError(
                f"a process of the load did not start: {self._last_words() or 'it said nothing'}",
                place=f"{sys.executable} -m dreamseed_cli.bench.worker",
                remedy="Try again; if it stays so, look whether the machine has memory left.",
            )

    def begin(self, epoch: float) -> None:
        """Begin at this monotonic moment."""
        write_message(self._writer, Start(epoch))

    def interrupt(self) -> None:
        """Have it end early and hand over what it has."""
        if self._process.returncode is None:
            self._process.send_signal(signal.SIGTERM)

    async def collect(self) -> None:
        """Take what it tells until it has handed everything over or is gone."""
        while (message := await read_message(self._reader)) is not None:
            if isinstance(message, Tick):
                self._tick = message
                self._ttfts_s += message.ttfts_s
            elif isinstance(message, Batch):
                self.records += message.records
            elif isinstance(message, Done):
                self.ended_s, self.lags = message.ended_s, message.lags
                return
        self._tick = _IDLE

    def take_tick(self) -> Tick:
        """What it told last, with the TTFTs since this was last asked."""
        ttfts_s, self._ttfts_s = self._ttfts_s, []
        last = self._tick
        return Tick(last.begun, last.in_flight, last.failed, last.tokens, ttfts_s)

    def hang_up(self) -> None:
        """Leave it: it stops, and ends by itself."""
        self._writer.close()

    async def end(self) -> None:
        """End it if it still runs, and let go of everything."""
        self.hang_up()
        try:
            async with asyncio.timeout(0.0 if self.ended_s is None else _LEAVE_TIMEOUT_S):
                await self._process.wait()
        except TimeoutError:
            await self._kill()
        self._errors.close()

    async def _kill(self) -> None:
        with suppress(ProcessLookupError):  # it may end by itself in this moment
            self._process.kill()
        await self._process.wait()

    def _last_words(self) -> str:
        self._errors.seek(0, os.SEEK_END)
        self._errors.seek(max(0, self._errors.tell() - _LAST_WORDS))
        return self._errors.read().decode("utf-8", "replace").strip()


async def start_worker() -> Worker:
    """A process of the load, which waits for its order."""
    ours, theirs = socket.socketpair()
    errors = tempfile.TemporaryFile()  # noqa: SIM115 - closed by Worker.end
    with theirs:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "dreamseed_cli.bench.worker", str(theirs.fileno())),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=errors,
            pass_fds=(theirs.fileno(),),
            # Ctrl-C is the driver's to hear: it stops all of them together.
            start_new_session=True,
        )
    reader, writer = await asyncio.open_connection(sock=ours)
    return Worker(process, reader, writer, errors)
