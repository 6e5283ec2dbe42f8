"""Changes of state become incidents: one open for each subject, with what was done and whom it hurt."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from dreamseed_cli.incidents.book import IncidentBook
from dreamseed_cli.incidents.record import Incident
from dreamseed_cli.profile.resilience import Supervision
from dreamseed_cli.supervisor.chronicle import Chronicle
from dreamseed_cli.supervisor.exits import ExitKind
from dreamseed_cli.supervisor.gateway_admin import ReplicaCounts
from dreamseed_cli.supervisor.replica import (
    Answered,
    Event,
    Exited,
    Launched,
    Replica,
    RestartRequested,
    Stalled,
    StopRequested,
    advance,
)

_RULES = Supervision(most_failures=2)
_CRASH = Exited("killed by signal 9; its last lines:\n  x", kind=ExitKind.KILLED)


class Told:
    """A chronicle, what it wrote, and the gateway's counts as they stand."""

    def __init__(self, path: Path) -> None:
        self.book = IncidentBook(path)
        self.counts = {"r0": ReplicaCounts("r0")}
        self.chronicle = Chronicle(self.book, self.counts.get)
        self.replica = advance(Replica.launched("r0", 0.0), Answered(), 0.0, _RULES)

    def happen(self, *events: Event) -> None:
        for event in events:
            before = self.replica
            self.replica = advance(before, event, 1.0, _RULES)
            self.chronicle.replica(before, self.replica)

    def incidents(self) -> list[Incident]:
        assert self.book.flush(60.0)
        return self.book.last(10)


@pytest.fixture
def told(tmp_path: Path) -> Iterator[Told]:
    """A chronicle on a book of its own."""
    made = Told(tmp_path / "incidents.sqlite")
    yield made
    made.chronicle.close()


def test_a_crash_is_one_incident_from_its_cause_to_the_first_token(told: Told) -> None:
    """With each step, and the requests that it touched meanwhile."""
    told.happen(_CRASH)
    told.counts["r0"] = ReplicaCounts("r0", moved=3, continued=2, cut=1)
    told.happen(Launched(), Answered())
    (incident,) = told.incidents()
    assert (incident.kind, incident.subject, incident.cause) == ("restart", "r0", "killed")
    assert (incident.outcome, incident.detect_s) == ("recovered", 0.0)
    assert incident.requests == {"moved": 3, "continued": 2, "cut": 1}
    assert [action.text for action in incident.actions] == ["starting (launched)"]


def test_an_ejection_and_the_kill_after_it_are_one_incident(told: Told) -> None:
    """It says how long the hang had gone unnoticed."""
    told.happen(Stalled("nothing for 10 s", 10.0), _CRASH, Launched(), Answered())
    (incident,) = told.incidents()
    assert (incident.kind, incident.cause, incident.detect_s) == ("ejection", "no_progress", 10.0)
    assert incident.recover_s is not None
    assert incident.recover_s >= 10.0


def test_a_crash_loop_ends_as_failed(told: Told) -> None:
    """And an operator's restart of it is a new beginning, not a recovery."""
    told.happen(_CRASH, Launched(), _CRASH)
    (incident,) = told.incidents()
    assert incident.outcome == "failed"
    told.happen(RestartRequested(), Launched(), Answered())
    assert len(told.incidents()) == 1


def test_what_an_operator_wishes_is_no_incident(told: Told) -> None:
    """A restart by wish, and the end of the stack."""
    told.happen(RestartRequested(), Exited(), Launched(), Answered(), StopRequested(), Exited())
    assert told.incidents() == []


def test_an_end_of_the_stack_abandons_what_was_open(told: Told) -> None:
    """Nobody will see it recover."""
    told.happen(_CRASH, StopRequested())
    (incident,) = told.incidents()
    assert incident.outcome == "abandoned"


def test_a_gateway_that_is_started_again_counts_from_zero(told: Told) -> None:
    """No negative figures."""
    told.counts["r0"] = ReplicaCounts("r0", moved=50)
    told.happen(_CRASH)
    told.counts["r0"] = ReplicaCounts("r0", moved=2)
    told.happen(Launched(), Answered())
    assert told.incidents()[0].requests["moved"] == 0


def test_gateway_services_and_cards(told: Told) -> None:
    """Opened by what breaks, closed by what is of use; what only starts or drains is none."""
    process = told.chronicle.process
    for state, reason in (("starting", "launched"), ("serving", "answered"), ("draining", "stop_requested")):
        process("gateway", "gateway", state, reason, "")
    assert told.incidents() == []
    process("gateway", "gateway", "restarting", "exited", "the gateway ended with code -9")
    process("gateway", "gateway", "serving", "answered", "")
    process("service", "postgres", "hung", "no_answer", "no answer within 3 s")
    process("service", "postgres", "restarting", "no_answer", "it hung and was killed")
    process("service", "postgres", "ready", "answered", "")
    process("gpu", "card 1", "ending", "xid", "Xid 48")
    process("gpu", "card 1", "quarantined", "reset_not_allowed", "a reboot is due")
    found = {one.subject: (one.kind, one.cause, one.outcome) for one in told.incidents()}
    assert found == {
        "gateway": ("gateway", "exited", "recovered"),
        "postgres": ("service", "no_answer", "recovered"),
        "card 1": ("gpu", "xid", "failed"),
    }


def test_help_from_elsewhere_is_one_incident_until_it_is_home(told: Told) -> None:
    """Waiting for the time to call it is none."""
    for state in ("standby", "waiting", "standby", "waiting", "starting", "serving", "returning"):
        told.chronicle.failover(state, "")
    assert [one.outcome for one in told.incidents()] == ["open"]
    told.chronicle.failover("stopping", "")
    told.chronicle.failover("standby", "")
    (incident,) = told.incidents()
    assert (incident.subject, incident.outcome) == ("failover", "recovered")


def test_a_supervisor_that_stands_in_for_a_killed_one(told: Told) -> None:
    """From its own start, since nobody knows when the other ended, to the first replica that serves."""
    told.chronicle.supervisor_lost("Adopted r0 (pid 7).")
    told.chronicle.supervisor_serves()
    (incident,) = told.incidents()
    assert (incident.kind, incident.cause, incident.outcome) == ("supervisor", "killed", "recovered")
    assert incident.detail == "Adopted r0 (pid 7)."
