"""More streams than the engines have places: those in the gateway's queue, or at our front, are seen."""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from api_harness import serving
from gateway_harness import emulated_engine, gateway_here, settings, socket_folder, target
from rich.console import Console

from dreamseed_cli.api.settings import read_settings
from dreamseed_cli.bench import campaign
from dreamseed_cli.bench.campaign import Campaign, Wish
from dreamseed_cli.bench.cell_run import CellRun
from dreamseed_cli.bench.live_view import LiveView
from dreamseed_cli.bench.measure.summary import summarise_rounds
from dreamseed_cli.bench.result import CellResult, Slo, SuiteResult
from dreamseed_cli.bench.shapes import Streams, TargetSpec
from dreamseed_cli.bench.suites.base import Bench
from dreamseed_cli.bench.suites.cells import make_cell
from dreamseed_cli.bench.under_test import UnderTest, introduce
from dreamseed_cli.engine.types import Endpoint
from dreamseed_cli.gateway.admin import AdminServer
from dreamseed_cli.profile.schema import Admission

_STREAMS = 12


@asynccontextmanager
async def _target(folder: Path, kind: str) -> AsyncIterator[UnderTest]:
    """A gateway before one engine of two places, or our front before that gateway."""
    with emulated_engine(folder, "e0", max_num_seqs=2) as engine:
        replica = target("e0", engine.socket).model_copy(update={"places": 2})
        told = settings(folder, replica, admission=Admission(reserved_for_premium=0))
        async with gateway_here(told) as gateway:
            admin = AdminServer(gateway, Path(told.admin_socket), None)
            await admin.start()
            address = f"127.0.0.1:{gateway.port}"
            watched = (Endpoint(socket=engine.socket),)
            try:
                if kind == "grpc":
                    door = Endpoint(socket=Path(told.admin_socket))
                    yield UnderTest(TargetSpec(kind="grpc", address=address), endpoints=watched, door=door)
                    return
                async with serving(read_settings({"GPU_ENDPOINT": address}, allow_anonymous=True)) as front:
                    spec = TargetSpec(kind="openai", address=front.url, model="served")
                    yield await introduce(UnderTest(spec))
            finally:
                await admin.stop()


@pytest.mark.parametrize("kind", ["grpc", "openai"])
async def test_streams_that_wait_in_the_queue_are_seen(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Six times as many as there are places: the server saw them all, and the cell may be believed."""

    async def suite(bench: Bench) -> SuiteResult:
        assert bench.sees_queue
        cell = make_cell(bench, "streams-12", Streams(_STREAMS), seconds=3.0, tokens=60)
        return SuiteResult(name="engine", headline="", cells=(await bench.run_cell(cell),))

    runs: list[CellRun] = []

    def noted(rounds: Sequence[CellRun], slo: Slo, **more: Any) -> CellResult:
        runs.extend(rounds)
        return summarise_rounds(rounds, slo, **more)

    monkeypatch.setattr(campaign, "load_suite", lambda _: suite)
    monkeypatch.setattr(campaign, "summarise_rounds", noted)
    live = LiveView(Console(file=io.StringIO()))
    with socket_folder() as folder:
        async with _target(folder, kind) as under_test:
            wish = Wish(("engine",), seed=1, processes=1)
            result = await Campaign(wish, under_test, tmp_path / "work", live, asyncio.Event()).run()
    (cell,) = result.suites[0].cells
    assert cell.server_peak_in_flight == _STREAMS
    assert "streams" not in {problem.rule for problem in cell.problems}
    # By the cell's own clock.
    assert max(count for at_s, count in runs[0].server.looks[-1] if 0.0 < at_s < 3.0) == _STREAMS
