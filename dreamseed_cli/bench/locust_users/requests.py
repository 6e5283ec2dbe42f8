"""Locust's requests as every other suite's are written down, step by step. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from dreamseed_cli.bench.locust_users.crew import LoadRun
from dreamseed_cli.bench.locust_users.samples import ENDINGS, KINDS, SIMULATED, Table
from dreamseed_cli.bench.records import Record


def records_by_step(run: LoadRun) -> Iterator[tuple[str, list[Record]]]:
    """`users-1000` and its requests, in seconds since its users began to come.

    What was due after the last step that ended, in one that was broken off, stands with that last one.
    """
    samples = run.samples
    if not len(samples):
        return
    if not run.steps:
        yield "users", _records(samples, float(samples["due_s"][0]))
        return
    starts = np.array([step.began_s for step in run.steps])
    owner = np.maximum(np.searchsorted(starts, samples["due_s"], side="right") - 1, 0)
    for index, step in enumerate(run.steps):
        yield f"users-{step.users}", _records(samples[owner == index], step.began_s)


def _records(samples: Table, epoch: float) -> list[Record]:
    return [
        Record(
            number=number,
            workload=KINDS[kind].value,
            scheduled_s=due_s - epoch,
            wanted_tokens=0,
            sent_s=_since(begun_s, epoch),
            first_token_s=_since(first_s, epoch),
            end_s=_since(end_s, epoch),
            completion_tokens=tokens or None,
            ending=ENDINGS[ending],
            simulated=bool(flags & SIMULATED),
            forced=False,
        )
        for number, (kind, ending, flags, _, _, due_s, begun_s, first_s, end_s, tokens) in enumerate(
            samples.tolist()
        )
    ]


def _since(at_s: float, epoch: float) -> float | None:
    return None if math.isnan(at_s) else at_s - epoch
