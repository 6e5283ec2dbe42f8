"""What `dreamseed serve` shows while it runs: a live view on a terminal, else log lines."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from io import TextIOBase
from pathlib import Path
from typing import TextIO, cast

import structlog
from rich.console import Console
from rich.live import Live
from rich.spinner import Spinner

from dreamseed_cli.core.log import configure_logging
from dreamseed_cli.supervisor.logfile import bound_log
from dreamseed_cli.supervisor.snapshot import StackSnapshot
from dreamseed_cli.supervisor.view import stack_view

_REFRESH_S = 0.25
_SUMMARY_S = 10.0

log = structlog.get_logger("supervisor")


async def show_live(snapshot: Callable[[], StackSnapshot], console: Console | None = None) -> None:
    """Draw the stack on the terminal until cancelled; the last picture stays there. console: not stdout."""
    spinner = Spinner("dots")
    try:
        with Live(console=console or Console(), auto_refresh=False, vertical_overflow="crop") as live:
            try:
                while True:
                    live.update(stack_view(snapshot(), spinner=spinner), refresh=True)
                    await asyncio.sleep(_REFRESH_S)
            finally:
                live.update(stack_view(snapshot()), refresh=True)
    except OSError:
        return  # the terminal is gone: whoever closed it wants no picture any more


async def log_summaries(snapshot: Callable[[], StackSnapshot]) -> None:
    """One log line about the whole stack every ten seconds, until cancelled."""
    while True:
        await asyncio.sleep(_SUMMARY_S)
        now = snapshot()
        log.info(
            "summary",
            activity=now.activity,
            provenance=now.provenance.value,
            gateway=now.gateway.address,
            ready=now.ready,
            replicas=len(now.replicas),
            services_away=[service.name for service in now.services if service.away],
            running=_total(replica.running for replica in now.replicas),
            waiting=_total(replica.waiting for replica in now.replicas),
            tokens_per_s=round(_total(replica.tokens_per_s for replica in now.replicas), 1),
            finished=_total(replica.finished for replica in now.replicas),
            failed=_total(replica.failed for replica in now.replicas),
        )


def log_to(path: Path, *also: TextIO) -> None:
    """Write this process's log to a file of bounded size, and to further streams."""
    bound_log(path)
    configure_logging(cast("TextIO", _Tee(path.open("a", encoding="utf-8"), *also)))


class _Tee(TextIOBase):
    """One text stream that writes to several; one that fails (a closed terminal) is left out from then on."""

    def __init__(self, *streams: TextIO) -> None:
        self._streams = list(streams)

    def write(self, text: str, /) -> int:
        for stream in tuple(self._streams):
            try:
                stream.write(text)
                stream.flush()
            except OSError:
                self._streams.remove(stream)
        return len(text)


def _total(values: Iterable[float | None]) -> float:
    return sum(value for value in values if value is not None)
