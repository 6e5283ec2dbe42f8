"""What the driver and the load's processes say to each other: MessagePack, each message behind its length."""

from __future__ import annotations

import asyncio

import msgspec

from dreamseed_cli.bench.records import Record
from dreamseed_cli.bench.shapes import Cell, TargetSpec

_LENGTH_BYTES = 4


class Order(msgspec.Struct, frozen=True, tag=True):
    """To a process: what to prepare. index: which of `processes` it is, from 0 on."""

    cell: Cell
    target: TargetSpec
    index: int
    processes: int


class Ready(msgspec.Struct, frozen=True, tag=True):
    """From a process: everything is prepared."""


class Start(msgspec.Struct, frozen=True, tag=True):
    """To a process. epoch: the moment of the system's monotonic clock that the cell starts at."""

    epoch: float


class Refusal(msgspec.Struct, frozen=True, tag=True):
    """From a process that cannot do what was ordered: a DreamseedError's parts."""

    exit_code: int
    cause: str
    place: str
    remedy: str


class Tick(msgspec.Struct, frozen=True, tag=True):
    """From a process, twice a second: what it has done so far. ttfts_s: since the tick before."""

    begun: int
    in_flight: int
    failed: int
    tokens: int
    ttfts_s: list[float]


class Batch(msgspec.Struct, frozen=True, tag=True):
    """From a process at its end: some of its records."""

    records: list[Record]


class Done(msgspec.Struct, frozen=True, tag=True):
    """From a process: that was all. ended_s: since the cell's start. lags: `lag.Lags`."""

    ended_s: float
    lags: list[tuple[float, float]] = []


Message = Order | Ready | Start | Refusal | Tick | Batch | Done

_encode = msgspec.msgpack.Encoder().encode
_decoder: msgspec.msgpack.Decoder[Message] = msgspec.msgpack.Decoder(Message)


def write_message(writer: asyncio.StreamWriter, message: Message) -> None:
    """Hand a message over; drain() awaits its leaving."""
    data = _encode(message)
    writer.write(len(data).to_bytes(_LENGTH_BYTES) + data)


async def read_message(reader: asyncio.StreamReader) -> Message | None:
    """The next message; None when the other side is gone, in the middle of one too."""
    try:
        length = int.from_bytes(await reader.readexactly(_LENGTH_BYTES))
        return _decoder.decode(await reader.readexactly(length))
    except (asyncio.IncompleteReadError, ConnectionError):
        return None
