"""How long the battery carries the box, and whether this process may stop the host."""

from __future__ import annotations

import pytest

from dreamseed_cli.profile.load import load_profile
from dreamseed_cli.ups.draw import box_draw_w, runtime_s, runtimes
from dreamseed_cli.ups.host import in_unit


def test_a_load_above_the_rating_is_dropped() -> None:
    """§H3's UPS: 1,500 W for ten minutes, half of it for twenty, more for none."""
    assert [runtime_s(watts, 1500.0, 600.0) for watts in (1500.0, 750.0, 1501.0)] == [600.0, 1200.0, 0.0]


def test_the_documents_box_is_too_much_for_the_documents_ups() -> None:
    """§B2 says 1,500 W; its own parts draw more, unless the cards are limited."""
    document, own, limited = runtimes(load_profile("rtx5090x3"), 100.0)
    assert (document.runtime_s, document.enough) == (600.0, True)
    assert own.draw_w == pytest.approx(2005 / 0.89, rel=1e-3)
    assert (own.runtime_s, own.enough) == (0.0, False)
    assert limited.draw_w == 1500.0
    assert limited.enough


def test_a_shutdown_that_takes_longer_than_the_battery_is_not_covered() -> None:
    """With the host's own end, and its margin."""
    assert runtimes(load_profile("rtx5090x3"), 520.0)[0].enough
    assert not runtimes(load_profile("rtx5090x3"), 521.0)[0].enough


def test_a_box_that_says_no_power_has_only_the_documents_load() -> None:
    """There is nothing to compute."""
    assert len(runtimes(load_profile("laptop"), 10.0)) == 1
    assert box_draw_w(load_profile("laptop")) is None


@pytest.mark.parametrize(
    ("environment", "wanted"),
    [
        ({}, False),
        ({"INVOCATION_ID": "a"}, True),
        ({"INVOCATION_ID": "a", "SYSTEMD_EXEC_PID": "7"}, True),
        ({"INVOCATION_ID": "a", "SYSTEMD_EXEC_PID": "8"}, False),
        ({"SYSTEMD_EXEC_PID": "7"}, False),
    ],
)
def test_only_systemds_own_process_stops_the_host(environment: dict[str, str], wanted: bool) -> None:
    """A shell in some unit inherits the unit's id."""
    assert in_unit(environment, 7) is wanted
