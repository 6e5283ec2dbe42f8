"""A cell's requests are the same ones however many processes make them."""

from __future__ import annotations

import json
from itertools import islice
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dreamseed_cli.bench.limits import processes_for, require_descriptors
from dreamseed_cli.bench.messages import Order
from dreamseed_cli.bench.plan_load import closed_plan, open_plan, replay_plan
from dreamseed_cli.bench.records import Job
from dreamseed_cli.bench.shapes import Cell, Rate, Replay, Shape, Streams, TargetSpec, Users
from dreamseed_cli.bench.workload.trace import TraceEntry
from dreamseed_cli.core.errors import UsageError

_TARGET = TargetSpec(kind="openai", address="http://127.0.0.1:1")


class _Maker:
    def job(self, cell: Cell, number: int, entry: TraceEntry | None = None) -> Job:
        tokens = entry.output_tokens if entry is not None else 1
        return Job(number=number, workload=cell.workload, prompt="", wanted_tokens=tokens)


def _cell(shape: Shape, requests: int | None = None, duration_s: float = 5.0) -> Cell:
    return Cell(name="cell", shape=shape, duration_s=duration_s, seed=3, requests=requests)


def _orders(cell: Cell, processes: int) -> list[Order]:
    return [Order(cell, _TARGET, index, processes) for index in range(processes)]


@given(st.integers(1, 9), st.none() | st.integers(0, 60))
def test_an_open_load_is_one_plan(processes: int, requests: int | None) -> None:
    """The processes' plans together are the plan of a single process, cut off at the cell's requests."""
    shape = Rate(20.0)
    cell = _cell(shape, requests)

    def planned(count: int) -> list[tuple[float, int]]:
        plans = [open_plan(order, shape, _Maker()) for order in _orders(cell, count)]
        return sorted((due_s, job.number) for plan in plans for due_s, job in plan)

    assert planned(processes) == planned(1)
    assert [number for _, number in planned(processes)] == list(range(len(planned(1))))
    assert requests is None or len(planned(1)) <= requests


@given(st.integers(1, 9), st.integers(1, 40), st.none() | st.integers(0, 100))
def test_streams_never_share_a_number(processes: int, count: int, requests: int | None) -> None:
    """Each stream has numbers of its own, and with `requests` all of these are used and no others."""
    shape = Streams(count)
    cell = _cell(shape, requests)
    streams = [stream for order in _orders(cell, processes) for stream in closed_plan(order, shape, _Maker())]
    assert len(streams) == count
    numbers = [
        job.number for stream in streams for job in islice(stream.jobs, 5 if requests is None else 200)
    ]
    assert sorted(numbers) == list(range(5 * count if requests is None else requests))


def test_users_have_names_and_thoughts_of_their_own() -> None:
    """The same users whether one process or two play them."""
    shape = Users(count=5, think_s=2.0)

    def users(processes: int) -> list[tuple[str, list[float]]]:
        return sorted(
            (stream.user, list(islice(stream.thinking, 3)))
            for order in _orders(_cell(shape, duration_s=60.0), processes)
            for stream in closed_plan(order, shape, _Maker())
        )

    assert users(2) == users(1)
    assert len({name for name, _ in users(1)}) == 5


def test_a_replay_asks_what_was_recorded(tmp_path: Path) -> None:
    """The recorded lengths at the recorded times, at the asked speed."""
    path = tmp_path / "trace.jsonl"
    lines = [{"at_s": at_s, "prompt_tokens": 5, "output_tokens": 10 + at_s} for at_s in (0, 2, 4)]
    path.write_text("\n".join(map(json.dumps, lines)))
    shape = Replay(str(path), 4.0, speed=2.0)
    plans = [replay_plan(order, shape, _Maker()) for order in _orders(_cell(shape), 2)]
    asked = sorted((due_s, job.wanted_tokens) for plan in plans for due_s, job in plan)
    assert asked == [(0.0, 10), (1.0, 12), (2.0, 14)]


@pytest.mark.parametrize(
    ("shape", "cores", "processes"),
    [
        (Streams(1000), 8, 1),
        (Streams(1001), 8, 2),
        (Streams(10_000), 2, 2),
        (Users(2500, think_s=1.0), 8, 3),
        (Rate(300.0), 8, 1),
        (Rate(301.0), 8, 2),
        (Rate(0.1), 1, 1),
        (Replay("trace", 60.0), 8, 1),
    ],
)
def test_a_load_is_spread_as_far_as_it_needs(shape: Shape, cores: int, processes: int) -> None:
    """One process up to 1,000 streams or 300 requests/s; never more than cores."""
    assert processes_for(_cell(shape), cores) == processes


def test_too_few_descriptors_are_an_error_beforehand() -> None:
    """A stream needs an open file: the limit is named before anything is measured."""
    with pytest.raises(UsageError, match="5064 open files each, and the limit is 4096"):
        require_descriptors(_cell(Streams(10_000)), 2, 4096)
    require_descriptors(_cell(Streams(10_000)), 3, 4096)
    require_descriptors(_cell(Rate(10_000.0)), 1, 1024)
