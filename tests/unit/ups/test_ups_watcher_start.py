"""What a watcher takes over from the one before it, and from a rehearsal."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from pathlib import Path

import pytest
from ups_told import RULES, Counted, Told, mains

from dreamseed_cli.core.paths import StateDir
from dreamseed_cli.profile.ups import Ups
from dreamseed_cli.ups.journal import Shutdown, UpsFolder
from dreamseed_cli.ups.observation import Observation
from dreamseed_cli.ups.policy import Power, Stage
from dreamseed_cli.ups.power_limit import PowerLimits
from dreamseed_cli.ups.rehearse import rehearse
from dreamseed_cli.ups.steps import Steps
from dreamseed_cli.ups.watch import Sizes, Watcher


def outage(heard_s_ago: float, *, lasts_s: float = 3000.0, blind: bool = False) -> Power:
    """One whose battery was full and was to last so long when the UPS was last heard."""
    at = time.monotonic() - heard_s_ago
    seen = Observation(at, on_battery=True, status="OB", charge_percent=100.0, runtime_s=lasts_s)
    return Power(
        Stage.BATTERY,
        at,
        seen,
        blind_since=at + 1 if blind else None,
        battery_since=at,
        rested_at=at,
        left=(at, lasts_s),
    )


@pytest.fixture
def state(tmp_path: Path) -> StateDir:
    """A folder that nobody has used."""
    return StateDir(tmp_path)


async def _watch(
    steps: Steps, source: Told, folder: UpsFolder, rules: Ups = RULES
) -> tuple[Watcher, Shutdown | None]:
    """A new watcher for a few looks, or until its shutdown has ended."""
    watcher = Watcher(source, rules, steps, folder, Sizes())
    running = asyncio.create_task(watcher.run())
    enough = asyncio.create_task(source.enough.wait())
    async with asyncio.timeout(20):
        await asyncio.wait({running, enough}, return_when=asyncio.FIRST_COMPLETED)
        enough.cancel()
        watcher.stopped.set()
        return watcher, await running


async def test_a_rehearsal_that_was_broken_off_never_ends_the_host(state: StateDir) -> None:
    """Ctrl-C past its point of no return, then a watcher that may end the host, on mains."""
    folder, hung = UpsFolder.of(state), Counted(state, host=False, hangs=True)
    rehearsal = asyncio.create_task(rehearse(hung, folder))
    await asyncio.wait_for(hung.began.wait(), 20)
    rehearsal.cancel()
    await asyncio.gather(rehearsal, return_exceptions=True)
    broken_off = folder.unfinished()
    assert broken_off is not None
    steps = Counted(state, host=True)
    watcher, ended = await _watch(steps, Told(mains), folder)
    assert (watcher.power.stage, ended) == (Stage.MAINS, None)
    assert steps.done == []
    assert folder.unfinished() is None
    (over,) = folder.history()
    assert (over.id, over.whole) == (broken_off.id, False)
    assert folder.measured_s() is None


async def test_a_shutdown_of_the_host_is_resumed(state: StateDir) -> None:
    """Its watcher died past the point of no return: what is left is done."""
    folder, steps = UpsFolder.of(state), Counted(state, host=True)
    shutdown = Shutdown.begin("low_charge", host=True)
    shutdown.committed = True
    folder.save(shutdown)
    _, ended = await _watch(steps, Told(mains), folder)
    assert ended is not None
    assert ended.id == shutdown.id
    assert steps.done == ["refuse", "engines"]


async def test_an_outage_that_nobody_watched_is_not_gone_on_with(state: StateDir) -> None:
    """A blip an hour ago, after which the watcher was ended, and a UPS that is silent at the next start: the
    mains are there, and an hour of counting down would stop the box at once.
    """
    folder, steps = UpsFolder.of(state), Counted(state, host=True)
    folder.keep_power(outage(3600.0))
    watcher, ended = await _watch(steps, Told(lambda: None), folder)
    assert (watcher.power.stage, watcher.power.on_battery, ended) == (Stage.UNKNOWN, False, None)


@pytest.mark.parametrize(("heard_s_ago", "blind"), [(30.0, False), (600.0, True)])
async def test_an_outage_that_was_watched_until_just_now_goes_on(
    state: StateDir, heard_s_ago: float, blind: bool
) -> None:
    """Heard half a minute ago; or silent for long, and counted down until the watcher died."""
    folder, steps = UpsFolder.of(state), Counted(state, host=True)
    folder.keep_power(outage(heard_s_ago, blind=blind))
    watcher, _ = await _watch(steps, Told(lambda: None), folder)
    assert watcher.power.on_battery


async def test_an_order_to_stop_leaves_only_what_is_firm_its_time(state: StateDir) -> None:
    """On mains, where the battery would last without end: the one in charge does not wait for this box."""
    folder, steps = UpsFolder.of(state), Counted(state, host=True)
    told = Told(lambda: replace(mains(), status="FSD OL", told_to_stop=True))
    _, ended = await _watch(steps, told, folder)
    assert ended is not None
    assert (ended.reason, [step.box_s for step in ended.steps]) == ("told_to_stop", [1.0, 1.0])


async def test_a_shutdown_that_is_resumed_is_steered_by_the_battery(state: StateDir) -> None:
    """The UPS is silent at the next start: its last word is counted down, and the engines are cut short."""
    folder, steps = UpsFolder.of(state), Counted(state, host=True)
    shutdown = Shutdown.begin("low_charge", host=True)
    shutdown.committed = True
    folder.save(shutdown)
    folder.keep_power(outage(300.0, lasts_s=301.0))
    watcher, ended = await _watch(steps, Told(lambda: None), folder)
    assert ended is not None
    assert ended.steps[-1].box_s < 5.0
    assert (watcher.power.stage, watcher.power.on_battery) == (Stage.COMMITTED, True)


async def test_cards_that_are_limited_already_are_not_limited_again(
    state: StateDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A second watcher within one outage; what they were stays on record until the mains are back."""
    folder, calls = UpsFolder.of(state), list[str]()
    folder.keep_limits({"GPU-0": 575000})

    async def lower(_: PowerLimits, watts: float) -> dict[str, int]:
        calls.append(f"lower {watts:g}")
        return {}

    async def restore(_: PowerLimits) -> None:
        calls.append("restore")

    monkeypatch.setattr(PowerLimits, "lower", lower)
    monkeypatch.setattr(PowerLimits, "restore", restore)
    rules = RULES.model_copy(update={"shed_power_limit_w": 450.0})
    on_battery = Told(lambda: replace(mains(), on_battery=True))
    watcher, _ = await _watch(Counted(state, host=True), on_battery, folder, rules)
    assert (watcher.power.on_battery, calls) == (True, [])
    await _watch(Counted(state, host=True), Told(mains), folder, rules)
    assert "restore" in calls


@pytest.mark.parametrize(("runtime_s", "stage"), [(87.0, Stage.BATTERY), (85.0, Stage.HOLDING)])
async def test_the_hosts_own_end_is_part_of_what_is_needed(
    state: StateDir, runtime_s: float, stage: Stage
) -> None:
    """6 s for both steps, 20 s for the host, and a minute of margin."""
    told = Told(lambda: replace(mains(), on_battery=True, runtime_s=runtime_s))
    watcher, _ = await _watch(Counted(state, host=True), told, UpsFolder.of(state))
    assert watcher.power.stage is stage
