"""`python -m dreamseed_cli.bench.locust_users.grpc_asker FD`: asks over gRPC for the users of one process.

It is told what to ask for over the socket FD (`grpc_words`), and ends with it.
"""

from __future__ import annotations

import asyncio
import socket
import sys
import time
from collections.abc import Callable

import msgspec
import uvloop

from dreamseed_cli.bench.lag import Lags, watch_lag
from dreamseed_cli.bench.locust_users.grpc_words import READ_ASKED, Answered, Lag, Wish, line
from dreamseed_cli.bench.locust_users.plan import Errand
from dreamseed_cli.bench.records import Ending, Job, Record
from dreamseed_cli.bench.shapes import TargetSpec
from dreamseed_cli.bench.target.grpc import GrpcTarget

_EVERY_S = 0.5
_LONGEST_LINE_BYTES = 1 << 20


class _Asker:
    """The wishes under way."""

    def __init__(self, errand: Errand, tell: Callable[[msgspec.Struct], None]) -> None:
        self._forced = errand.force_length
        self._tell = tell
        self._under_way: dict[int, asyncio.Task[None]] = {}
        self._target = GrpcTarget(
            TargetSpec(
                kind="grpc",
                address=errand.gateway,
                api_key_env=errand.api_key_env,
                ca_file=errand.ca_file,
                vllm=errand.force_length,
                timeout_s=errand.timeout_s,
                stall_s=errand.stall_s,
            )
        )

    def begin(self, wish: Wish) -> None:
        self._under_way[wish.number] = asyncio.create_task(self._ask(wish))

    def leave(self, number: int) -> None:
        if (task := self._under_way.get(number)) is not None:
            task.cancel()

    async def end(self) -> None:
        tasks = list(self._under_way.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._target.close()

    async def _ask(self, wish: Wish) -> None:
        job = Job(wish.number, "question", wish.prompt, wish.tokens, forced=self._forced)
        record = Record(wish.number, job.workload, time.monotonic(), wish.tokens)
        try:
            await self._target.ask(job, record, time.monotonic)
        except Exception as error:  # noqa: BLE001 - whatever it is, a user waits to be told
            record.ending, record.detail = Ending.BROKEN, f"{type(error).__name__}: {str(error)[:100]}"
        finally:
            del self._under_way[wish.number]
        self._tell(
            Answered(
                number=wish.number,
                first_s=record.first_token_s,
                tokens=record.completion_tokens or 0,
                ending=record.ending,
                detail=record.detail,
                simulated=record.simulated,
            )
        )


async def _serve(connection: socket.socket) -> None:
    reader, writer = await asyncio.open_unix_connection(sock=connection, limit=_LONGEST_LINE_BYTES)

    def tell(word: msgspec.Struct) -> None:
        writer.write(line(word))

    errand = msgspec.json.decode(await reader.readline(), type=Errand)
    asker = _Asker(errand, tell)
    lags: Lags = []
    watching = [
        asyncio.create_task(watch_lag(time.monotonic, lags)),
        asyncio.create_task(_tell_lags(lags, tell)),
    ]
    try:
        while said := await reader.readline():
            asked = READ_ASKED.decode(said)
            if isinstance(asked, Wish):
                asker.begin(asked)
            else:
                asker.leave(asked.number)
    except ConnectionError:
        pass  # who asked was killed
    finally:
        for task in watching:
            task.cancel()
        await asker.end()


async def _tell_lags(lags: Lags, tell: Callable[[msgspec.Struct], None]) -> None:
    while True:
        await asyncio.sleep(_EVERY_S)
        tell(Lag(lags.copy()))
        lags.clear()


def main(arguments: list[str]) -> int:
    """The process."""
    with socket.socket(fileno=int(arguments[0])) as connection:
        uvloop.run(_serve(connection))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
