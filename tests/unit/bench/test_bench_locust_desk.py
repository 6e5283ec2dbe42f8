"""What a user of the load asks a front for."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from dreamseed_cli.bench.locust_users.desk import Desk
from dreamseed_cli.bench.locust_users.plan import Errand, Kind, LoadPlan, Step
from dreamseed_cli.bench.locust_users.samples import Recorder


@pytest.mark.parametrize(("ours", "priority"), [(True, "standard"), (False, None)])
def test_users_of_our_front_ask_in_the_class_of_those_of_grpc(
    tmp_path: Path, ours: bool, priority: str | None
) -> None:
    """The front's own default is PREMIUM; somebody else's server is sent no such word."""
    plan = LoadPlan(steps=(Step(1, 0.0, 1.0),), interval_s=1.0, mix={Kind.CHAT: 1.0}, seed=1)
    errand = Errand(plan=plan, fronts=("http://a",), folder=str(tmp_path), ours=ours)
    recorder = Recorder(tmp_path, 0)
    body = Desk(errand, 0, recorder, None).chat_body("Why?", stream=True)
    recorder.close()
    assert body.get("priority") == priority


def test_two_runs_of_one_seed_share_no_beginning(tmp_path: Path) -> None:
    """Their users choose alike; an engine that saw the first run has seen no prompt of the second."""
    plan = LoadPlan(steps=(Step(1, 0.0, 1.0),), interval_s=1.0, mix={Kind.CHAT: 1.0}, seed=1)
    recorder = Recorder(tmp_path, 0)
    runs = []
    for nonce in ("a1b2", "c3d4"):
        desk = Desk(
            Errand(plan=plan, fronts=("http://a",), folder=str(tmp_path), nonce=nonce), 3, recorder, None
        )
        luck = random.Random(1)  # noqa: S311 - load, not secrets
        runs.append([desk.prompt(luck).partition(": ") for _ in range(3)])
    recorder.close()
    beginnings = [begin for prompts in runs for begin, _, _ in prompts]
    assert beginnings == [f"{number}-3-{nonce}" for nonce in ("a1b2", "c3d4") for number in range(3)]
    assert [rest for _, _, rest in runs[0]] == [rest for _, _, rest in runs[1]]
