"""One node's commands: what comes while others are under way goes out together, on one connection."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Any

import msgspec
from redis.asyncio.cluster import ClusterNode, PipelineCommand
from redis.exceptions import ResponseError

from dreamseed_cli.core.dependency import Alarm, Dependency, DependencyDown

_MOST_COMMANDS = 64
_MOST_BYTES = 512 * 1024
_CONNECT_S = 0.5


class _Asked(msgspec.Struct, eq=False):
    command: tuple[bytes | str | int, ...]
    reply: asyncio.Future[Any]
    """Never an exception set: nobody may be left to retrieve it. A DependencyDown is a result, too."""

    @property
    def size(self) -> int:
        return sum(len(part) for part in self.command if isinstance(part, bytes))


class Lane:
    """A queue of commands to one node, sent as pipelines, one at a time.

    Only pipelines on a connection that stands are bounded by the dependency's timeout. Making one takes
    longer and happens in the background: until then commands fail at once. So a node that hangs costs one
    pipeline's time, and a caller that leaves never spoils a connection.
    """

    def __init__(self, node: ClusterNode, dependency: Dependency) -> None:
        self.node = node
        self._dependency = dependency
        self._waiting: deque[_Asked] = deque()
        self._runner: asyncio.Task[None] | None = None
        self._connected = False

    @property
    def connected(self) -> bool:
        """Whether commands are sent."""
        return self._connected

    async def ask(self, *command: bytes | str | int, timeout_s: float) -> Any:
        """The node's reply, within `timeout_s` seconds. Raises DependencyDown or ResponseError."""
        reply = self.send(*command)
        late = f"it did not answer within {timeout_s * 1000:.0f} ms"
        alarm = Alarm(timeout_s, lambda: _set(reply, self._down(late)))
        try:
            answer = await reply
        finally:
            alarm.cancel()
        if isinstance(answer, DependencyDown | ResponseError):
            raise answer
        return answer

    def send(self, *command: bytes | str | int) -> asyncio.Future[Any]:
        """The same without waiting; the result may be a DependencyDown or a ResponseError."""
        reply: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        if self._connected:
            self._waiting.append(_Asked(command, reply))
        else:
            reply.set_result(self._down("there is no connection yet"))
        self._start()
        return reply

    def connect(self, *, anew: bool = False) -> None:
        """Have a connection made, if there is none; `anew`: even if there is one."""
        if anew:
            self._connected = False
        if not self._connected:
            self._start()

    async def close(self) -> None:
        """End what is under way. The node's connections are its owner's to close."""
        if self._runner is not None:
            self._runner.cancel()
            await asyncio.wait((self._runner,))
        self._connected = False
        self._fail(self._down("the cache is closed"))

    def _start(self) -> None:
        if self._runner is None:
            self._runner = asyncio.get_running_loop().create_task(self._run())
            self._runner.add_done_callback(self._ended)

    def _ended(self, runner: asyncio.Task[None]) -> None:
        self._runner = None
        if self._waiting and not runner.cancelled():
            self._start()

    async def _run(self) -> None:
        """Send until nothing waits, or the node fails."""
        try:
            while True:
                if not self._connected:
                    await self._dependency.call(self._ping, timeout_s=_CONNECT_S)
                    self._connected = True
                batch = self._batch()
                if not batch:
                    return
                await self._send(batch)
        except DependencyDown as error:
            self._connected = False
            self._fail(error)

    async def _ping(self) -> None:
        await self.node.execute_command("PING")

    async def _send(self, batch: list[_Asked]) -> None:
        commands = [PipelineCommand(0, *asked.command) for asked in batch]
        try:
            await self._dependency.call(lambda: self._exchange(commands))
        except BaseException:
            self._waiting.extendleft(reversed(batch))
            raise
        for asked, command in zip(batch, commands, strict=True):
            _set(asked.reply, command.result)

    async def _exchange(self, commands: list[PipelineCommand]) -> None:
        await self.node.execute_pipeline(commands)
        for command in commands:
            # In a pipeline even a lost connection is a result; only a ResponseError is the node's word.
            if isinstance(command.result, Exception) and not isinstance(command.result, ResponseError):
                raise command.result

    def _batch(self) -> list[_Asked]:
        """The next commands that somebody still waits for."""
        batch: list[_Asked] = []
        size = 0
        while self._waiting and len(batch) < _MOST_COMMANDS and size < _MOST_BYTES:
            asked = self._waiting.popleft()
            if not asked.reply.done():
                batch.append(asked)
                size += asked.size
        return batch

    def _fail(self, error: DependencyDown) -> None:
        while self._waiting:
            _set(self._waiting.popleft().reply, DependencyDown(error.cause, place=error.place))

    def _down(self, cause: str) -> DependencyDown:
        return DependencyDown(cause, place=self._dependency.name)


def _set(reply: asyncio.Future[Any], value: object) -> None:
    if not reply.done():
        reply.set_result(value)
