"""The search for the most that keeps the SLO: it lands beside the true edge, and asks twice."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from dreamseed_cli.bench.suites.search import Search


def _found(search: Search, edge: float) -> float | None:
    """Search a box that keeps every load up to `edge`."""
    while (load := search.next()) is not None:
        search.note(load, kept=load <= edge)
    return search.kept


@given(edge=st.floats(1.0, 1000.0), guess=st.floats(0.5, 2.0))
def test_it_lands_within_its_tolerance_below_the_edge(edge: float, guess: float) -> None:
    """Whatever the first guess was, within a factor of two."""
    search = Search(start=edge * guess)
    found = _found(search, edge)
    assert found is not None
    assert edge / 1.031 <= found <= edge
    assert search.confirmed


@given(edge=st.integers(1, 500), guess=st.floats(0.5, 2.0))
def test_whole_loads_stay_whole(edge: int, guess: float) -> None:
    """Nobody can try half a user."""
    found = _found(Search(start=max(1.0, edge * guess), whole=True), edge)
    assert found is not None
    assert found == int(found)
    assert found <= edge
    assert found >= min(edge, edge / 1.031 - 1)


def test_a_box_that_keeps_nothing_gives_nothing() -> None:
    """It goes down to a sixty-fourth of the first guess, and then says so."""
    search = Search(start=64.0)
    assert _found(search, 0.1) is None
    assert search.trials < 16
    assert search.failed is not None
    assert search.failed <= 1.0


def test_what_passed_by_luck_is_not_the_answer() -> None:
    """A load is kept only if a second trial of it is: else the floor falls."""
    search = Search(start=100.0, tolerance=0.03)
    answers = iter([True, False])
    lucky = None
    while (load := search.next()) is not None:
        if lucky is None and search.kept is not None and load == search.kept:
            lucky = load
            search.note(load, kept=False)
            continue
        search.note(load, kept=next(answers, load < 110))
    assert lucky is not None
    assert search.kept is None or search.kept < lucky
