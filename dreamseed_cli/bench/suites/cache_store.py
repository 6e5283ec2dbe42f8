"""The Redis Cluster by itself, through the gateway's own store: how long a look-up and a write take."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from dreamseed_cli.bench.measure.quantiles import quantile_ms
from dreamseed_cli.bench.result import Column, FactTable
from dreamseed_cli.core.dependency import DependencyDown
from dreamseed_cli.core.errors import MissingError
from dreamseed_cli.gateway.cache.entry import CachedAnswer
from dreamseed_cli.gateway.cache.store import AnswerStore
from dreamseed_cli.gateway.settings import ServiceAddresses

_ANSWER_TOKENS = 200
_BYTES_PER_TOKEN = 4
_KEYS = 1000
_AT_A_TIME = (1, 32)
_TTL_S = 120
"""What is written goes by itself; nothing else has such keys."""
_FIND_S = 10.0
_KNOCK_S = 0.05

COLUMNS = (
    Column(key="operation", label="operation"),
    Column(key="at_a_time", label="at a time"),
    Column(key="per_s", label="operations", unit="1/s"),
    Column(key="p50_ms", label="p50", unit="ms"),
    Column(key="p99_ms", label="p99", unit="ms"),
    Column(key="failed", label="failed"),
)

Operation = Callable[[str], Awaitable[bool]]
"""On one key; whether it did what it should."""


@dataclass
class StoreCell:
    """One operation, so many at a time. A failed one has no latency."""

    operation: str
    at_a_time: int
    latencies_ms: list[float] = field(default_factory=list)
    failed: int = 0
    took_s: float = 0.0

    def to_data(self) -> dict[str, float | int | str | bool | None]:
        return {
            "operation": self.operation,
            "at_a_time": self.at_a_time,
            "per_s": round(len(self.latencies_ms) / self.took_s, 1) if self.took_s else None,
            "p50_ms": quantile_ms(self.latencies_ms, 0.5),
            "p99_ms": quantile_ms(self.latencies_ms, 0.99),
            "failed": self.failed,
        }


async def measure_store(addresses: ServiceAddresses, seconds: float) -> FactTable:
    """SET and GET of answers of 200 tokens, for `seconds` each. MissingError if the cluster is not there."""
    store = AnswerStore.from_addresses(addresses, lambda _name: lambda _state: None)
    if store is None:
        raise no_cache("the stack runs without Redis")
    store.start()
    try:
        await _found(store)
        cells = await _cells(store, seconds)
    finally:
        await store.close()
    title = f"Redis Cluster, past the gateway: answers of {_ANSWER_TOKENS * _BYTES_PER_TOKEN} bytes"
    return FactTable(title=title, columns=COLUMNS, rows=tuple(cell.to_data() for cell in cells))


def no_cache(cause: str) -> MissingError:
    """What to raise where there is no cache to measure."""
    return MissingError(
        cause,
        place="bench cache",
        remedy="Start a stack whose services.redis.mode is 'embedded' or 'external' and whose "
        "gateway.cache.enabled is true, with: dreamseed serve.",
    )


async def _cells(store: AnswerStore, seconds: float) -> list[StoreCell]:
    answer = CachedAnswer("x" * _ANSWER_TOKENS * _BYTES_PER_TOKEN, "stop", 60, _ANSWER_TOKENS, simulated=True)
    prefix = f"bench-{secrets.token_hex(8)}"

    async def write(key: str) -> bool:
        done = asyncio.Event()
        store.put(key, answer, ttl_s=_TTL_S, done=done.set)
        return await done.wait()

    async def look_up(key: str) -> bool:
        return await store.get(key) == answer

    for number in range(_KEYS):
        await write(f"{prefix}-{number}")
    cells = [StoreCell(name, count) for name in ("SET", "GET") for count in _AT_A_TIME]
    for cell in cells:
        await _drive(cell, write if cell.operation == "SET" else look_up, prefix, seconds)
    return cells


async def _drive(cell: StoreCell, operation: Operation, prefix: str, seconds: float) -> None:
    began = time.perf_counter()

    async def work(first: int) -> None:
        number = first
        while (asked := time.perf_counter()) - began < seconds:
            try:
                good = await operation(f"{prefix}-{number % _KEYS}")
            except DependencyDown:
                good = False
            if good:
                cell.latencies_ms.append((time.perf_counter() - asked) * 1000)
            else:
                cell.failed += 1
                await asyncio.sleep(0)  # a failure may take no time: others must get a turn
            number += cell.at_a_time

    async with asyncio.TaskGroup() as group:
        for first in range(cell.at_a_time):
            group.create_task(work(first))
    cell.took_s = time.perf_counter() - began


async def _found(store: AnswerStore) -> None:
    """Wait until a look-up is answered: it knows the cluster then."""
    for _ in range(round(_FIND_S / _KNOCK_S)):
        if await _answers(store):
            return
        await asyncio.sleep(_KNOCK_S)
    raise MissingError(
        f"the Redis Cluster did not answer within {_FIND_S:.0f} s",
        place="bench cache",
        remedy="See what `dreamseed status` says of it.",
    )


async def _answers(store: AnswerStore) -> bool:
    """Whether every node does: these keys are spread over all of them."""
    try:
        for number in range(16):
            await store.get(f"bench-probe-{number}")
    except DependencyDown:
        return False
    return True
