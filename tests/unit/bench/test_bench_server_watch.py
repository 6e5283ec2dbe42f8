"""What the engines' own figures say together, and when they say nothing."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from dreamseed_cli.bench.cell_run import ServerView
from dreamseed_cli.bench.server_watch import ServerWatch, Tally
from dreamseed_cli.engine.metrics import EngineMetrics


def _told(
    running: int = 0,
    waiting: int = 0,
    tokens: int = 0,
    prompt: int = 0,
    prefix: tuple[int, int] | None = None,
) -> EngineMetrics:
    queries, hits = prefix or (None, None)
    return EngineMetrics(running, waiting, 0.0, tokens, prompt, queries, hits)


def _view(*looks: tuple[EngineMetrics | None, ...]) -> ServerView:
    tally = Tally()
    for look in looks:
        tally.add(look)
    return tally.view()


def test_the_peak_is_of_one_moment_and_the_counters_are_growth() -> None:
    """Engines that were busy one after the other were not busy at once; what came before does not count."""
    view = _view(
        (_told(5, 1, 100, 10, (50, 5)), _told(0, 0, 1000, 20, (0, 0))),
        (_told(2, 0, 130, 14, (60, 5)), _told(3, 4, 1001, 20, (3, 0))),
        (_told(0, 0, 150, 14, (60, 6)), _told(5, 0, 1010, 25, (4, 1))),
    )
    assert view == ServerView(9, 60, 9, 14, 2)


def test_an_engine_that_never_tells_leaves_everything_open() -> None:
    """Half a sum would say that the server saw too few streams."""
    assert _view((_told(5), None), (_told(6), None)) == ServerView()
    assert _view() == _view(()) == ServerView()


def test_an_engine_that_vanishes_keeps_the_peak_and_loses_the_counters() -> None:
    """What was in flight was seen; what the last look would have counted was not."""
    assert _view((_told(5), _told(2)), (_told(1), None)) == ServerView(peak_in_flight=7)


def test_an_engine_that_was_away_for_a_moment_is_counted() -> None:
    """A look that failed loses nothing as long as the counters go on."""
    view = _view((_told(1, tokens=10),), (None,), (_told(1, tokens=30),))
    assert (view.peak_in_flight, view.generation_tokens) == (1, 20)


def test_counters_of_an_engine_that_began_anew_are_not_believed() -> None:
    """After a restart it counts from 0, even if it is past its old count in the end."""
    view = _view((_told(1, tokens=100),), (None,), (_told(1, tokens=5),), (_told(1, tokens=500),))
    assert (view.peak_in_flight, view.generation_tokens) == (1, None)


def test_an_engine_without_a_prefix_cache_tells_the_rest() -> None:
    """Not told is not zero."""
    view = _view((_told(tokens=1),), (_told(tokens=3),))
    assert (view.generation_tokens, view.prefix_queries, view.prefix_hits) == (2, None, None)


_COUNT = st.integers(0, 1000)


@given(st.lists(st.tuples(_COUNT, _COUNT, _COUNT), min_size=1), st.integers(0, 10**9))
def test_only_what_was_added_meanwhile_counts(steps: list[tuple[int, int, int]], before: int) -> None:
    """Whatever the engine had counted before, the growth is the sum of the steps after the first look."""
    tokens, looks = before, []
    for running, waiting, more in steps:
        tokens += more
        looks.append((_told(running, waiting, tokens),))
    view = _view(*looks)
    assert view.generation_tokens == sum(more for _, _, more in steps[1:])
    assert view.peak_in_flight == max(running + waiting for running, waiting, _ in steps)


async def test_a_watch_over_nothing_sees_nothing() -> None:
    """Somebody else's server has no engines that we know; a watch that never began can be stopped."""
    watch = ServerWatch(())
    await watch.start()
    assert await watch.stop() == ServerView()
    assert await ServerWatch(()).stop() == ServerView()
