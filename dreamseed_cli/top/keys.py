"""Keys of a terminal, one at a time and without Enter; what they mean."""

from __future__ import annotations

import os
import re
import select
import sys
import termios
import tty
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum

_AT_ONCE = 1024
_REST_WITHIN_S = 0.05
"""For the rest of an escape sequence, which SSH may cut in two. Vim waits as long (ttimeoutlen)."""
_CONTROL = rb"\[[0-?]*[ -/]*"
"""A control sequence (CSI) up to its last byte, ECMA-48 5.4."""
_ONE_KEY = re.compile(rb"\x1b" + _CONTROL + rb"[@-~]|\x1b[^\x1b\[O]|\x1bO[@-~]|[^\x1b]", re.DOTALL)
_UNFINISHED = re.compile(rb"\x1b(?:" + _CONTROL + rb"|O)?")


class Key(StrEnum):
    """What a key asks for."""

    QUIT = "quit"
    UP = "up"
    DOWN = "down"
    RESTART = "restart"
    DRAIN = "drain"
    OTHER = "other"


_KEYS = {
    b"q": Key.QUIT,
    b"\x1b": Key.QUIT,
    b"k": Key.UP,
    b"\x1b[A": Key.UP,
    b"\x1bOA": Key.UP,
    b"j": Key.DOWN,
    b"\x1b[B": Key.DOWN,
    b"\x1bOB": Key.DOWN,
    b"r": Key.RESTART,
    b"d": Key.DRAIN,
}


class Keyboard:
    """The keys that are pressed at a terminal, none lost and none joined however their bytes arrive."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._pending = b""
        self._closed = False

    def next_key(self, within_s: float) -> Key | None:
        """The next key, None if there was none in that time. A closed terminal quits."""
        if not self._pending:
            self._read(within_s)
        while _UNFINISHED.fullmatch(self._pending) and self._read(_REST_WITHIN_S):
            pass
        if self._pending:
            return self._take()
        return Key.QUIT if self._closed else None

    def _read(self, within_s: float) -> bool:
        """Whether more came."""
        ready, _, _ = select.select([self._descriptor], [], [], within_s)
        if not ready:
            return False
        read = os.read(self._descriptor, _AT_ONCE)
        self._pending += read
        self._closed = not read
        return bool(read)

    def _take(self) -> Key:
        """The first of what was read. A sequence that never ended is one key, a lone Escape among them."""
        found = _ONE_KEY.match(self._pending) or _UNFINISHED.match(self._pending)
        assert found is not None  # noqa: S101 - any byte is a key, and Escape begins one
        self._pending = self._pending[found.end() :]
        return _KEYS.get(found[0], Key.OTHER)


@contextmanager
def raw_keys() -> Iterator[Keyboard]:
    """No echo and no waiting for Enter; Ctrl-C goes on working. The terminal is as before at the end."""
    descriptor = sys.stdin.fileno()
    before = termios.tcgetattr(descriptor)
    try:
        tty.setcbreak(descriptor)
        yield Keyboard(descriptor)
    finally:
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)
