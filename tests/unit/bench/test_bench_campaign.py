"""A run of several suites: one that fails takes no other's figures, and Ctrl-C reaches every one."""

from __future__ import annotations

import asyncio
import io
import os
from pathlib import Path

import pytest
from rich.console import Console

from dreamseed_cli.bench import campaign
from dreamseed_cli.bench.campaign import Campaign, Wish
from dreamseed_cli.bench.live_view import LiveView
from dreamseed_cli.bench.result import SuiteResult
from dreamseed_cli.bench.shapes import TargetSpec
from dreamseed_cli.bench.suites.base import Bench, Suite
from dreamseed_cli.bench.under_test import UnderTest
from dreamseed_cli.core.errors import MissingError


def _campaign(
    monkeypatch: pytest.MonkeyPatch, folder: Path, suites: dict[str, Suite], stop: asyncio.Event
) -> Campaign:
    monkeypatch.setattr(campaign, "load_suite", suites.__getitem__)
    target = UnderTest(TargetSpec(kind="openai", address="http://127.0.0.1:9", model="m"))
    live = LiveView(Console(file=io.StringIO()))
    return Campaign(Wish(tuple(suites), seed=1), target, folder / "work", live, stop)


async def _good(bench: Bench) -> SuiteResult:
    return SuiteResult(name="engine", headline="A figure.")


async def _lacking(bench: Bench) -> SuiteResult:
    raise MissingError("pgbench is not here", place="PATH", remedy="Install it.")


async def test_a_suite_that_cannot_run_leaves_the_others(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Its reason is a missed target of the run; nothing of the run's own folder is left."""
    result = await _campaign(monkeypatch, tmp_path, {"engine": _good, "db": _lacking}, asyncio.Event()).run()
    assert result.suites[0].headline == "A figure."
    assert "pgbench is not here" in result.suites[1].missed[0]
    assert os.listdir(tmp_path) == []  # noqa: PTH208 - a call that does not wait


async def test_a_lone_suite_that_cannot_run_is_the_error(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """There is nothing else to save."""
    with pytest.raises(MissingError):
        await _campaign(monkeypatch, tmp_path, {"db": _lacking}, asyncio.Event()).run()


async def test_an_interruption_ends_a_load_that_is_not_ours(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """pgbench's suite is cancelled and gives what it has; the suite after it does not begin."""
    stop = asyncio.Event()

    async def endless(bench: Bench) -> SuiteResult:
        stop.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            return SuiteResult(name="db", headline="Half of it.", partial=True)
        raise AssertionError

    result = await _campaign(monkeypatch, tmp_path, {"db": endless, "engine": _good}, stop).run()
    assert [one.headline for one in result.suites] == ["Half of it."]
    assert result.partial
