"""When old rows are deleted, and when the relay counts as stalled."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from dreamseed_cli.gateway.events.backlog import Backlog, stalled
from dreamseed_cli.gateway.events.connection import PostgresAway
from dreamseed_cli.gateway.events.outbox import Outbox, Waiting
from dreamseed_cli.gateway.events.pruning import Pruning
from dreamseed_cli.gateway.metrics import GatewayMetrics


async def test_batches_come_every_second_while_there_is_more_and_every_minute_else() -> None:
    """One batch at a time, each kind at its own pace; a failure is no reason to hurry."""
    now, more, done = 100.0, [True, False, False], []

    async def long() -> bool:
        done.append(("long", now))
        return more.pop(0)

    async def fails() -> bool:
        done.append(("fails", now))
        raise PostgresAway("gone")

    pruning = Pruning([long, fails], clock=lambda: now)
    assert pruning.wait_s() == 0
    with pytest.raises(PostgresAway):
        await pruning.run()
    assert pruning.wait_s() == 1
    await pruning.run()
    now += 1
    await pruning.run()
    assert (pruning.wait_s(), done) == (59, [("long", 100.0), ("fails", 100.0), ("long", 101.0)])
    now += 60
    with pytest.raises(PostgresAway):
        await pruning.run()
    assert done[3:] == [("long", 161.0), ("fails", 161.0)]


async def test_nothing_to_prune_is_never_due() -> None:
    """Kept for ever, relayed by somebody else."""
    pruning = Pruning([])
    await pruning.run()
    assert pruning.wait_s() == math.inf


@pytest.mark.parametrize(
    ("waiting", "state"),
    [
        (Waiting(0, None, None), False),
        (Waiting(0, None, 9000.0), False),
        (Waiting(5, 3.0, None), False),
        (Waiting(5, 9000.0, 1.0), False),
        (Waiting(5, 16.0, None), True),
        (Waiting(5, 9000.0, 8000.0), True),
    ],
)
def test_events_that_wait_while_none_goes_out_are_a_stalled_relay(waiting: Waiting, state: bool) -> None:
    """Not a backlog that is being worked off, nor a quiet night."""
    assert stalled(waiting) is state


async def test_what_nobody_can_know_is_no_number(tmp_path: Path) -> None:
    """Without PostgreSQL the backlog is not zero."""
    metrics = GatewayMetrics()
    await Backlog(Outbox(f"host={tmp_path}"), metrics).look()
    for name in ("dreamseed_outbox_waiting_events", "dreamseed_outbox_oldest_waiting_seconds"):
        assert math.isnan(metrics.registry.get_sample_value(name) or 0)
