"""The wish to stop: set by a signal, looked at by everyone who waits."""

from __future__ import annotations

import asyncio
import signal


class StopWish:
    """Signal handlers set it and do nothing else."""

    def __init__(self) -> None:
        self.requested = asyncio.Event()
        self.hasten = asyncio.Event()
        """Set by a second Ctrl-C: kill instead of wait."""
        self.signum: signal.Signals | None = None

    def listen(self) -> None:
        """Take SIGINT, SIGTERM and SIGHUP (a closed terminal) of this process."""
        loop = asyncio.get_running_loop()
        for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            loop.add_signal_handler(signum, self.on_signal, signum)

    def on_signal(self, signum: signal.Signals) -> None:
        """The first asks for an orderly end; a Ctrl-C after it hastens that."""
        if not self.requested.is_set():
            self.signum = signum
            self.requested.set()
        elif signum is signal.SIGINT:
            self.hasten.set()
