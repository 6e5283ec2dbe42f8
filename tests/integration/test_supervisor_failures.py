"""The supervisor with real children that fail, each in its own way."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from free_ports import free_port

from dreamseed_cli.core.errors import FailedError
from dreamseed_cli.core.paths import StateDir
from dreamseed_cli.engine.types import Command
from dreamseed_cli.profile.load import load_profile, parse_profile
from dreamseed_cli.profile.resilience import Supervision
from dreamseed_cli.profile.schema import Postgres, Profile, Redis, Services
from dreamseed_cli.supervisor.orphans import end_orphans, find_orphans
from dreamseed_cli.supervisor.snapshot import ReplicaSnapshot
from dreamseed_cli.supervisor.stack import StackPlan, plan_stack
from dreamseed_cli.supervisor.state import ChildRecord, write_children
from dreamseed_cli.supervisor.stopping import StopWish
from dreamseed_cli.supervisor.supervise import Supervisor

_BOUND_S = 120.0
QUICK = Supervision(first_backoff_s=0.05, longest_backoff_s=0.2, most_failures=3)
NO_SERVICES = Services(postgres=Postgres(mode="off"), redis=Redis(mode="off"))

# A stand-in for Docker's command: `run` starts the container in a session of its own, as the daemon
# would, and waits for it; `rm --force NAME` kills it. A killed `run` leaves its container running.
_DOCKER = """#!{python}
import os, pathlib, select, signal, subprocess, sys
box = pathlib.Path({folder!r})
verb, arguments = sys.argv[1], sys.argv[2:]
if verb == "run":
    name = arguments[arguments.index("--name") + 1]
    host, port, _ = arguments[arguments.index("--publish") + 1].split(":")
    engine = subprocess.Popen([{python!r}, "-m", "dreamseed_cli.engine.emulated", "--config",
                               str(box / "engine.json"), "--host", host, "--port", port],
                              start_new_session=True)
    (box / name).write_text(str(engine.pid))
    signal.signal(signal.SIGTERM, lambda *_: engine.terminate())
    sys.exit(engine.wait())
pid = box / arguments[-1]
if pid.exists():
    engine = os.pidfd_open(int(pid.read_text()))
    signal.pidfd_send_signal(engine, signal.SIGKILL)
    select.select([engine], [], [])  # as `docker rm --force`: it returns when the container is gone
    pid.unlink()
"""


@pytest.fixture
def state(tmp_path: Path) -> StateDir:
    """A state folder, made."""
    folder = StateDir(tmp_path / "s")
    folder.create()
    return folder


def _profile(**engine: Any) -> Profile:
    """Emulated engines on a free port, quick to stop."""
    profile = load_profile("emulated-rtx5090x3")
    gateway = profile.gateway.model_copy(update={"port": 0, "drain_timeout_s": 1.0})
    values = {"replicas": 1, "shutdown_timeout_s": 1, "start_timeout_s": 100.0, **engine}
    return profile.model_copy(
        update={
            "gateway": gateway,
            "engine": profile.engine.model_copy(update=values),
            "services": NO_SERVICES,
            "supervision": QUICK,
        }
    )


def _with_command(plan: StackPlan, index: int, argv: tuple[str, ...]) -> StackPlan:
    """The plan with another program for one replica."""
    replica = plan.replicas[index]
    assert replica.spec
    changed = replace(replica, spec=replace(replica.spec, command=Command(argv)))
    replicas = (*plan.replicas[:index], changed, *plan.replicas[index + 1 :])
    return replace(plan, replicas=replicas)


@asynccontextmanager
async def _running(plan: StackPlan, state: StateDir) -> AsyncIterator[tuple[Supervisor, asyncio.Task[None]]]:
    supervisor = Supervisor(plan, state, on_activity=lambda _: None, on_serving=lambda _: None)
    stop = StopWish()
    running = asyncio.create_task(supervisor.run(stop))
    try:
        yield supervisor, running
    finally:
        stop.requested.set()
        async with asyncio.timeout(_BOUND_S):
            await asyncio.gather(running, return_exceptions=True)
        assert not any(orphan.members for orphan in find_orphans(state))


async def _until(
    supervisor: Supervisor, condition: Callable[[tuple[ReplicaSnapshot, ...]], bool]
) -> tuple[ReplicaSnapshot, ...]:
    async with asyncio.timeout(_BOUND_S):
        while True:
            replicas = supervisor.snapshot()[1]
            if condition(replicas):
                return replicas
            await asyncio.sleep(0.05)


async def test_one_engine_out_of_memory_and_the_other_serves(state: StateDir) -> None:
    """It is tried a few times, then failed with its last words; the stack goes on with the other."""
    plan = plan_stack(_profile(replicas=2), state)
    spec = plan.replicas[0].spec
    assert spec
    plan = _with_command(plan, 0, (*spec.command.argv, "--fail-start", "oom"))
    async with _running(plan, state) as (supervisor, running):
        failed, _ = await _until(
            supervisor, lambda found: [replica.state for replica in found] == ["failed", "ready"]
        )
        assert failed.reason == "crash_loop"
        assert failed.restarts == 2
        assert "3 failures in a row, the last one: out_of_gpu_memory" in failed.detail
        assert "OutOfMemoryError" in failed.detail
        assert not running.done()


async def test_an_engine_that_never_answers_is_ended(state: StateDir) -> None:
    """Each time after start_timeout_s; then it is failed, and with it the last replica."""
    plan = _with_command(plan_stack(_profile(start_timeout_s=0.5), state), 0, ("sleep", "100"))
    async with _running(plan, state) as (_, running):
        async with asyncio.timeout(_BOUND_S):
            with pytest.raises(FailedError, match="start_timeout"):
                await running


async def test_an_engine_program_that_is_not_there(state: StateDir) -> None:
    """The error names the program."""
    plan = _with_command(plan_stack(_profile(), state), 0, ("/no/such/engine",))
    async with _running(plan, state) as (_, running):
        async with asyncio.timeout(_BOUND_S):
            with pytest.raises(FailedError, match="/no/such/engine"):
                await running


async def test_a_remote_engine_that_refuses_the_model(state: StateDir) -> None:
    """A 404 will stay one: no waiting for start_timeout_s."""

    async def refuse(_: web.Request) -> web.Response:
        return web.json_response({"error": {"message": "no model 'm' here"}}, status=404)

    application = web.Application()
    application.router.add_post("/v1/chat/completions", refuse)
    runner = web.AppRunner(application)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    assert site.name
    engine = {"kind": "remote", "urls": [site.name], "model": "m", "start_timeout_s": 600.0}
    data = {"name": "far", "description": "x", "engine": engine, "gateway": {"port": 0}}
    profile = parse_profile(data, source="test").model_copy(update={"services": NO_SERVICES})
    try:
        async with _running(plan_stack(profile, state), state) as (_, running):
            async with asyncio.timeout(_BOUND_S):
                with pytest.raises(FailedError, match="no model 'm' here"):
                    await running
    finally:
        await runner.cleanup()


async def test_a_container_outlives_no_dead_client(
    state: StateDir, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When `docker run` is killed its container would go on and hold the card: it goes before the next."""
    box = _install_docker(tmp_path, monkeypatch)
    plan = _docker_plan(state)
    async with _running(plan, state) as (supervisor, running):
        (ready,) = await _until(supervisor, lambda found: found[0].state == "ready")
        assert ready.pid is not None
        container = int(next(box.glob("dreamseed-*-r0")).read_text())
        os.kill(ready.pid, signal.SIGKILL)
        (again,) = await _until(supervisor, lambda found: found[0].pid not in {None, ready.pid})
        assert not _runs(container)
        (again,) = await _until(supervisor, lambda found: found[0].state == "ready")
        assert again.restarts == 1
        assert not running.done()


async def test_a_container_that_a_killed_supervisor_left_is_removed(
    state: StateDir, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is on record by its name, its client may be long gone."""
    box = _install_docker(tmp_path, monkeypatch)
    async with _running(_docker_plan(state), state) as (supervisor, _):
        await _until(supervisor, lambda found: found[0].state == "ready")
        container = int(next(box.glob("dreamseed-*-r0")).read_text())
        records = [orphan.record for orphan in find_orphans(state) if orphan.record.container]
        dead = [ChildRecord(r.name, r.role, r.endpoint, r.leader, (), r.container) for r in records]
        write_children(state, [replace(r, leader=replace(r.leader, started=1.0)) for r in dead])
        await asyncio.to_thread(end_orphans, find_orphans(state))
        assert not _runs(container)


def _install_docker(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    box = folder / "box"
    box.mkdir()
    program = box / "docker"
    program.write_text(_DOCKER.format(python=sys.executable, folder=str(box)))
    program.chmod(0o755)
    (box / "engine.json").write_text(_profile().engine.model_dump_json())
    monkeypatch.setenv("PATH", f"{box}{os.pathsep}{os.environ['PATH']}")
    return box


def _docker_plan(state: StateDir) -> StackPlan:
    profile = load_profile("rtx5090x1")
    engine = profile.engine.model_copy(
        update={"launcher": "docker", "served_name": _profile().engine.served_name, "shutdown_timeout_s": 1}
    )
    gateway = profile.gateway.model_copy(update={"port": 0, "drain_timeout_s": 1.0})
    port = free_port()
    return plan_stack(
        profile.model_copy(update={"engine": engine, "gateway": gateway, "services": NO_SERVICES}),
        state,
        free_ports=[port],
    )


def _runs(pid: int) -> bool:
    """Whether a pid runs; a zombie that nobody waits for does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


async def test_state_that_cannot_be_written_does_not_end_the_service(state: StateDir) -> None:
    """A full disk stops the records, not the engines: one crashes, the other goes on serving."""
    plan = plan_stack(_profile(replicas=2), state)
    records = state.root / "children.json"
    async with _running(plan, state) as (supervisor, running):
        ready = await _until(supervisor, lambda found: all(replica.state == "ready" for replica in found))
        records.unlink()
        (records / "in-the-way").mkdir(parents=True)  # as root, only this makes writing fail
        assert ready[0].pid is not None
        os.kill(ready[0].pid, signal.SIGKILL)
        await _until(supervisor, lambda found: found[0].restarts == 1 and found[0].state == "ready")
        assert not running.done()
        shutil.rmtree(records)
