"""Locust's master: takes the users up the plan's steps, and says where it is: a JSON document a line."""

from __future__ import annotations

import json
import sys
import time
from typing import Any

import gevent  # type: ignore[import-untyped]
import locust.runners
from gevent.socket import wait_read  # type: ignore[import-untyped]
from locust.env import Environment
from locust.runners import MasterRunner

from dreamseed_cli.bench.locust_users.plan import Errand, Step
from dreamseed_cli.bench.locust_users.users import Learner
from dreamseed_cli.bench.locust_users.worker import REPORT_S

_GATHER_S = 60.0


def lead(errand: Errand) -> int:
    """Run the plan; 0, or 4 if its processes did not gather. stdin's end ends it early."""
    locust.runners.WORKER_REPORT_INTERVAL = REPORT_S
    environment = Environment(user_classes=[Learner], stop_timeout=errand.plan.grace_s)
    runner = environment.create_master_runner("127.0.0.1", 0)
    _say("listening", port=runner.server.port)
    told_to_end = gevent.spawn(wait_read, 0)
    steps = gevent.spawn(_climb, runner, errand)
    ticker = gevent.spawn(_tick, runner)
    gevent.wait([told_to_end, steps], count=1)
    whole = steps.ready()
    if not whole:
        environment.stop_timeout = 0
        steps.kill()
    ticker.kill()
    gathered = bool(steps.value) if whole else True
    runner.quit()
    total = environment.stats.total
    _say("finished", requests=total.num_requests, failures=total.num_failures, whole=whole and gathered)
    return 0 if gathered else 4


def _climb(runner: MasterRunner, errand: Errand) -> bool:
    if not _gathered(runner, errand.plan.processes):
        return False
    for step in errand.plan.steps:
        _hold(runner, step)
    runner.stop()
    return True


def _gathered(runner: MasterRunner, processes: int) -> bool:
    deadline = time.monotonic() + _GATHER_S
    while len(runner.clients.ready) < processes:
        if time.monotonic() > deadline:
            _say("failed", reason=f"{len(runner.clients.ready)} of {processes} load processes came")
            return False
        gevent.sleep(0.05)
    return True


def _hold(runner: MasterRunner, step: Step) -> None:
    began_s = time.monotonic()
    before = runner.user_count
    runner.start(step.users, max(1.0, (step.users - before) / max(step.ramp_s, 1e-3)))
    spawned_s = time.monotonic()
    gevent.sleep(step.hold_s)
    _say("step", users=step.users, began_s=began_s, spawned_s=spawned_s, ended_s=time.monotonic())


def _tick(runner: MasterRunner) -> None:
    while True:
        gevent.sleep(1.0)
        total = runner.stats.total
        _say(
            "tick",
            users=runner.user_count,
            rate=round(total.current_rps, 1),
            failures=total.num_failures,
            missing=len(runner.clients.missing),
        )


def _say(event: str, **fields: Any) -> None:
    sys.stdout.write(json.dumps({"event": event, **fields}) + "\n")
    sys.stdout.flush()
