"""The gateway and its cards in jumps against the same gateway told of every token, before stepped engines."""

from __future__ import annotations

import math

import pytest

from benchmarks._stepped import Stepped, jumped, requests
from dreamseed_cli.costsim.queueing.card import CardModel
from dreamseed_cli.costsim.queueing.farm import Farm, Request
from dreamseed_cli.costsim.queueing.outcome import Ending
from dreamseed_cli.gateway.admission.ticket import Ticket
from dreamseed_cli.gateway.call import PriorityClass
from dreamseed_cli.profile.load import load_profile
from dreamseed_cli.profile.schema import Admission, EmulatedEngine


def _engine() -> EmulatedEngine:
    engine = load_profile("emulated-rtx5090x3").engine
    assert isinstance(engine, EmulatedEngine)
    return engine


@pytest.mark.parametrize("rate", [6.0, 20.0])
def test_three_cards_behave_as_stepped_ones(rate: float) -> None:
    """Under a middling load and under too much of it: the same answers, their times within a few percent of
    engines that are stepped token by token and messages that take a millisecond.
    """
    engine, asked = _engine(), requests(rate, 40.0, seed=3)
    truth = Stepped(engine, Admission(), asked, 10.0).found(40.0)
    found = jumped(
        CardModel(engine.card, engine.max_num_seqs), engine.replicas, Admission(), asked, (10.0, 40.0)
    )
    errors = found.errors(truth)
    assert max(abs(error) for error in errors.values()) < 9.0, errors


class _Ends:
    """What a farm told of its requests."""

    def __init__(self, replicas: int) -> None:
        self.told: list[tuple[int, Ending, float]] = []
        engine = _engine()
        self.farm = Farm(CardModel(engine.card, 4), replicas, Admission(), ended=self._ended)

    def _ended(self, request: Request, ending: Ending, now: float) -> None:
        self.told.append((request.index, ending, now))

    def ask(self, index: int, wanted: int, deadline: float) -> None:
        ticket = Ticket(PriorityClass.PREMIUM, 100, 400, deadline)
        self.farm.submit(Request(index, wanted, ticket), 0.0)

    def run(self) -> None:
        while (due := self.farm.next_at) < math.inf:
            self.farm.advance(due)


def test_an_answer_is_cut_at_its_deadline() -> None:
    """One that takes longer than its caller waits ends then; the card goes on with the other."""
    ends = _Ends(1)
    ends.ask(0, 400, 1.0)
    ends.ask(1, 50, 30.0)
    ends.run()
    assert (0, Ending.CUT, 1.0) in ends.told
    assert {(index, ending) for index, ending, _ in ends.told} == {(0, Ending.CUT), (1, Ending.ANSWERED)}


def test_without_cards_nobody_waits() -> None:
    """A gateway without a replica refuses at once."""
    ends = _Ends(0)
    ends.ask(0, 10, 30.0)
    assert ends.told == [(0, Ending.NO_REPLICA, 0.0)]


def test_work_is_spread_over_the_cards() -> None:
    """Eight requests of four places each on two cards: none has to wait for another's end."""
    ends = _Ends(2)
    for index in range(8):
        ends.ask(index, 100, 60.0)
    ends.run()
    assert [ending for _, ending, _ in ends.told] == [Ending.ANSWERED] * 8
    assert max(at for *_, at in ends.told) < 1.5 * min(at for *_, at in ends.told)
