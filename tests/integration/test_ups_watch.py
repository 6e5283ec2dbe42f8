"""The watcher over the real apcupsd and the real upsd: what stops the box, and what does not."""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import structlog
from fake_nvml import FakeNvml
from ups_daemons import (
    CALIBRATION,
    LOST,
    LOW,
    ON_BATTERY,
    REPLACE,
    Apcupsd,
    MadeUpUps,
    NisServer,
    apcupsd,
    nis_server,
    nut,
)

from dreamseed_cli.core.errors import FailedError
from dreamseed_cli.core.paths import StateDir
from dreamseed_cli.profile.load import load_profile
from dreamseed_cli.profile.schema import Profile
from dreamseed_cli.profile.ups import Ups
from dreamseed_cli.ups.chosen import source_of
from dreamseed_cli.ups.journal import Shutdown, StepRecord, StepState, UpsFolder
from dreamseed_cli.ups.policy import Stage
from dreamseed_cli.ups.power_limit import PowerLimits
from dreamseed_cli.ups.records import read_power
from dreamseed_cli.ups.sequence import Outcome, Step
from dreamseed_cli.ups.steps import Steps
from dreamseed_cli.ups.watch import Sizes, Watcher

pytestmark = pytest.mark.usefixtures("ups_is_well")
_BOUND_S = 120.0


class TwoSteps(Steps):
    """One that can be undone and one that cannot, each as long as a test wants."""

    def __init__(self, state: StateDir, profile: Profile) -> None:
        super().__init__(state, profile, host=True)
        self.first, self.second = asyncio.Event(), asyncio.Event()
        self.reopened = False

    def all(self) -> list[Step]:
        return [
            Step("first", 60.0, lambda _: self._wait(self.first), reversible=True),
            Step("second", 60.0, lambda _: self._wait(self.second)),
        ]

    async def reopen(self) -> None:
        self.reopened = True

    async def _wait(self, event: asyncio.Event) -> Outcome:
        await event.wait()
        return Outcome()


def _rules(port: int, **changes: object) -> Ups:
    quick = {"hold_s": 1.0, "poll_s": 0.2, "answer_timeout_s": 10.0, "margin_s": 60.0, "host_down_s": 0.0}
    return Ups.model_validate({"source": "apcupsd", "port": port, **quick, **changes})


@asynccontextmanager
async def watching(
    folder: Path, rules: Ups
) -> AsyncIterator[tuple[Watcher, TwoSteps, asyncio.Task[Shutdown | None]]]:
    """A watcher that has seen its UPS on mains."""
    profile = load_profile("emulated-rtx5090x3").model_copy(update={"ups": rules})
    state = StateDir(folder)
    steps = TwoSteps(state, profile)
    watcher = Watcher(source_of(rules), rules, steps, UpsFolder.of(state), Sizes(2253.0, 1500.0))
    running = asyncio.create_task(watcher.run())
    try:
        await stage(watcher, Stage.MAINS)
        yield watcher, steps, running
    finally:
        steps.first.set()
        steps.second.set()
        watcher.stopped.set()
        await asyncio.wait_for(running, _BOUND_S)


async def becomes(condition: Callable[[], bool]) -> None:
    """Wait for it, within bounds."""
    deadline = asyncio.get_running_loop().time() + _BOUND_S
    while not condition():
        assert asyncio.get_running_loop().time() < deadline, "the condition did not come true"
        await asyncio.sleep(0.05)


async def stage(watcher: Watcher, *wanted: Stage) -> None:
    """Wait for one of these."""
    await becomes(lambda: watcher.power.stage in wanted)


async def stays_on_battery(watcher: Watcher) -> None:
    """The outage is seen, and for three times the hold nothing is decided."""
    await stage(watcher, Stage.BATTERY)
    await asyncio.sleep(3)
    assert watcher.power.stage is Stage.BATTERY


async def shut_down(steps: TwoSteps, running: asyncio.Task[Shutdown | None]) -> Shutdown:
    """Let both steps end; the shutdown as the watch ended with it."""
    steps.first.set()
    steps.second.set()
    shutdown = await asyncio.wait_for(running, _BOUND_S)
    assert shutdown is not None
    return shutdown


async def test_20_percent_goes_on_and_19_stops(tmp_path: Path, made_up: MadeUpUps, daemon: Apcupsd) -> None:
    """§H3's bound, in the real daemon's words; the outage is on record as one that stopped the box."""
    async with watching(tmp_path, _rules(daemon.port)) as (watcher, steps, running):
        made_up.fail_mains()
        made_up.charge = 20.0
        await stays_on_battery(watcher)
        made_up.charge = 19.0
        await stage(watcher, Stage.STOPPING)
        shutdown = await shut_down(steps, running)
    assert (shutdown.reason, shutdown.committed) == ("low_charge", True)
    assert [(step.name, step.state) for step in shutdown.steps] == [
        ("first", StepState.DONE),
        ("second", StepState.DONE),
    ]
    outage = next(
        one for one in read_power(UpsFolder.of(StateDir(tmp_path)).power_log) if one.kind == "outage"
    )
    assert outage.shut_down
    assert outage.least_charge_percent == 19.0
    assert outage.energy_kwh


async def test_a_shutdown_that_took_long_makes_the_next_begin_earlier(
    tmp_path: Path, made_up: MadeUpUps, daemon: Apcupsd
) -> None:
    """5 minutes measured, half a one for the host, and one of margin; by the boxes alone it would be half."""
    earlier = Shutdown.begin("rehearsal")
    earlier.steps.append(StepRecord("engines", StepState.DONE, 300.0, 300.0))
    UpsFolder.of(StateDir(tmp_path)).finish(earlier)
    async with watching(tmp_path, _rules(daemon.port, host_down_s=30.0)) as (watcher, _, _running):
        made_up.fail_mains()
        made_up.minutes = 6.6
        await stays_on_battery(watcher)
        made_up.minutes = 6.4
        await stage(watcher, Stage.STOPPING)
        assert watcher.power.reason == "time_left"


async def test_a_full_disk_keeps_no_box_from_stopping(
    tmp_path: Path, made_up: MadeUpUps, daemon: Apcupsd, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing can be recorded any more: the watch goes on, and every step comes."""

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    async with watching(tmp_path, _rules(daemon.port)) as (watcher, steps, running):
        for name in ("journal.write_atomically", "journal.append_line", "records.append_line"):
            monkeypatch.setattr(f"dreamseed_cli.ups.{name}", full)
        monkeypatch.setattr("dreamseed_cli.ups.textfile.write_atomically", full)
        with structlog.testing.capture_logs() as told:
            made_up.fail_mains()
            await stage(watcher, Stage.BATTERY)
            await asyncio.sleep(1)
            made_up.charge = 19.0
            await stage(watcher, Stage.STOPPING)
            shutdown = await shut_down(steps, running)
    assert [step.name for step in shutdown.steps] == ["first", "second"]
    unwritten = [Path(one["file"]).name for one in told if one["event"] == "ups_not_recorded"]
    assert sorted(unwritten) == sorted(set(unwritten))
    assert {"power.json", "power.jsonl", "shutdown.json", "shutdowns.jsonl"} <= set(unwritten)


async def test_flapping_mains_stop_nothing(tmp_path: Path, made_up: MadeUpUps, daemon: Apcupsd) -> None:
    """At 10 %: each return begins the hold anew."""
    async with watching(tmp_path, _rules(daemon.port, hold_s=40.0)) as (watcher, _, _running):
        made_up.charge = 10.0
        for _ in range(2):
            made_up.fail_mains()
            await stage(watcher, Stage.HOLDING)
            made_up.restore_mains()
            await stage(watcher, Stage.MAINS, Stage.STOPPING)
            assert watcher.power.stage is Stage.MAINS


async def test_a_calibration_stops_nothing_and_a_low_battery_does(
    tmp_path: Path,
) -> None:
    """A calibration drains the battery below every bound with the mains present. At a low battery apcupsd
    shuts down by itself, which no word from the UPS takes back.
    """
    (tmp_path / "own").mkdir()
    made_up = MadeUpUps()
    with nis_server(made_up) as server, apcupsd(tmp_path / "own", server.port) as own:
        async with watching(tmp_path, _rules(own.port)) as (watcher, _, _running):
            made_up.flags, made_up.charge = ON_BATTERY | CALIBRATION | LOW, 10.0
            await asyncio.sleep(4)
            assert watcher.power.stage is Stage.MAINS
            assert watcher.power.seen is not None
            assert watcher.power.seen.calibrating
            made_up.flags, made_up.line_v, made_up.charge = ON_BATTERY | LOW, 0.0, 90.0
            await stage(watcher, Stage.STOPPING)
            assert watcher.power.reason in {"low_battery", "told_to_stop"}


async def test_a_lost_ups_on_mains_is_only_told(
    tmp_path: Path, made_up: MadeUpUps, server: NisServer, daemon: Apcupsd
) -> None:
    """The daemon goes on answering, with COMMLOST."""
    async with watching(tmp_path, _rules(daemon.port)) as (watcher, _, _running):
        made_up.flags = LOST
        await becomes(lambda: watcher.power.blind_since is not None)
        await asyncio.sleep(2)
        assert watcher.power.stage is Stage.MAINS


@pytest.mark.parametrize("daemon_dies", [True, False], ids=["the daemon dies", "COMMLOST"])
async def test_a_ups_that_falls_silent_on_battery_is_counted_down(
    tmp_path: Path, made_up: MadeUpUps, server: NisServer, daemon_dies: bool
) -> None:
    """From its last word, twice as fast: 4 minutes become 2, less what the shutdown needs."""
    made_up.minutes = 184.0 / 60
    (tmp_path / "own").mkdir()
    with apcupsd(tmp_path / "own", server.port) as own:
        async with watching(tmp_path, _rules(own.port)) as (watcher, _, _running):
            made_up.fail_mains()
            await stage(watcher, Stage.BATTERY)
            if daemon_dies:
                own.stop()
            else:
                made_up.flags = ON_BATTERY | LOST
            await stage(watcher, Stage.STOPPING)
            assert watcher.power.blind_since is not None
            assert watcher.power.reason == "time_left"


async def test_mains_that_return_in_time_cancel(tmp_path: Path, made_up: MadeUpUps, daemon: Apcupsd) -> None:
    """What the shutdown began is undone, and the watch goes on."""
    async with watching(tmp_path, _rules(daemon.port)) as (watcher, steps, running):
        made_up.fail_mains()
        made_up.charge = 10.0
        await stage(watcher, Stage.STOPPING)
        made_up.restore_mains()
        await stage(watcher, Stage.MAINS)
        await becomes(lambda: steps.reopened)
        assert not running.done()
    (shutdown,) = UpsFolder.of(StateDir(tmp_path)).history()
    assert shutdown.cancelled
    assert [step.name for step in shutdown.steps] == ["first"]


async def test_mains_that_return_too_late_cancel_nothing(
    tmp_path: Path, made_up: MadeUpUps, daemon: Apcupsd
) -> None:
    """Past the point of no return; and a watcher that is told to end finishes it first."""
    async with watching(tmp_path, _rules(daemon.port)) as (watcher, steps, running):
        made_up.fail_mains()
        made_up.charge = 10.0
        await stage(watcher, Stage.STOPPING)
        steps.first.set()
        await stage(watcher, Stage.COMMITTED)
        made_up.restore_mains()
        watcher.stopped.set()
        await becomes(lambda: not watcher.power.on_battery)
        assert not running.done()
        shutdown = await shut_down(steps, running)
    assert not shutdown.cancelled


async def test_a_watcher_that_died_goes_on_where_it_was(
    tmp_path: Path, made_up: MadeUpUps, daemon: Apcupsd
) -> None:
    """What is done is not done again."""
    folder = UpsFolder.of(StateDir(tmp_path))
    rules = _rules(daemon.port)
    profile = load_profile("emulated-rtx5090x3").model_copy(update={"ups": rules})
    steps = TwoSteps(StateDir(tmp_path), profile)
    async with watching(tmp_path, rules) as (watcher, first_steps, _running):
        made_up.fail_mains()
        made_up.charge = 10.0
        await stage(watcher, Stage.STOPPING)
        first_steps.first.set()
        await stage(watcher, Stage.COMMITTED)
        interrupted = folder.unfinished()
        assert interrupted is not None
        again = Watcher(source_of(rules), rules, steps, folder, Sizes())
        steps.second.set()
        shutdown = await asyncio.wait_for(again.run(), _BOUND_S)
    assert shutdown is not None
    assert shutdown.id == interrupted.id
    assert [step.name for step in shutdown.steps] == ["first", "second"]


async def test_a_watcher_that_starts_blind_remembers_the_outage(tmp_path: Path, made_up: MadeUpUps) -> None:
    """The one before it died on battery, and now the UPS's server is away, too."""
    made_up.minutes = 184.0 / 60
    folder = UpsFolder.of(StateDir(tmp_path))
    with nis_server(made_up) as server:
        rules = _rules(server.port)
        async with watching(tmp_path, rules) as (watcher, _, _running):
            made_up.fail_mains()
            await stage(watcher, Stage.BATTERY)
    profile = load_profile("emulated-rtx5090x3").model_copy(update={"ups": rules})
    steps = TwoSteps(StateDir(tmp_path), profile)
    steps.first.set()
    steps.second.set()
    blind = Watcher(source_of(rules), rules, steps, folder, Sizes())
    shutdown = await asyncio.wait_for(blind.run(), _BOUND_S)
    assert shutdown is not None
    assert shutdown.reason == "time_left"
    assert blind.power.blind_since is not None


async def test_on_battery_batch_rests_and_the_cards_are_limited(
    tmp_path: Path, made_up: MadeUpUps, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Until the mains are back; a stack that does not answer keeps nothing from happening."""
    cards, calls = FakeNvml(tmp_path), list[str]()
    for name, value in cards.environment.items():
        monkeypatch.setenv(name, value)

    async def shed(_: Steps) -> None:
        calls.append("shed")
        if len(calls) > 1:
            raise FailedError("the supervisor does not answer")

    monkeypatch.setattr(TwoSteps, "running", lambda _: True)
    monkeypatch.setattr(TwoSteps, "shed", shed)
    limits = tmp_path / "nvml.txt"
    with nis_server(made_up) as server:
        async with watching(tmp_path, _rules(server.port, shed_power_limit_w=450.0)) as (
            watcher,
            _,
            _running,
        ):
            made_up.flags |= REPLACE
            made_up.fail_mains()
            await becomes(lambda: "1.limit 450000" in limits.read_text())
            await becomes(lambda: len(calls) > 3)
            assert watcher.power.stage is Stage.BATTERY
            made_up.restore_mains()
            await becomes(lambda: limits.read_text().endswith("1.limit 575000\n"))


async def test_cards_that_may_not_be_limited_are_tried_once(
    tmp_path: Path, made_up: MadeUpUps, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without root; the outage goes on as without it."""
    tried: list[float] = []

    async def refuse(_: PowerLimits, watts: float) -> dict[str, int]:
        tried.append(watts)
        raise FailedError("NVML: no permission")

    monkeypatch.setattr(PowerLimits, "lower", refuse)
    with nis_server(made_up) as server:
        async with watching(tmp_path, _rules(server.port, shed_power_limit_w=450.0)) as (
            watcher,
            _,
            _running,
        ):
            made_up.fail_mains()
            await becomes(lambda: bool(tried))
            await asyncio.sleep(1)
            assert watcher.power.stage is Stage.BATTERY
    assert tried == [450.0]


async def test_nuts_dummy_ups_stops_the_box(tmp_path: Path) -> None:
    """By NUT's words: OB and LB."""
    (tmp_path / "nut").mkdir()
    with nut(tmp_path / "nut") as upsd:
        rules = _rules(upsd.port, source="nut", name="test")
        async with watching(tmp_path, rules) as (watcher, _, _running):
            upsd.tell(ups_status="OB", battery_charge="80", battery_runtime="900")
            await stage(watcher, Stage.BATTERY)
            upsd.tell(ups_status="OB LB", battery_charge="80", battery_runtime="900")
            await stage(watcher, Stage.STOPPING)
            assert watcher.power.reason == "low_battery"
