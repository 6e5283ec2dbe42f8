"""Tries and limits: what is tried again, how long is waited, and that nothing hangs."""

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dreamseed_cli.backup import ending
from dreamseed_cli.backup.store.base import Limits
from dreamseed_cli.backup.store.errors import (
    ObjectCorrupt,
    ObjectMissing,
    StoreBusy,
    StoreError,
    StoreRefused,
    StoreUnreachable,
    TokenRefused,
)
from dreamseed_cli.backup.store.retry import pause_s, steadily

LIMITS = Limits(total_s=5, tries=4, first_wait_s=0.001, most_wait_s=0.002)


def failing(times: int, error: StoreError) -> tuple[Callable[[threading.Event], int], list[int]]:
    """Work that fails so often; and the list that counts its tries."""
    tried: list[int] = []

    def work(_: threading.Event) -> int:
        tried.append(1)
        if len(tried) <= times:
            raise error
        return 7

    return work, tried


@pytest.mark.parametrize("kind", [StoreUnreachable, StoreBusy, TokenRefused, ObjectCorrupt])
def test_what_may_pass_is_tried_again(kind: type[StoreError]) -> None:
    """Two failures that may pass by themselves do not fail the call."""
    work, tried = failing(2, kind("for now"))
    assert steadily(work, LIMITS, "here") == 7
    assert len(tried) == 3


@pytest.mark.parametrize("kind", [StoreRefused, ObjectMissing])
def test_what_will_not_pass_is_not(kind: type[StoreError]) -> None:
    """A refusal stands at once: trying again would only hide it for a while."""
    work, tried = failing(1, kind("for good"))
    with pytest.raises(kind):
        steadily(work, LIMITS, "here")
    assert len(tried) == 1


@pytest.mark.parametrize(("kind", "most"), [(StoreUnreachable, 4), (ObjectCorrupt, 3)])
def test_tries_end(kind: type[StoreError], most: int) -> None:
    """The last failure is told; corrupt bytes are not fetched as often as a lost line is tried."""
    work, tried = failing(99, kind("still"))
    with pytest.raises(kind, match="still"):
        steadily(work, LIMITS, "here")
    assert len(tried) == most


def test_a_wait_beyond_the_limit_is_not_begun() -> None:
    """A store that wants to be left alone for longer than the call may take: told now, not then."""
    work, tried = failing(1, StoreBusy("an hour, please", wait_s=3600))
    with pytest.raises(StoreBusy):
        steadily(work, LIMITS, "here")
    assert len(tried) == 1


@pytest.fixture
def gate() -> Iterator[threading.Event]:
    """What hangs in a test hangs on this, and is let go at its end."""
    event = threading.Event()
    yield event
    event.set()


def test_what_hangs_is_given_up(gate: threading.Event) -> None:
    """Work that never ends, whatever it waits for, ends for its caller, named with the place."""
    told: list[threading.Event] = []

    def hang(abandoned: threading.Event) -> None:
        told.append(abandoned)
        gate.wait()

    with pytest.raises(StoreUnreachable, match=r"at 'here': no end within 0.1 s"):
        steadily(hang, Limits(total_s=0.1), "here")
    assert told[0].is_set()


def test_other_errors_reach_the_caller_as_they_are() -> None:
    """A mistake of ours is neither tried again nor renamed."""

    def wrong(_: threading.Event) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        steadily(wrong, LIMITS, "here")


@given(st.integers(1, 60), st.floats(0, 1), st.one_of(st.none(), st.floats(0, 1000)))
def test_waits_double_within_bounds(tried: int, luck: float, asked: float | None) -> None:
    """Each wait lies between half and the whole of its doubled length, and never below what was asked."""
    limits = Limits(first_wait_s=0.5, most_wait_s=30)
    whole = min(30.0, 0.5 * 2 ** (tried - 1))
    wait = pause_s(tried, limits, StoreBusy("busy", wait_s=asked), luck)
    assert wait >= (asked or 0)
    assert wait == asked or whole / 2 <= wait <= whole


def test_a_signal_that_takes_long_to_handle_does_not_lift_the_limit() -> None:
    """One that comes while a call is waited for, and is handled only after that wait's time."""
    left = threading.Event()

    def hanging(_: threading.Event) -> int:
        left.wait(ending.LOOK_S / 2)  # amidst a look of who waits
        os.kill(os.getpid(), signal.SIGUSR1)
        left.wait(5)
        return 7

    before = signal.signal(signal.SIGUSR1, lambda *_: time.sleep(2 * ending.LOOK_S))
    try:
        with pytest.raises(StoreUnreachable, match="no end within"):
            steadily(hanging, Limits(total_s=3 * ending.LOOK_S), "here")
    finally:
        signal.signal(signal.SIGUSR1, before)
        left.set()
