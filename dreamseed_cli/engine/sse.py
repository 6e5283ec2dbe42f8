"""Server-sent events as a byte stream delivers them: cut anywhere, in any of the three line endings."""

from __future__ import annotations

_LARGEST_EVENT = 1 << 20


class EventTooLong(ValueError):
    """An event outgrew 1 MiB: this is no stream of tokens."""


class SseDecoder:
    """Collects reads of any size and returns the `data` of every event that is complete.

    Follows the WHATWG text/event-stream rules for data and comments; other fields are passed over. Works on
    bytes, so a UTF-8 character split over two reads stays whole.
    """

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> list[bytes]:
        """The payloads completed by `data`, oldest first. Raises EventTooLong."""
        text = self._rest + data if self._rest else data
        held = b""
        if b"\r" in text:
            # A CR at the end may be half of a CRLF: it waits for the next read.
            if text.endswith(b"\r"):
                text, held = text[:-1], b"\r"
            text = text.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        blocks = text.split(b"\n\n")
        self._rest = blocks.pop() + held
        if len(self._rest) > _LARGEST_EVENT:
            raise EventTooLong(f"an event is longer than {_LARGEST_EVENT} bytes")
        return [payload for block in blocks if (payload := _payload(block)) is not None]


def _payload(block: bytes) -> bytes | None:
    """An event's data; None for a block without any, such as a comment that keeps the line open."""
    if block.startswith(b"data: ") and b"\n" not in block:
        return block[6:]
    lines = [line[5:].removeprefix(b" ") for line in block.split(b"\n") if line.startswith(b"data:")]
    return b"\n".join(lines) if lines else None
