"""Live progress: a picture on a terminal, a line every ten seconds elsewhere."""

from __future__ import annotations

import io

from rich.console import Console

from dreamseed_cli.bench.live_view import LiveView, Place
from dreamseed_cli.bench.progress import Progress
from dreamseed_cli.bench.shapes import Cell, Rate, Replay, Shape, Streams, Users


class Clock:
    """Time as the test sets it."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class Gone(io.StringIO):
    """A terminal that was closed."""

    def write(self, text: str, /) -> int:
        raise OSError(5, "Input/output error")


def place(shape: Shape | None = None, total: int | None = 5) -> Place:
    """The third cell of some."""
    cell = Cell(name="poisson-4", shape=shape or Rate(per_s=4.0), duration_s=60.0, seed=1)
    return Place("engine", cell, 3, total)


def progress(elapsed_s: float, *, ttft_p50_s: float | None = None, failed: int = 2) -> Progress:
    """A cell at a moment."""
    return Progress(
        name="poisson-4",
        elapsed_s=elapsed_s,
        left_s=max(60.0 - elapsed_s, 0.0),
        begun=160,
        ended=148,
        failed=failed,
        in_flight=12,
        requests_per_s=3.94,
        tokens_per_s=812.4,
        ttft_p50_s=ttft_p50_s,
    )


def played(view: LiveView, clock: Clock, *seconds: float) -> None:
    """One look a second; TTFT is known only in the first."""
    for second in seconds:
        clock.now = 100.0 + second
        view.update(progress(second, ttft_p50_s=0.412 if second == seconds[0] else None))


def test_without_a_terminal_a_line_comes_every_ten_seconds() -> None:
    """And one when the cell begins. The TTFT known last is told on."""
    stream, clock = io.StringIO(), Clock()
    with LiveView(Console(file=stream, width=80), clock=clock) as view:
        view.begin_cell(place())
        played(view, clock, *range(1, 22))
    assert stream.getvalue().splitlines() == [
        "engine · poisson-4 · cell 3 of 5: 60 s",
        "engine · poisson-4 · cell 3 of 5: begun/s 3.9 of 4, in flight 12, TTFT p50 412 ms, tok/s 812, "
        "done 146, failed 2, 50 s left",
        "engine · poisson-4 · cell 3 of 5: begun/s 3.9 of 4, in flight 12, TTFT p50 412 ms, tok/s 812, "
        "done 146, failed 2, 40 s left",
    ]


def test_a_new_cell_forgets_the_last_ones_ttft() -> None:
    """Nothing answered yet: no figure."""
    stream, clock = io.StringIO(), Clock()
    view = LiveView(Console(file=stream, width=80), clock=clock)
    view.begin_cell(place())
    played(view, clock, 1)
    view.begin_cell(place(total=None))
    clock.now += 10
    view.update(progress(61.0))
    last = stream.getvalue().splitlines()[-1]
    assert "cell 3: " in last
    assert "TTFT p50 -" in last
    assert last.endswith("waiting for the last answers")


def test_what_was_asked_for_stands_beside_what_is_sent() -> None:
    """A rate, streams or users; a trace asks for no rate."""
    said = []
    for shape in (Streams(count=8), Users(count=1200, think_s=5.0), Replay("trace.jsonl", 60.0)):
        stream, clock = io.StringIO(), Clock()
        view = LiveView(Console(file=stream, width=80), clock=clock)
        view.begin_cell(place(shape))
        played(view, clock, 10)
        said.append(stream.getvalue().splitlines()[-1].split("begun/s ")[1].split(", ")[0])
    assert said == ["3.9 (8 streams)", "3.9 (1,200 users)", "3.9"]


def test_a_terminal_shows_a_picture_and_lines_scroll_by_above_it() -> None:
    """Place, bar, time left and figures; at the end the picture is taken away, the lines stay."""
    stream, clock = io.StringIO(), Clock()
    console = Console(file=stream, force_terminal=True, color_system=None, width=80, legacy_windows=False)
    with LiveView(console, clock=clock) as view:
        view.begin_cell(place())
        played(view, clock, 30)
        view.say("[red] is no colour here")
    text = stream.getvalue()
    for part in (
        "engine · poisson-4 · cell 3 of 5",
        "30 s left",
        "3.9 of 4",
        "412 ms",
        "━",
        "[red] is no colour",
    ):
        assert part in text
    assert "\x1b[?25h" in text


def test_the_picture_is_drawn_at_most_four_times_a_second() -> None:
    """However often it is told."""
    stream, clock = io.StringIO(), Clock()
    console = Console(file=stream, force_terminal=True, color_system=None, width=80)
    with LiveView(console, clock=clock) as view:
        view.begin_cell(place())
        played(view, clock, *(step / 100 for step in range(100)))
        pictures = stream.getvalue().count("s left")
    assert pictures == 4


def test_a_terminal_that_goes_away_does_not_end_the_run() -> None:
    """Nor does a pipe whose reader left."""
    clock = Clock()
    for terminal in (True, False):
        with LiveView(Console(file=Gone(), force_terminal=terminal), clock=clock) as view:
            view.begin_cell(place())
            played(view, clock, 30)
            view.say("still here")


def test_progress_before_any_cell_shows_nothing() -> None:
    """There is no place to tell of."""
    stream = io.StringIO()
    LiveView(Console(file=stream)).update(progress(1.0))
    assert stream.getvalue() == ""
