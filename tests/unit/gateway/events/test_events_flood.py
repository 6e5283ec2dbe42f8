"""Many refusals told as few events, which stand for all of them."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass, replace

import pytest
from event_harness import record
from gateway_harness import until
from hypothesis import given
from hypothesis import strategies as st

from dreamseed_cli.gateway.events import flood as flood_module
from dreamseed_cli.gateway.events.flood import ALONE, WINDOW_S, Flood
from dreamseed_cli.gateway.events.record import Outcome, RequestRecord
from dreamseed_cli.gateway.events.refusals import Refusals

_MOST_KINDS = 3


@dataclass(frozen=True)
class _Refused:
    number: int
    reason: str
    user: str


def _flood() -> Flood[_Refused]:
    return Flood(
        lambda item: (item.reason, item.user), lambda item: replace(item, user=""), most_kinds=_MOST_KINDS
    )


_STEPS = st.lists(
    st.tuples(
        st.sampled_from(["a", "b"]),
        st.sampled_from([f"u{number}" for number in range(8)]),
        # Mostly bursts, now and then a pause.
        st.sampled_from([0.0, 0.0, 0.0, 0.01, 0.3, 1.0, 5.0]),
    ),
    max_size=150,
)


@given(_STEPS)
def test_every_refusal_is_told_exactly_once_and_few_a_second(steps: list[tuple[str, str, float]]) -> None:
    """The numbers add up for each reason, nobody's stand for another user's, and no second has more than the
    first ones, some kinds, and one for each reason.
    """
    flood, now = _flood(), 0.0
    told: list[tuple[_Refused, int, float]] = []
    for number, (reason, user, pause_s) in enumerate(steps):
        now += pause_s
        told += [(*each, now) for each in flood.add(_Refused(number, reason, user), now)]
        assert sum(count for _, count, _ in told) + flood.held() == number + 1
    told += [(*each, now + WINDOW_S) for each in flood.end()]
    assert not flood.folds
    asked = Counter(reason for reason, _, _ in steps)
    assert Counter({reason: _sum(told, reason=reason) for reason in asked}) == asked
    for reason, user in {(reason, user) for reason, user, _ in steps}:
        given = sum(step[:2] == (reason, user) for step in steps)
        assert _sum(told, reason=reason, user=user) <= given
    assert len({item.number for item, _, _ in told}) == len(told)
    for _, _, at in told:
        within = sum(at <= other < at + WINDOW_S for _, _, other in told)
        # A window's end and the beginning of the next may fall together.
        assert within <= 2 * (ALONE + _MOST_KINDS + 2)


def _sum(told: list[tuple[_Refused, int, float]], **wanted: str) -> int:
    return sum(
        count
        for item, count, _ in told
        if all(getattr(item, name) == value for name, value in wanted.items())
    )


def test_the_first_ones_are_told_at_once_and_the_others_when_the_second_is_over() -> None:
    """The first of a kind stands for all of it."""
    flood = _flood()
    at_once = [flood.add(_Refused(number, "a", "u1"), 7.0) for number in range(ALONE + 5)]
    assert [len(told) for told in at_once] == [1] * ALONE + [0] * 5
    assert flood.over(7.0 + WINDOW_S / 2) == []
    assert flood.over(7.0 + WINDOW_S) == [(_Refused(ALONE, "a", "u1"), 5)]
    assert flood.add(_Refused(99, "a", "u1"), 7.0 + WINDOW_S) == [(_Refused(99, "a", "u1"), 1)]


def test_beyond_some_kinds_only_the_reason_is_kept() -> None:
    """Keys that an attacker makes up cost no memory."""
    flood = _flood()
    for number in range(ALONE + 1000):
        flood.add(_Refused(number, "a", f"u{number}"), 0.0)
    told = flood.end()
    assert [count for _, count in told] == [1] * _MOST_KINDS + [1000 - _MOST_KINDS]
    assert told[-1][0].user == ""


async def test_the_gateways_flood_is_written_when_its_second_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    """By itself: as one record with its number, and without the claims of whoever sent it."""
    monkeypatch.setattr(flood_module, "WINDOW_S", 0.1)
    written: list[RequestRecord] = []
    refusals = Refusals(written.append)
    given = [
        record(str(number), outcome=Outcome.REJECTED, reason="unauthenticated", user_id="")
        for number in range(100)
    ]
    for each in given:
        refusals.add(each)
    assert written == given[:ALONE]
    await until(lambda: len(written) > ALONE)
    (folded,) = written[ALONE:]
    assert (folded.event_id, folded.count) == (str(ALONE), 100 - ALONE)
    assert (folded.priority, folded.workload, folded.arrived_at) == ("unknown", "other", given[0].arrived_at)
    # Another one, and then nothing comes twice.
    refusals.add(given[0])
    refusals.end()
    await asyncio.sleep(0)
    assert sum(each.count for each in written) == 101
