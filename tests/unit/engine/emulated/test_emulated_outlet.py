"""A stream whose client does not read, or that was told to stall, costs a bounded amount of memory."""

from __future__ import annotations

import asyncio
import json
import re

import pytest

from dreamseed_cli.engine.emulated.chunks import ChunkWriter, Stamp
from dreamseed_cli.engine.emulated.outlet import STUCK_BYTES, StreamOutlet
from dreamseed_cli.engine.emulated.protocol import Job
from dreamseed_cli.engine.emulated.text import Answer, Sampling

JOB = Job(
    chat=False,
    prompt="Hi",
    prompt_tokens=1,
    sampling=Sampling(10),
    priority=0,
    stream=True,
    include_usage=True,
    usage_per_chunk=True,
)
ANSWER = Answer(("a", "b", "c", "d"), "length")


class Pipe(asyncio.WriteTransport):
    """A transport that keeps what is written, with a settable backlog."""

    def __init__(self) -> None:
        super().__init__()
        self.sent = b""
        self.backlog = 0

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.sent += bytes(data)

    def get_write_buffer_size(self) -> int:
        return self.backlog

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        assert (high, low) == (0, None)

    def texts(self) -> list[tuple[str, int]]:
        """Text and running token count of every event with a choice."""
        events = [json.loads(event) for event in re.findall(rb"data: (\{.*\})", self.sent)]
        return [
            (event["choices"][0]["text"], event["usage"]["completion_tokens"])
            for event in events
            if event["choices"]
        ]


@pytest.fixture
async def pipe() -> Pipe:
    """Where the stream writes."""
    return Pipe()


@pytest.fixture
async def outlet(pipe: Pipe) -> StreamOutlet:
    """A stream of four tokens."""
    writer = ChunkWriter(JOB, Stamp("id", 1, "emu"))
    return StreamOutlet(ANSWER, asyncio.get_running_loop(), writer=writer, transport=pipe)


def emit(outlet: StreamOutlet, *indexes: int) -> None:
    """What the stepper does with these tokens."""
    for index in indexes:
        if data := outlet.prepare(index):
            outlet.write(data)


async def test_one_event_a_token(outlet: StreamOutlet, pipe: Pipe) -> None:
    """A reading client gets every token by itself and the end mark last."""
    emit(outlet, 0, 1, 2, 3)
    outlet.finish()
    assert pipe.texts() == [("a", 1), ("b", 2), ("c", 3), ("d", 4)]
    assert pipe.sent.endswith(b"data: [DONE]\n\n\r\n")
    assert outlet.done.done()


async def test_tokens_are_merged_while_the_client_does_not_read(outlet: StreamOutlet, pipe: Pipe) -> None:
    """Behind a full socket nothing more is written; what was missed comes as one event afterwards."""
    emit(outlet, 0)
    pipe.backlog = STUCK_BYTES + 1
    emit(outlet, 1)
    pipe.backlog = 0
    emit(outlet, 2)
    assert pipe.texts() == [("a", 1), ("bc", 3)]


async def test_the_end_is_sent_even_to_a_stuck_client(outlet: StreamOutlet, pipe: Pipe) -> None:
    """The last token takes everything held back with it."""
    pipe.backlog = STUCK_BYTES + 1
    emit(outlet, 0, 1, 2, 3)
    assert pipe.texts() == [("abcd", 4)]


async def test_a_stalled_stream_goes_on_where_it_stopped(outlet: StreamOutlet, pipe: Pipe) -> None:
    """While stalled nothing is sent, not even the end; resumed, no token is missing."""
    emit(outlet, 0)
    outlet.stall()
    emit(outlet, 1, 2, 3)
    outlet.finish()
    assert pipe.texts() == [("a", 1)]
    assert not outlet.done.done()
    outlet.resume()
    assert pipe.texts() == [("a", 1), ("bcd", 4)]
    assert outlet.done.done()


async def test_nothing_is_written_after_the_client_has_gone(outlet: StreamOutlet, pipe: Pipe) -> None:
    """Bytes prepared for a cancelled stream are dropped."""
    data = outlet.prepare(0)
    outlet.done.cancel()
    outlet.write(data)
    assert pipe.sent == b""
