"""Help under its keeper: hooks that start and stop an emulated engine, the gateway's targets, the money."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from free_ports import free_port
from gateway_harness import until

from dreamseed_cli.core.paths import StateDir
from dreamseed_cli.core.processes import ProcessIdentity
from dreamseed_cli.engine import client
from dreamseed_cli.engine.client import EngineClient
from dreamseed_cli.engine.types import Endpoint, GenerationRequest
from dreamseed_cli.gateway.settings import ReplicaTarget
from dreamseed_cli.profile.resilience import Failover
from dreamseed_cli.profile.schema import EmulatedCard, EmulatedEngine
from dreamseed_cli.supervisor.failover import engines, hooks, keeper, policy
from dreamseed_cli.supervisor.failover.keeper import FailoverKeeper, stop_bound_s

_START = """
import subprocess, sys
log, pid_file, *argv = sys.argv[1:]
process = subprocess.Popen(
    argv, stdin=subprocess.DEVNULL, stdout=open(log, "ab"), stderr=subprocess.STDOUT, start_new_session=True
)
open(pid_file, "w").write(str(process.pid))
print("started")
"""
_STOP = """
import os, pathlib, signal, sys, time
pid_file = pathlib.Path(sys.argv[1])
if pid_file.exists():
    pid = int(pid_file.read_text())
    os.kill(pid, signal.SIGTERM)
    for _ in range(200):
        try:
            os.kill(pid, 0)
            if pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                break
        except OSError:
            break
        time.sleep(0.02)
    pid_file.unlink()
print("stopped")
"""
_MODEL = "emulated-help"


@pytest.fixture(autouse=True)
def _often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keeper, "_TICK_S", 0.05)
    monkeypatch.setattr(keeper, "_PROBE_S", 0.1)
    monkeypatch.setattr(keeper, "_PROBE_STARTING_S", 0.1)
    monkeypatch.setattr(keeper, "_DRAIN_POLL_S", 0.1)
    monkeypatch.setattr(engines, "CANARY_EVERY_S", 0.3)
    monkeypatch.setattr(hooks, "_POLL_S", 0.05)
    monkeypatch.setattr(policy, "FIRST_PAUSE_S", 0.3)


@dataclass
class Cloud:
    """A cloud of one engine, which hooks start and stop."""

    folder: Path
    url: str
    start: tuple[str, ...] = ()
    stop: tuple[str, ...] = ()
    targets: list[tuple[ReplicaTarget, ...]] = field(default_factory=list)
    states: list[str] = field(default_factory=list)

    @property
    def state(self) -> StateDir:
        return StateDir(self.folder / "state")

    def engine(self) -> ProcessIdentity | None:
        """The engine that runs now."""
        try:
            return ProcessIdentity.of(int((self.folder / "pid").read_text()))
        except (FileNotFoundError, ValueError):
            return None

    def settings(self, **changes: Any) -> Failover:
        times = {"after_s": 0.2, "back_after_s": 0.3, "ready_within_s": 60.0, "hook_timeout_s": 60.0}
        hooks_ = {"start": self.start, "stop": self.stop}
        fields: dict[str, Any] = {"urls": (self.url,), "usd_per_hour": 360.0, "usd_per_month": 1000.0}
        return Failover(**(times | hooks_ | fields | changes))


def _emulated(**changes: Any) -> EmulatedEngine:
    card = EmulatedCard(
        source="a test",
        prefill_tokens_per_s=1e6,
        decode_step_ms=20.0,
        decode_step_ms_per_seq=0.0,
        kv_cache_tokens=500_000,
    )
    return EmulatedEngine(kind="emulated", served_name=_MODEL, card=card, **changes)


@pytest.fixture
def cloud(tmp_path: Path) -> Iterator[Cloud]:
    """An engine on a free port that nobody has started yet; gone at the end."""
    port = free_port()
    config = tmp_path / "engine.json"
    config.write_text(_emulated().model_dump_json())
    pid = str(tmp_path / "pid")
    python = (sys.executable, "-m", "dreamseed_cli.engine.emulated", "--config", str(config))
    engine = (*python, "--host", "127.0.0.1", "--port", str(port))
    found = Cloud(tmp_path, f"http://127.0.0.1:{port}")
    found.start = (sys.executable, "-c", _START, str(tmp_path / "engine.log"), pid, *engine)
    found.stop = (sys.executable, "-c", _STOP, pid)
    found.state.create()
    yield found
    if (left := found.engine()) is not None:
        with suppress(ProcessLookupError):
            _signal(left, signal.SIGKILL)


def _signal(identity: ProcessIdentity, signum: signal.Signals) -> None:
    process = identity.process()
    if process is not None:
        process.send_signal(signum)


@asynccontextmanager
async def _keeping(
    cloud: Cloud, *, start_timeout_s: float = 0.01, drain_s: float = 5.0, killed: bool = False, **changes: Any
) -> AsyncIterator[FailoverKeeper]:
    """A keeper that runs. killed: whether it ends without its stop, as by `kill -9`."""

    def changed(before: policy.Help, after: policy.Help) -> None:
        if before.state is not after.state:
            cloud.states.append(after.state.value)

    kept = FailoverKeeper(
        cloud.settings(**changes),
        engine=_emulated(start_timeout_s=start_timeout_s),
        state=cloud.state,
        on_targets=cloud.targets.append,
        on_change=changed,
        drain_timeout_s=drain_s,
    )
    running = asyncio.create_task(kept.run())
    try:
        yield kept
    finally:
        if killed:
            running.cancel()
            await kept._end_probes()
            await asyncio.gather(running, *(each.close() for each in kept._engines), return_exceptions=True)
        else:
            await asyncio.wait_for(kept.stop(), 120)
            await running


async def _until_state(kept: FailoverKeeper, state: str) -> None:
    await until(lambda: kept.snapshot().state == state)


def _ready(targets: tuple[ReplicaTarget, ...]) -> list[tuple[str, bool]]:
    return [(target.name, target.ready) for target in targets]


def _ledger(cloud: Cloud) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((cloud.state.root / "failover-ledger.json").read_text())
    return content


async def test_a_whole_round(cloud: Cloud) -> None:
    """Called when capacity is low, given to the gateway after its token, sent home when capacity is back."""
    started: list[str] = []
    async with _keeping(cloud) as kept:
        kept.on_hook_started = lambda: started.extend(child.spec.name for child in kept.children())
        kept.observe(3, 3)
        await _until_state(kept, "standby")
        assert cloud.engine() is None
        kept.observe(1, 3)
        await _until_state(kept, "serving")
        assert cloud.engine()
        assert _ready(cloud.targets[-1]) == [("f0", True)]
        target = cloud.targets[-1][0]
        assert (target.endpoint, target.model) == (cloud.url, _MODEL)
        shown = kept.snapshot()
        assert shown.engines[0].answers
        assert shown.engines[0].simulated
        assert shown.running
        assert 0 < shown.usd_this_month < 5
        assert shown.last_hook
        assert (shown.last_hook.hook, shown.last_hook.last_lines) == ("start", ("started",))
        kept.observe(3, 3)
        await _until_state(kept, "standby")
        assert cloud.engine() is None
        shown = kept.snapshot()
        assert not shown.running
        assert shown.usd_this_month > 0
        cost = _ledger(cloud)["months"]
        await asyncio.sleep(0.2)
    assert _ledger(cloud) == {"months": cost, "running": None, "unknown": ""}
    assert cloud.states == ["waiting", "starting", "serving", "returning", "stopping", "standby", "off"]
    assert [_ready(each) for each in cloud.targets] == [[("f0", True)], [("f0", False)], []]
    assert started == ["failover-start", "failover-stop"]


async def test_capacity_that_flaps_calls_nobody(cloud: Cloud) -> None:
    """It must be low without interruption."""
    async with _keeping(cloud, after_s=2.0) as kept:
        for _ in range(8):
            kept.observe(1, 3)
            await asyncio.sleep(0.3)
            kept.observe(3, 3)
    assert set(cloud.states) == {"waiting", "standby", "off"}


async def test_running_requests_end_before_it_is_stopped(cloud: Cloud) -> None:
    """It gets no new ones; the stop hook waits for those it has."""
    async with _keeping(cloud, drain_s=60.0) as kept:
        kept.observe(1, 3)
        await _until_state(kept, "serving")
        asker = EngineClient(Endpoint(url=cloud.url), model=_MODEL, api="chat", usage_per_chunk=True)
        request = GenerationRequest("r", "Tell me", max_tokens=120, temperature=0.0, top_p=1.0)

        async def generate() -> str:
            parts = [chunk async for chunk in asker.stream(request, timeout_s=60)]
            return parts[-1].finish_reason or ""

        answer = asyncio.create_task(generate())
        await until(lambda: _busy(asker))
        kept.observe(3, 3)
        await _until_state(kept, "standby")
        assert answer.done()
        assert await answer in {"stop", "length"}
        await asker.close()


async def _busy(asker: EngineClient) -> bool:
    metrics = await asker.metrics()
    return metrics is not None and metrics.running > 0


async def test_an_engine_that_stops_answering_is_taken_out_and_in_again(
    cloud: Cloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By its health or its token; it stays called meanwhile."""
    monkeypatch.setattr(engines, "CANARY_TIMEOUT_S", 1.0)
    monkeypatch.setattr(client, "_PROBE_TIMEOUT_S", 0.5)
    async with _keeping(cloud) as kept:
        kept.observe(1, 3)
        await _until_state(kept, "serving")
        engine = cloud.engine()
        assert engine
        _signal(engine, signal.SIGSTOP)
        await until(lambda: _ready(cloud.targets[-1]) == [("f0", False)])
        assert kept.snapshot().state == "serving"
        assert kept.snapshot().detail == "no engine of it answers"
        assert kept.snapshot().engines[0].obstacle
        _signal(engine, signal.SIGCONT)
        await until(lambda: _ready(cloud.targets[-1]) == [("f0", True)])


async def test_a_stack_that_goes_down_stops_its_help(cloud: Cloud) -> None:
    """`dreamseed stop` ends what costs."""
    async with _keeping(cloud) as kept:
        kept.observe(1, 3)
        await _until_state(kept, "serving")
    assert cloud.engine() is None
    assert cloud.states[-2:] == ["stopping", "off"]
    assert cloud.targets[-1] == ()
    assert _ledger(cloud)["running"] is None


async def test_a_stack_that_goes_down_during_the_start_hook(cloud: Cloud) -> None:
    """The hook is ended, and the stop hook runs: something may have been started."""
    mark = cloud.folder / "stopped"
    stop = (sys.executable, "-c", "import sys; open(sys.argv[1], 'w')", str(mark))
    sleeper = (sys.executable, "-c", "import time; time.sleep(60)")
    async with _keeping(cloud, start=sleeper, stop=stop) as kept:
        kept.observe(0, 3)
        await until(lambda: bool(kept.children()))
        began = time.monotonic()
    assert time.monotonic() - began < 30  # hook_timeout_s is 60
    assert mark.exists()
    assert _ledger(cloud)["running"] is None


async def test_the_cap_sends_it_home(cloud: Cloud) -> None:
    """Once what is left pays for stopping it only, whatever the capacity; and it is not called again."""
    price = 3600.0  # a dollar a second
    async with _keeping(
        cloud, usd_per_hour=price, usd_per_month=32.5, hook_timeout_s=25.0, drain_s=5.0
    ) as kept:
        kept.observe(0, 3)
        await _until_state(kept, "spent")
        assert cloud.engine() is None
        shown = kept.snapshot()
        assert "the month's cap" in shown.detail
        assert 2.5 <= shown.usd_this_month < 32.5
        await asyncio.sleep(0.5)
        assert kept.snapshot().usd_this_month == shown.usd_this_month
    assert cloud.states.count("starting") == 1


async def test_a_killed_stack_finds_its_help_again(cloud: Cloud) -> None:
    """It was counted up to the kill, is counted on, used without a new start, and stopped."""
    async with _keeping(cloud, killed=True) as kept:
        kept.observe(0, 3)
        await _until_state(kept, "serving")
    before = cloud.engine()
    assert before
    assert before.alive()
    cloud.states.clear()
    async with _keeping(cloud) as kept:
        kept.observe(0, 3)
        await _until_state(kept, "serving")
        assert cloud.engine() == before
        assert kept.snapshot().usd_this_month > 0
        kept.observe(3, 3)
        await _until_state(kept, "standby")
    assert cloud.states[0] == "starting"
    assert not before.alive()


async def test_help_that_is_no_longer_configured_is_stopped_by_the_command_on_record(cloud: Cloud) -> None:
    """It costs until somebody stops it."""
    async with _keeping(cloud, killed=True) as kept:
        kept.observe(0, 3)
        await _until_state(kept, "serving")
    cloud.states.clear()
    async with _keeping(cloud, urls=()) as kept:
        await until(lambda: cloud.engine() is None)
        await _until_state(kept, "off")
    assert cloud.states[0] == "stopping"
    assert _ledger(cloud)["running"] is None


async def test_a_start_that_fails_is_stopped_and_tried_again(cloud: Cloud) -> None:
    """After a pause; what failed is shown word by word."""
    failing = (sys.executable, "-c", "raise SystemExit('ZONE_RESOURCE_POOL_EXHAUSTED')")
    async with _keeping(cloud, start=failing) as kept:
        kept.observe(0, 3)
        await _until_state(kept, "failed")
        assert "exited with code 1 (ZONE_RESOURCE_POOL_EXHAUSTED)" in kept.snapshot().detail
        assert kept.snapshot().last_hook
        await until(lambda: cloud.states.count("starting") == 2)
    starts_and_stops = [state for state in cloud.states if state in {"starting", "stopping"}]
    assert starts_and_stops[:3] == ["starting", "stopping", "starting"]
    assert not any(cloud.targets)


async def test_help_without_a_token_in_time_has_failed(cloud: Cloud) -> None:
    """The instance came up, its engine did not: it is stopped, so that it costs nothing."""
    nothing = (sys.executable, "-c", "")
    async with _keeping(cloud, start=nothing, ready_within_s=0.5) as kept:
        kept.observe(0, 3)
        await _until_state(kept, "failed")
        assert "no token within" in kept.snapshot().detail
        assert not kept.snapshot().running


async def test_a_stop_hook_that_fails_at_the_end_is_told_and_stays_on_record(cloud: Cloud) -> None:
    """The next start finds that help may still run."""
    failing = (sys.executable, "-c", "raise SystemExit('no network')")
    async with _keeping(cloud, stop=failing) as kept:
        kept.observe(0, 3)
        await _until_state(kept, "serving")
    assert "may still run and cost" in kept.snapshot().detail
    assert kept.snapshot().running
    assert _ledger(cloud)["running"]["stop"] == list(failing)


async def test_a_rehearsal_runs_and_costs_nothing(cloud: Cloud) -> None:
    """The engine is there anyway; the state says that it is a rehearsal."""
    async with _keeping(cloud, dry_run=True, ready_within_s=0.5) as kept:
        kept.observe(0, 3)
        await _until_state(kept, "failed")
        shown = kept.snapshot()
        assert shown.dry_run
        assert shown.last_hook
        assert shown.last_hook.dry
        assert shown.last_hook.argv == cloud.stop
        assert (shown.usd_this_month, shown.running) == (0, False)
    assert cloud.engine() is None
    assert not (cloud.state.root / "failover-ledger.json").exists()


async def test_a_rehearsal_leaves_real_help_on_record(cloud: Cloud) -> None:
    """It stops nothing, and its cost goes on to be counted."""
    async with _keeping(cloud, killed=True) as kept:
        kept.observe(0, 3)
        await _until_state(kept, "serving")
    async with _keeping(cloud, dry_run=True) as kept:
        await until(lambda: kept.snapshot().running)
        kept.observe(3, 3)
        assert kept.snapshot().state == "standby"
    assert _ledger(cloud)["running"]
    assert cloud.engine()


async def test_a_damaged_ledger_stops_what_may_run_and_calls_nobody(cloud: Cloud) -> None:
    """Until an operator has looked, or the month is over."""
    (cloud.state.root / "failover-ledger.json").write_text("{torn")
    async with _keeping(cloud) as kept:
        kept.observe(0, 3)
        await _until_state(kept, "spent")
        assert "not known" in kept.snapshot().detail
        assert kept.snapshot().last_hook
        await asyncio.sleep(0.5)
    assert cloud.states == ["starting", "stopping", "spent", "off"]
    assert list(cloud.state.root.glob("failover-ledger.json.damaged-*"))


async def test_a_cost_that_cannot_be_noted_is_not_incurred(
    cloud: Cloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full disk: after a crash nobody would know that help runs."""

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("dreamseed_cli.supervisor.failover.ledger_file.write_atomically", full)
    async with _keeping(cloud) as kept:
        kept.observe(0, 3)
        await _until_state(kept, "failed")
        assert "No space left" in kept.snapshot().detail
    assert cloud.engine() is None


async def test_a_missing_api_key_is_named(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its variable, never its value."""
    monkeypatch.delenv("DS_HELP_KEY", raising=False)
    async with _keeping(cloud, api_key_env="DS_HELP_KEY") as kept:
        kept.observe(0, 3)
        await until(lambda: "DS_HELP_KEY" in kept.snapshot().engines[0].obstacle)


async def test_a_second_ctrl_c_ends_the_stop_hook_too(cloud: Cloud) -> None:
    """Whoever hastens is told what may still run."""
    sleeper = (sys.executable, "-c", "import time; time.sleep(60)")
    hasten = asyncio.Event()
    async with _keeping(cloud, stop=sleeper) as kept:
        kept.observe(0, 3)
        await _until_state(kept, "serving")
        hasten.set()
        await asyncio.wait_for(kept.stop(hasten), 40)
    assert kept.snapshot().running


async def test_observed_before_it_runs_and_stopped_without(cloud: Cloud) -> None:
    """The supervisor need not know in which order things begin."""
    kept = FailoverKeeper(
        cloud.settings(),
        engine=_emulated(),
        state=cloud.state,
        on_targets=cloud.targets.append,
        on_change=lambda *_: None,
    )
    kept.observe(0, 3)
    await kept.stop()
    assert not cloud.targets
    assert stop_bound_s(cloud.settings(hook_timeout_s=10.0)) == 65.0
    assert stop_bound_s(Failover()) == 0.0
