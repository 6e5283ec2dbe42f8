"""Locust's requests in requests.csv."""

from __future__ import annotations

import pytest

from dreamseed_cli.bench.locust_users.crew import LoadRun, StepTimes
from dreamseed_cli.bench.locust_users.plan import Kind
from dreamseed_cli.bench.locust_users.requests import records_by_step
from dreamseed_cli.bench.locust_users.samples import SIMULATED, Sample, as_samples
from dreamseed_cli.bench.records import Ending

_SAMPLES = [
    Sample(Kind.STATIC, 1, due_s=99.0, begun_s=99.5, end_s=100.0, ending=Ending.COMPLETE),
    Sample(
        Kind.GRPC_STREAM, 2, 105.0, 105.25, end_s=108.0, first_s=106.0, tokens=200, ending=Ending.COMPLETE,
        flags=SIMULATED,
    ),
    Sample(Kind.QUESTION, 3, due_s=130.0, begun_s=130.0, ending=Ending.STALLED),
    Sample(Kind.QUESTION, 4, due_s=190.0, begun_s=190.0),
]  # fmt: skip
_STEPS = (StepTimes(100, 100.0, 101.0, 120.0), StepTimes(1000, 120.0, 130.0, 150.0))


def test_each_request_stands_in_its_step_with_its_times_from_there() -> None:
    """What is before the first or after the last one belongs to that one; nothing is lost."""
    found = dict(records_by_step(LoadRun(as_samples(_SAMPLES), (), _STEPS)))
    assert [(name, len(records)) for name, records in found.items()] == [("users-100", 2), ("users-1000", 2)]
    page, answer = found["users-100"]
    assert (page.workload, page.scheduled_s, page.completion_tokens) == ("static", -1.0, None)
    assert (answer.workload, answer.scheduled_s, answer.sent_s) == ("grpc_stream", 5.0, 5.25)
    assert (answer.first_token_s, answer.end_s, answer.completion_tokens) == (6.0, 8.0, 200)
    assert (answer.ending, answer.simulated, page.simulated) == (Ending.COMPLETE, True, False)
    stalled, abandoned = found["users-1000"]
    assert (stalled.ending, stalled.first_token_s, stalled.end_s) == (Ending.STALLED, None, None)
    assert abandoned.scheduled_s == pytest.approx(70.0)


def test_a_load_that_ended_in_its_first_step_keeps_its_requests() -> None:
    """And one without a request has none."""
    ((name, records),) = records_by_step(LoadRun(as_samples(_SAMPLES), (), ()))
    assert (name, len(records), records[0].scheduled_s) == ("users", 4, 0.0)
    assert list(records_by_step(LoadRun(as_samples([]), (), ()))) == []
