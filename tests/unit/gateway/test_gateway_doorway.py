"""Who is let in while a box saves power, or is about to stop."""

from __future__ import annotations

import pytest
from grpc import StatusCode

from dreamseed_cli.gateway.call import PriorityClass
from dreamseed_cli.gateway.doorway import DoorOrder, Doorway, Letting
from dreamseed_cli.gateway.refusals import Closing, Paused
from dreamseed_cli.gateway.status import DETAILS_KEY, error_details, grpc_status


class Clock:
    """Seconds that pass when a test says so."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    """One at 100 s."""
    return Clock()


@pytest.fixture
def doorway(clock: Clock) -> Doorway:
    """One that nobody has told anything."""
    return Doorway(clock)


def test_everybody_is_let_in_and_counted(doorway: Doorway) -> None:
    """Until they leave."""
    for priority in PriorityClass:
        doorway.enter(priority)
    doorway.leave()
    assert doorway.calls == 2


def test_a_pause_is_for_batch_alone(doorway: Doorway) -> None:
    """And says when to come back."""
    doorway.take(DoorOrder(letting=Letting.NO_BATCH, retry_after_s=90.0))
    doorway.enter(PriorityClass.STANDARD)
    with pytest.raises(Paused) as caught:
        doorway.enter(PriorityClass.BATCH)
    assert caught.value.retry_after_s == 90.0
    assert doorway.calls == 1


def test_before_a_stop_nobody_is_let_in(doorway: Doorway) -> None:
    """UNAVAILABLE, so that callers go elsewhere, with the time to try again."""
    doorway.take(DoorOrder(letting=Letting.NOBODY))
    with pytest.raises(Closing) as caught:
        doorway.enter(PriorityClass.PREMIUM)
    assert grpc_status(caught.value)[0] is StatusCode.UNAVAILABLE
    assert [key for key, _ in error_details(caught.value)] == [DETAILS_KEY]


def test_an_order_that_nobody_renews_ends(doorway: Doorway, clock: Clock) -> None:
    """Whoever gave it may have died: the door must not stay closed."""
    doorway.take(DoorOrder(letting=Letting.NOBODY, for_s=10.0))
    clock.now += 9.9
    assert doorway.letting is Letting.NOBODY
    clock.now += 0.2
    doorway.enter(PriorityClass.BATCH)
    assert [doorway.letting] == [Letting.ALL]
