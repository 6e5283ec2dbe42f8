"""How often streams send."""

from __future__ import annotations

from contextlib import ExitStack

import pytest

from dreamseed_cli.gateway.pace import Pace


@pytest.mark.parametrize(("streams", "pause_ms"), [(1, 0.0), (39, 0.0), (40, 5.0), (256, 32.0), (800, 100.0)])
def test_many_streams_send_longer_messages(streams: int, pause_ms: float) -> None:
    """Few streams send every chunk at once; together they never send more than 8,000 messages a second."""
    pace = Pace()
    with ExitStack() as stack:
        for _ in range(streams):
            stack.enter_context(pace.stream())
        assert pace.pause_s() * 1000 == pytest.approx(pause_ms)
    assert pace.pause_s() == 0


def test_a_stream_that_fails_counts_no_longer() -> None:
    """Otherwise every failure would slow the others down for good."""
    pace = Pace()
    with pytest.raises(RuntimeError), pace.stream():
        raise RuntimeError
    with ExitStack() as stack:
        for _ in range(39):
            stack.enter_context(pace.stream())
        assert pace.pause_s() == 0
