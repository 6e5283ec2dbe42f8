"""One process of users: takes its number of them from the master, records what they see."""

from __future__ import annotations

import gc
import json
import os
import ssl
import sys
import time
from pathlib import Path
from typing import Any

import gevent  # type: ignore[import-untyped]
import locust.runners
from gevent.socket import wait_read  # type: ignore[import-untyped]
from locust.env import Environment
from locust.runners import WorkerRunner

from dreamseed_cli.bench.limits import raise_descriptor_limit
from dreamseed_cli.bench.locust_users.desk import Desk
from dreamseed_cli.bench.locust_users.grpc_line import GrpcLine
from dreamseed_cli.bench.locust_users.plan import Errand
from dreamseed_cli.bench.locust_users.samples import Recorder
from dreamseed_cli.bench.locust_users.users import Learner

_TICK_S = 0.01
_TICKS_A_FLUSH = 50
REPORT_S = 1.0


def work(errand: Errand, index: int, port: int) -> None:
    """Run users until the master says quit, or stdin ends."""
    raise_descriptor_limit()
    recorder = Recorder(Path(errand.folder), index)
    environment = Environment(user_classes=[Learner], host=None)
    line = _line(errand, recorder)
    Learner.desk = Desk(errand, index, recorder, line)
    Learner.network_timeout = errand.stall_s
    Learner.connection_timeout = min(errand.stall_s, 10.0)
    Learner.ssl_context_factory = staticmethod(lambda: _trust(errand.ca_file))
    locust.runners.WORKER_REPORT_INTERVAL = REPORT_S
    # What the users are made of stays: collections need not look at it again and pause for less long.
    events: Any = environment.events
    events.spawning_complete.add_listener(lambda **_: gc.freeze())
    runner = environment.create_worker_runner("127.0.0.1", port)
    events.test_stop.add_listener(lambda **_: _report(runner))
    helpers = [gevent.spawn(_tick, runner, recorder), gevent.spawn(_follow_stdin, runner)]
    try:
        runner.greenlet.join()
    finally:
        gevent.killall(helpers)
        if line is not None:
            line.close()
        recorder.close()
        path = Path(errand.folder) / f"details-{index}.json"
        path.write_text(json.dumps(recorder.details), encoding="utf-8")


def _line(errand: Errand, recorder: Recorder) -> GrpcLine | None:
    if not errand.gateway:
        return None

    def lost(code: int) -> None:
        recorder.flush()
        sys.stderr.write(f"the process that asks over gRPC ended with code {code}\n")
        sys.stderr.flush()
        os._exit(1)

    # Its ticks are told later: by then a step's users may be gone.
    return GrpcLine(errand, recorder.tick, lost)


def _report(runner: WorkerRunner) -> None:
    """What no report told yet: the master waits for none once it has heard that the users are gone."""
    data: dict[str, Any] = {}
    events: Any = runner.environment.events
    events.report_to_master.fire(client_id=runner.client_id, data=data)
    runner.send_message("stats", data)


def _tick(runner: WorkerRunner, recorder: Recorder) -> None:
    """Write down how late the loop is. A pause of half a second is fifty late ticks, not one."""
    due_s, number = time.monotonic(), 0
    while True:
        due_s += _TICK_S
        gevent.sleep(max(0.0, due_s - time.monotonic()))
        now = time.monotonic()
        recorder.tick(now, (now - due_s) * 1000, runner.user_count)
        number += 1
        if number % _TICKS_A_FLUSH == 0:
            recorder.flush()


def _follow_stdin(runner: WorkerRunner) -> None:
    """Whoever started this is gone or wants an end now: what is under way is ABANDONED, not waited for."""
    wait_read(0)
    runner.user_greenlets.kill()
    runner.greenlet.kill(block=False)


def _trust(ca_file: str | None) -> Any:
    return ssl.create_default_context(cafile=ca_file)
