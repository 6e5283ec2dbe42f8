"""The journal's lines: `CRC32 KIND JSON`, so that what a crash tore is told from what was written. Pure."""

from __future__ import annotations

import zlib

import msgspec

from dreamseed_cli.gateway.events.record import Outcome, RequestRecord

LOST_REASON = "gateway_lost"
_PREFIX = 10
"""Eight hexadecimal digits, a space, the kind."""


ACCEPTED = b"A"
"""A request was let in; its end follows."""
ENDED = b"E"
"""A request's record, final."""


class Accepted(msgspec.Struct, frozen=True, gc=False):
    """A request that was let in: what its record needs if the gateway dies before its end."""

    event_id: str
    request_id: str
    user_id: str
    priority: str
    workload: str
    model: str
    arrived_at: float
    """Seconds since the epoch."""
    simulated: bool

    def lost(self, last_sign_of_life: float) -> RequestRecord:
        """Its record when the gateway died: nobody knows more than that it failed."""
        return RequestRecord(
            event_id=self.event_id,
            request_id=self.request_id,
            user_id=self.user_id,
            outcome=Outcome.FAILED,
            reason=LOST_REASON,
            arrived_at=self.arrived_at,
            duration_s=max(0.0, last_sign_of_life - self.arrived_at),
            priority=self.priority,
            workload=self.workload,
            model=self.model,
            simulated=self.simulated,
        )


_encode = msgspec.json.Encoder().encode


def accepted_line(accepted: Accepted) -> bytes:
    """Raises ValueError for text that is no Unicode."""
    return _line(ACCEPTED, _encode(accepted))


def ended_line(record: RequestRecord) -> bytes:
    """Raises ValueError for text that is no Unicode."""
    return _line(ENDED, _encode(record))


def _line(kind: bytes, body: bytes) -> bytes:
    content = kind + body
    return b"%08x %b\n" % (zlib.crc32(content), content)


def read_line(line: bytes) -> tuple[bytes, bytes] | None:
    """A line without its newline as kind and JSON; None if it is torn or damaged."""
    content = line[_PREFIX - 1 :]
    try:
        intact = line[8:9] == b" " and int(line[:8], 16) == zlib.crc32(content)
    except ValueError:
        return None
    return (content[:1], content[1:]) if intact else None
