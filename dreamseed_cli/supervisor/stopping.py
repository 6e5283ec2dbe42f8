"""The wishes to stop and to reload: set by signals, looked at by everyone who waits."""

from __future__ import annotations

import asyncio
import os
import signal


class StopWish:
    """Signal handlers set it and do nothing else."""

    def __init__(self) -> None:
        self.requested = asyncio.Event()
        self.hasten = asyncio.Event()
        """Set by a second Ctrl-C: kill instead of wait."""
        self.reload = asyncio.Event()
        """Set by SIGHUP: read the profile again. Whoever does it clears it."""
        self.signum: signal.Signals | None = None
        self._had_terminal = False

    def listen(self) -> None:
        """Take SIGINT, SIGTERM and SIGHUP of this process.

        SIGHUP asks for a reload. From a terminal that is closed it asks for an end, unless whoever started us
        had it ignored (nohup).
        """
        ignored = signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
        self._had_terminal = has_terminal() and not ignored
        loop = asyncio.get_running_loop()
        for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            loop.add_signal_handler(signum, self.on_signal, signum)

    def on_signal(self, signum: signal.Signals) -> None:
        """The first asks for an orderly end; a Ctrl-C after it hastens that."""
        if signum is signal.SIGHUP and not (self._had_terminal and not has_terminal()):
            self.reload.set()
        elif not self.requested.is_set():
            self.signum = signum
            self.requested.set()
        elif signum is signal.SIGINT:
            self.hasten.set()


def has_terminal() -> bool:
    """Whether this process has a controlling terminal now: one that hung up is none any more."""
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK))
    except OSError:
        return False
    return True
