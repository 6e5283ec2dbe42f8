"""What people see while a bench runs: a live picture on a terminal, else a line every ten seconds."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from dreamseed_cli.bench.outlook import Ahead
from dreamseed_cli.bench.progress import Progress
from dreamseed_cli.bench.shapes import Cell, Rate, Streams, Users
from dreamseed_cli.core.counting import counted

_REFRESH_S = 0.25
_LINE_S = 10.0
_BAR_WIDTH = 30


@dataclass(frozen=True, slots=True)
class Place:
    """Where in the run: a suite's cell, the how-manieth of how many (None: a search does not know)."""

    suite: str
    cell: Cell
    number: int
    total: int | None = None
    ahead: Ahead | None = None
    """What the suite has planned after it."""

    @property
    def words(self) -> str:
        of = f" of {self.total}" if self.total is not None else ""
        return f"{self.suite} · {self.cell.name} · cell {self.number}{of}"


class LiveView:
    """A context manager around a run. clock: monotonic, in seconds.

    A terminal that goes away ends the picture, never the run.
    """

    def __init__(self, console: Console, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._console = console
        self._clock = clock
        self._every_s = _REFRESH_S if console.is_terminal else _LINE_S
        self._live = (
            Live(console=console, auto_refresh=False, transient=True) if console.is_terminal else None
        )
        self._place: Place | None = None
        self._ttft_s: float | None = None
        self._shown_at = clock()

    def __enter__(self) -> Self:
        if self._live is not None:
            with suppress(OSError):
                self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            with suppress(OSError):
                self._live.stop()

    def begin_cell(self, place: Place) -> None:
        """A cell begins: its place is said at once where there is no picture."""
        self._place, self._ttft_s = place, None
        self._shown_at = self._clock() - (self._every_s if self._live is not None else 0.0)
        if self._live is None:
            cell_s = place.cell.duration_s
            whole = f", {place.ahead.left(cell_s)} left" if place.ahead is not None else ""
            self.say(f"{place.words}: {cell_s:.0f} s{whole}")

    def update(self, progress: Progress) -> None:
        """The cell as it stands; shown at most four times a second, in lines every ten seconds."""
        if self._place is None:
            return
        # A look in which no answer ended knows no TTFT: the last one known is shown on.
        self._ttft_s = progress.ttft_p50_s if progress.ttft_p50_s is not None else self._ttft_s
        now = self._clock()
        if now - self._shown_at < self._every_s:
            return
        self._shown_at = now
        if self._live is None:
            self.say(progress_line(self._place, progress, self._ttft_s))
            return
        with suppress(OSError):
            self._live.update(progress_view(self._place, progress, self._ttft_s), refresh=True)

    def say(self, text: str) -> None:
        """A line for people; on a terminal it scrolls by above the picture."""
        with suppress(OSError):
            self._console.print(Text(text), soft_wrap=True)


def progress_view(place: Place, now: Progress, ttft_s: float | None) -> RenderableType:
    """A bar with the time left, and the figures below it."""
    bar = Table.grid(padding=(0, 1))
    whole_s = now.elapsed_s + now.left_s
    bar.add_row(
        ProgressBar(total=max(whole_s, 1e-9), completed=now.elapsed_s, width=_BAR_WIDTH),
        Text(_left(place, now)),
    )
    figures = Table.grid(padding=(0, 3))
    names, values = zip(*_figures(place, now, ttft_s), strict=True)
    figures.add_row(*(Text(name, style="dim") for name in names))
    figures.add_row(*(_value(name, value, now) for name, value in zip(names, values, strict=True)))
    return Group(Text(place.words, style="bold"), bar, figures)


def progress_line(place: Place, now: Progress, ttft_s: float | None) -> str:
    """The same in a line, for logs and pipes."""
    figures = ", ".join(f"{name} {value}" for name, value in _figures(place, now, ttft_s))
    return f"{place.words}: {figures}, {_left(place, now)}"


def _figures(place: Place, now: Progress, ttft_s: float | None) -> list[tuple[str, str]]:
    return [
        ("begun/s", f"{now.requests_per_s:.1f}{_asked(place.cell)}"),
        ("in flight", f"{now.in_flight:,}"),
        ("TTFT p50", "-" if ttft_s is None else f"{ttft_s * 1000:,.0f} ms"),
        ("tok/s", f"{now.tokens_per_s:,.0f}"),
        ("done", f"{now.ended - now.failed:,}"),
        ("failed", f"{now.failed:,}"),
    ]


def _value(name: str, value: str, now: Progress) -> Text:
    return Text(value, style="bold red" if name == "failed" and now.failed else "bold")


def _asked(cell: Cell) -> str:
    match cell.shape:
        case Rate(per_s=rate):
            return f" of {rate:g}"
        case Streams(count=count):
            return f" ({counted(count, 'stream')})"
        case Users(count=count):
            return f" ({counted(count, 'user')})"
        case _:
            return ""


def _left(place: Place, now: Progress) -> str:
    """Of the cell, and of the suite where it has a plan. Past the cell's end, answers that are under way are
    waited for.
    """
    cell = f"{now.left_s:.0f} s left" if now.left_s > 0 else "waiting for the last answers"
    return f"{cell}, {place.ahead.left(now.left_s)}" if place.ahead is not None else cell
