"""Reading the journal back: batches for PostgreSQL, and what a dead gateway left open."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import structlog

from dreamseed_cli.gateway.events.files import Position, segment_path
from dreamseed_cli.gateway.events.lines import ACCEPTED, ENDED, Accepted, read_line
from dreamseed_cli.gateway.events.record import RequestRecord

BATCH_BYTES = 128 << 10
"""Some two hundred requests: parsed in less than a millisecond."""
_log = structlog.get_logger(__name__)


@dataclass(slots=True)
class Batch:
    """Some whole lines of one segment."""

    after: Position
    """Where the next batch begins."""
    records: list[bytes] = field(default_factory=list)
    """The ended requests' records, as JSON."""
    damaged: int = 0
    """Lines that are not what was written."""


class _Id(msgspec.Struct, frozen=True):
    event_id: str


_decode_id = msgspec.json.Decoder(_Id).decode
_decode_accepted = msgspec.json.Decoder(Accepted).decode


def read_lines(folder: Path, start: Position, size: int = BATCH_BYTES) -> bytes:
    """The whole lines from `start` on, about `size` bytes of them; empty if there is none. Blocks."""
    with segment_path(folder, start.segment).open("rb", buffering=0) as stream:
        return _whole_lines(stream.fileno(), start.offset, size)


def parse_batch(start: Position, data: bytes) -> Batch:
    """What `read_lines` found at `start`."""
    batch = Batch(Position(start.segment, start.offset + len(data)))
    for line in data.splitlines():
        found = read_line(line)
        if found is None:
            # An empty line follows what a full disk had cut off.
            batch.damaged += bool(line)
        elif found[0] == ENDED:
            batch.records.append(found[1])
    return batch


def _whole_lines(descriptor: int, offset: int, size: int) -> bytes:
    while True:
        data = os.pread(descriptor, size, offset)
        end = data.rfind(b"\n") + 1
        if end or len(data) < size:
            return data[:end]
        size *= 2


def left_open(folder: Path, segments: Iterable[int]) -> list[RequestRecord]:
    """The records of the requests that were let in and whose end nobody wrote: their gateway is dead.

    They ended when the journal was last written, as far as anybody knows. Blocks.
    """
    open_requests: dict[str, bytes] = {}
    last_sign_of_life = 0.0
    for number in segments:
        for kind, body in _segment(folder, number):
            event_id = _decode_id(body).event_id
            if kind == ACCEPTED:
                open_requests[event_id] = body
            else:
                open_requests.pop(event_id, None)
        last_sign_of_life = segment_path(folder, number).stat().st_mtime
    accepted = map(_decode_accepted, open_requests.values())
    return [each.lost(last_sign_of_life) for each in accepted]


def _segment(folder: Path, number: int) -> Iterator[tuple[bytes, bytes]]:
    damaged = 0
    with segment_path(folder, number).open("rb") as stream:
        for line in stream:
            found = read_line(line.removesuffix(b"\n"))
            if found is not None:
                yield found
            else:
                damaged += bool(line.strip())
    if damaged:
        _log.warning("journal has damaged lines", segment=number, lines=damaged)
