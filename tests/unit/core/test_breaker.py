"""The circuit breaker's laws."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from dreamseed_cli.core.breaker import Breaker


def _breaker() -> Breaker:
    return Breaker(threshold=3, retry_after_s=1.0)


def _ticket(breaker: Breaker, now: float) -> int:
    ticket = breaker.admit(now)
    assert ticket is not None
    return ticket


def _open(breaker: Breaker, now: float = 0.0) -> None:
    for _ in range(3):
        breaker.failed(_ticket(breaker, now), now)
    assert breaker.state == "opened"


def test_it_opens_after_failures_in_a_row_only() -> None:
    """A success between them starts the count anew."""
    breaker = _breaker()
    for _ in range(5):
        breaker.failed(_ticket(breaker, 0.0), 0.0)
        breaker.failed(_ticket(breaker, 0.0), 0.0)
        breaker.succeeded(_ticket(breaker, 0.0))
    assert breaker.state == "closed"
    _open(breaker)


def test_an_open_breaker_admits_nobody_until_its_time_is_over() -> None:
    """Then exactly one probe."""
    breaker = _breaker()
    _open(breaker)
    assert breaker.admit(0.99) is None
    assert breaker.admit(1.0) is not None
    assert breaker.state == "half-opened"
    assert breaker.admit(1.0) is None
    assert breaker.admit(9.0) is None


def test_the_probe_decides() -> None:
    """A failed probe opens it for the same time again, a successful one closes it."""
    breaker = _breaker()
    _open(breaker)
    breaker.failed(_ticket(breaker, 1.0), 1.2)
    assert breaker.state == "opened"
    assert breaker.admit(2.1) is None
    breaker.succeeded(_ticket(breaker, 2.2))
    assert breaker.state == "closed"


def test_a_probe_whose_caller_left_decides_nothing() -> None:
    """The next call probes instead."""
    breaker = _breaker()
    _open(breaker)
    breaker.left(_ticket(breaker, 1.0))
    assert breaker.state == "half-opened"
    assert breaker.admit(1.0) is not None


def test_callers_that_leave_neither_open_it_nor_hide_failures() -> None:
    """A failure, then a caller that leaves, and so on: still failures in a row."""
    breaker = _breaker()
    for _ in range(10):
        breaker.left(_ticket(breaker, 0.0))
    assert breaker.state == "closed"
    for _ in range(3):
        breaker.left(_ticket(breaker, 0.0))
        breaker.failed(_ticket(breaker, 0.0), 0.0)
    assert breaker.state == "opened"


def test_what_was_asked_before_it_opened_decides_nothing_after() -> None:
    """Stragglers report on a service as it was."""
    breaker = _breaker()
    late_success, late_failure = _ticket(breaker, 0.0), _ticket(breaker, 0.0)
    _open(breaker)
    breaker.succeeded(late_success)
    assert breaker.state == "opened"
    probe = _ticket(breaker, 1.0)
    breaker.failed(late_failure, 1.0)
    breaker.left(late_success)
    assert breaker.state == "half-opened"
    assert breaker.admit(1.0) is None
    breaker.succeeded(probe)
    assert breaker.state == "closed"


_STEPS = st.tuples(st.sampled_from(["ask", "success", "failure", "left"]), st.floats(0, 2))


@given(st.lists(_STEPS, max_size=80))
def test_a_half_open_breaker_never_has_two_probes(steps: list[tuple[str, float]]) -> None:
    """Whatever happens in whatever order; and an open one is always asked again in the end."""
    breaker, now, asked = _breaker(), 0.0, list[int]()
    for step, pause in steps:
        now += pause
        if step == "ask":
            ticket = breaker.admit(now)
            if ticket is not None:
                if breaker.state == "half-opened":
                    assert ticket not in asked
                asked.append(ticket)
        elif asked:
            ticket = asked.pop()
            if step == "success":
                breaker.succeeded(ticket)
            elif step == "failure":
                breaker.failed(ticket, now)
            else:
                breaker.left(ticket)
    for ticket in asked:
        breaker.left(ticket)
    assert breaker.admit(now + 1.0 + 1e-9) is not None  # sums of floats fall short of a second
