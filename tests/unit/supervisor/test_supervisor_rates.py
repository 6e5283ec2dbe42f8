"""Rates from running totals."""

from __future__ import annotations

import pytest

from dreamseed_cli.supervisor.rates import RateWindow


def test_no_rate_before_two_readings() -> None:
    """One reading says nothing about speed."""
    window = RateWindow()
    assert window.per_s() is None
    window.add(0.0, 10)
    assert window.per_s() is None


def test_the_rate_covers_the_window_only() -> None:
    """What happened before the window no longer counts."""
    window = RateWindow(window_s=5.0)
    for second in range(11):
        window.add(float(second), 1000 * min(second, 5))
    assert window.per_s() == pytest.approx(0.0)


def test_a_steady_counter_gives_its_slope() -> None:
    """100 tokens a second stay 100 tokens a second."""
    window = RateWindow(window_s=5.0)
    for second in range(20):
        window.add(float(second), 100 * second)
    assert window.per_s() == pytest.approx(100.0)


def test_a_counter_that_begins_anew_gives_no_negative_rate() -> None:
    """A restarted engine counts from zero."""
    window = RateWindow()
    window.add(0.0, 5000)
    window.add(1.0, 10)
    assert window.per_s() is None
    window.add(2.0, 30)
    assert window.per_s() == pytest.approx(20.0)
