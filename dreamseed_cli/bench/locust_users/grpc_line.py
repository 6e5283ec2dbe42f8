"""Generations over gRPC for the users of one process: a process beside it asks for them.

gRPC under gevent hands every message of a stream from thread to thread. With a few hundred streams that took
four tenths of the load's processors, which an event loop of its own has no need of.
"""

from __future__ import annotations

import itertools
import math
import socket
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import gevent  # type: ignore[import-untyped]
import msgspec
from gevent.event import AsyncResult  # type: ignore[import-untyped]
from gevent.lock import BoundedSemaphore  # type: ignore[import-untyped]

from dreamseed_cli.bench.locust_users.grpc_words import READ_TOLD, Answered, Lag, Leave, Told, Wish, line
from dreamseed_cli.bench.locust_users.plan import Errand
from dreamseed_cli.bench.locust_users.samples import SIMULATED, Sample

_ASKER = "dreamseed_cli.bench.locust_users.grpc_asker"
_END_S = 5.0


class GrpcLine:
    """tick: told how late the asking process's loop was: when (CLOCK_MONOTONIC, seconds), and by how many
    milliseconds. lost: told the exit code of one that ended by itself.
    """

    def __init__(
        self, errand: Errand, tick: Callable[[float, float], None], lost: Callable[[int], None]
    ) -> None:
        self._tick = tick
        self._lost = lost
        self._numbers = itertools.count()
        self._asked: dict[int, Any] = {}
        self._sending = BoundedSemaphore()
        self._socket, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", _ASKER, str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                pass_fds=(theirs.fileno(),),
            )
        self._listener = gevent.spawn(self._listen)
        self._send(errand)

    def ask(self, prompt: str, tokens: int, sample: Sample) -> None:
        """Ask for a streamed answer, and write into `sample` how it went."""
        number = next(self._numbers)
        asked = self._asked[number] = AsyncResult()
        try:
            self._send(Wish(number, prompt, tokens))
            _note(asked.get(), sample)
        finally:
            del self._asked[number]
            if not asked.ready():
                self._send(Leave(number))

    def close(self) -> None:
        """End the process; what it was asked for is given up."""
        self._listener.kill()
        self._socket.close()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(_END_S)
        self._process.kill()
        self._process.wait()

    def _send(self, word: msgspec.Struct) -> None:
        # Of a process that has ended the listener tells.
        with self._sending, suppress(OSError):
            self._socket.sendall(line(word))

    def _listen(self) -> None:
        # A process that is killed leaves what it was told unread, or half a line: both are its end.
        with suppress(OSError, msgspec.DecodeError), self._socket.makefile("rb") as lines:
            for said in lines:
                self._take(READ_TOLD.decode(said))
        self._lost(self._process.wait())

    def _take(self, told: Told) -> None:
        if isinstance(told, Lag):
            for at_s, lag_ms in told.ticks:
                self._tick(at_s, lag_ms)
        elif (asked := self._asked.get(told.number)) is not None:
            asked.set(told)


def _note(answered: Answered, sample: Sample) -> None:
    sample.first_s = math.nan if answered.first_s is None else answered.first_s
    sample.tokens = answered.tokens
    sample.ending, sample.detail = answered.ending, answered.detail
    sample.flags |= SIMULATED if answered.simulated else 0
