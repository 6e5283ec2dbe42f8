"""`dreamseed db watch` beside a drill: the same loop, in a thread of its own."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from dreamseed_cli.database.standby.keep import keep
from dreamseed_cli.database.standby.pair import Pair
from dreamseed_cli.database.standby.service_file import ServiceFile
from dreamseed_cli.profile.standby import Standby


@contextmanager
def watching(pair: Pair, file: ServiceFile, settings: Standby, say: Callable[[str], None]) -> Iterator[None]:
    """Both servers are watched until the end of the block."""
    loop = asyncio.new_event_loop()
    stopping = asyncio.Event()

    def run() -> None:
        loop.run_until_complete(keep(pair, file, settings, stopping, lambda turn: say(str(turn))))

    thread = threading.Thread(target=run, name="db-watch", daemon=True)
    thread.start()
    try:
        yield
    finally:
        loop.call_soon_threadsafe(stopping.set)
        thread.join()
        loop.close()
