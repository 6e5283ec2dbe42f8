"""Locust's users against a real front, gateway and emulated engine."""

from __future__ import annotations

import asyncio
import os
import signal
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import api_harness
import numpy as np
import psutil
import pytest
from api_harness import MODEL, Context, RunningFront, parts, scripted_gateway, serving
from free_ports import free_port
from gateway_harness import (
    emulated_engine,
    gateway_process,
    settings,
    socket_folder,
    target,
    until,
)
from msgspec import structs

from dreamseed_cli.api.settings import read_settings
from dreamseed_cli.bench.locust_users import crew as crew_module
from dreamseed_cli.bench.locust_users.crew import Crew, LoadRun
from dreamseed_cli.bench.locust_users.judge import run_problems
from dreamseed_cli.bench.locust_users.plan import Errand, Kind, LoadPlan, Step
from dreamseed_cli.bench.locust_users.samples import ENDINGS, KINDS, REVALIDATED, SIMULATED, Table
from dreamseed_cli.bench.locust_users.trial import conduct, evaluate
from dreamseed_cli.bench.records import Ending
from dreamseed_cli.bench.result import CellResult, Slo
from dreamseed_cli.bench.shapes import Cell, TargetSpec
from dreamseed_cli.bench.suites.base import Bench
from dreamseed_cli.bench.suites.load import summarise
from dreamseed_cli.core.errors import MissingError
from dreamseed_cli.database.connection import connected
from dreamseed_cli.database.migrate import migrate
from dreamseed_cli.gateway.proto.llm_pb2 import GenerateRequest
from dreamseed_cli.gateway.settings import ServiceAddresses

_TOKENS = 5
_A_WISH_COMES_S = 1.0
"""Four users that ask every 0.2 s have asked by then."""


@pytest.fixture
def folder() -> Iterator[Path]:
    """Short enough for Unix sockets."""
    with socket_folder() as path:
        yield path


def _bench(address: str, state: Path, **more: Any) -> Bench:
    async def no_cell(cell: Cell, target: TargetSpec | None = None) -> CellResult:
        raise AssertionError(cell)

    return Bench(
        target=TargetSpec(kind=more.pop("kind", "grpc"), address=address, model=more.pop("model", "served")),
        profile=None,
        services=more.pop("services", None),
        slo=Slo(ttft_ms=5000, tpot_ms=500, attainment=0.5),
        seed=1,
        run_cell=no_cell,
        say=more.pop("say", lambda _: None),
        state=state,
        replicas={},
    )


def _plan(questions: bool, gateway: bool, **more: Any) -> LoadPlan:
    kinds = [Kind.STATIC, Kind.CHAT, Kind.CHAT_STREAM]
    kinds += [Kind.QUESTION] if questions else []
    kinds += [Kind.GRPC_STREAM] if gateway else []
    fields: dict[str, Any] = {"steps": (Step(5, 0.1, 2.0),), "processes": 1} | more
    return LoadPlan(
        interval_s=0.2,
        mix={kind: 1 / len(kinds) for kind in kinds},
        seed=1,
        answer_tokens=_TOKENS,
        grace_s=20,
        **fields,
    )


def _of(samples: Table) -> Counter[Kind]:
    return Counter(KINDS[number] for number in samples["kind"])


def test_every_request_is_counted_once_by_all_who_count(folder: Path) -> None:
    """The users' samples, Locust, and the gateway agree; times are in order; what was emulated is said to be.

    Afterwards no process of the load and no front is left.
    """
    with (
        emulated_engine(folder, "e0") as engine,
        gateway_process(folder, settings(folder, target("r0", engine.socket))) as gateway,
    ):
        said: list[str] = []
        running = _ours()
        trial = asyncio.run(
            conduct(_bench(gateway.address, folder / "s", say=said.append), _plan, gateway=True)
        )
        assert _ours() == running
        finished = gateway.stats()["totals"]["finished"]
    samples = trial.run.samples
    counts = _of(samples)
    assert set(counts) == {Kind.STATIC, Kind.CHAT, Kind.CHAT_STREAM, Kind.GRPC_STREAM}
    assert set(samples["ending"]) == {ENDINGS.index(Ending.COMPLETE)}, trial.run.details
    assert (trial.run.lost, trial.run.locust_requests) == ((), len(samples))
    assert finished == sum(count for kind, count in counts.items() if kind.generates)
    generated = samples[samples["kind"] >= KINDS.index(Kind.CHAT)]
    assert set(generated["tokens"]) == {_TOKENS}
    assert all(generated["flags"] & SIMULATED)
    streamed = samples[samples["kind"] > KINDS.index(Kind.CHAT)]
    for earlier, later in (("due_s", "begun_s"), ("begun_s", "first_s"), ("first_s", "end_s")):
        assert (streamed[earlier] <= streamed[later]).all()
    assert trial.provenance == "simulated"
    assert any("no PostgreSQL" in line for line in said)


def _ours() -> set[int]:
    """The program's own processes. A PostgreSQL that other tests share starts some at any moment."""
    children = psutil.Process().children(recursive=True)
    return {one.pid for one in children if "dreamseed_cli" in " ".join(_argv(one))}


def _argv(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.NoSuchProcess:
        return []


def test_questions_are_asked_revalidated_and_taken_away(
    folder: Path, postgres_dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the profile's external database; a second look at a question is answered with 304."""
    migrate(postgres_dsn)
    monkeypatch.setenv("BENCH_DSN", postgres_dsn)
    services = ServiceAddresses(postgres_dsn=postgres_dsn, journal=str(folder / "journal"))
    with gateway_process(folder, settings(folder).model_copy(update={"services": services})) as gateway:
        named = ServiceAddresses(postgres_dsn_env="BENCH_DSN", journal=services.journal)
        bench = _bench(gateway.address, folder, services=named)
        trial = asyncio.run(conduct(bench, _questions_only, gateway=False))
    asked = trial.run.samples
    assert set(asked["kind"]) == {KINDS.index(Kind.QUESTION)}
    assert set(asked["ending"]) == {ENDINGS.index(Ending.COMPLETE)}, trial.run.details
    assert (asked["flags"] & REVALIDATED).any()
    assert trial.provenance == "measured"
    with connected(postgres_dsn) as connection:
        assert connection.execute("SELECT count(*) FROM questions").fetchone() == (0,)


def _questions_only(questions: bool, gateway: bool) -> LoadPlan:
    """More requests than there are questions, so that some are seen again."""
    assert questions
    return LoadPlan(
        steps=(Step(2, 0.1, 4.0),), interval_s=0.002, mix={Kind.QUESTION: 1.0}, seed=1, grace_s=20
    )


async def test_a_killed_worker_is_named_and_ends_the_load(tmp_path: Path) -> None:
    """Which one, by what; what the others saw is kept, and no number of users is claimed."""
    plan = _plan(False, False, steps=(Step(4, 0.1, 600),), processes=2)
    async with scripted_gateway(_answer) as gateway, _front(gateway.port) as front:
        crew, task = await _begun(_errand(plan, front.url, tmp_path), lambda: len(gateway.calls) > 3)
        victim = crew.worker_pids[1]
        os.kill(victim, signal.SIGKILL)
        run = await task
    assert run.lost == (f"load process 1 (pid {victim}) was killed by SIGKILL",)
    assert len(run.samples) > 0
    result = summarise(evaluate(_bench(front.url, tmp_path), plan, run))
    assert next(problem.rule for problem in result.problems) == "lost-process"
    assert result.partial
    assert result.measurements == ()
    _all_gone(crew)


async def test_an_interrupted_load_keeps_what_it_has(tmp_path: Path) -> None:
    """Cancelled, as Ctrl-C does: it ends, nothing runs on, the samples are there; the answers that were under
    way, and would have been for ever, are ABANDONED.
    """
    plan = _plan(False, False, steps=(Step(4, 0.1, 600),))

    async def endless(request: GenerateRequest, context: Context, number: int) -> None:
        if number > 2:
            await asyncio.Event().wait()
        await _answer(request, context, number)

    async with scripted_gateway(endless) as gateway, _front(gateway.port) as front:
        crew, task = await _begun(_errand(plan, front.url, tmp_path), lambda: len(gateway.calls) > 3)
        task.cancel()
        run = await task
    assert run.interrupted
    assert ENDINGS.index(Ending.ABANDONED) in run.samples["ending"]
    assert ENDINGS.index(Ending.COMPLETE) in run.samples["ending"]
    assert summarise(evaluate(_bench(front.url, tmp_path), plan, run)).partial
    _all_gone(crew)


async def test_what_the_end_cuts_off_and_what_it_does_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stream that began and never ended is ABANDONED, whatever its status line promised. What did end is
    counted by Locust, too, though no report of it was due yet.
    """
    monkeypatch.setattr(crew_module, "_MODULE", "rare_reports")
    monkeypatch.setenv("PYTHONPATH", str(Path(api_harness.__file__).parent))
    plan = structs.replace(_plan(False, False), mix={Kind.CHAT_STREAM: 1.0}, grace_s=1.0)

    async def now_and_then_endless(request: GenerateRequest, context: Context, number: int) -> None:
        await context.write(parts("word ")[0])
        if number % 3 == 0:
            await asyncio.Event().wait()
        for message in parts(*["word "] * request.max_tokens)[1:]:
            await context.write(message)

    async with scripted_gateway(now_and_then_endless) as gateway, _front(gateway.port) as front:
        run = await Crew(_errand(plan, front.url, tmp_path), lambda _: None).run()
    cut_off = np.isnan(run.samples["end_s"])
    assert set(run.samples[cut_off]["ending"]) == {ENDINGS.index(Ending.ABANDONED)}
    assert set(run.samples[~cut_off]["ending"]) == {ENDINGS.index(Ending.COMPLETE)}
    assert list(run_problems(run)) == []


async def test_its_processes_end_with_whoever_started_them(tmp_path: Path) -> None:
    """When the pipe to one of them closes, as it does when this program is killed."""
    plan = _plan(False, False, steps=(Step(4, 0.1, 600),))
    async with scripted_gateway(_answer) as gateway, _front(gateway.port) as front:
        crew, task = await _begun(_errand(plan, front.url, tmp_path), lambda: len(gateway.calls) > 3)
        crew.release()
        run = await task
    assert run.lost == ()
    _all_gone(crew)


@pytest.mark.parametrize("unread", [False, True])
async def test_who_asks_over_grpc_is_part_of_its_process(tmp_path: Path, *, unread: bool) -> None:
    """If it dies its process of users is lost, by name; what had been asked over gRPC is kept. Also if it had
    not read everything that it was told.
    """
    plan = structs.replace(_plan(False, True, steps=(Step(4, 0.1, 600),)), mix={Kind.GRPC_STREAM: 1.0})
    async with scripted_gateway(_answer) as gateway, _front(gateway.port) as front:
        errand = structs.replace(_errand(plan, front.url, tmp_path), gateway=f"127.0.0.1:{gateway.port}")
        crew, task = await _begun(errand, lambda: len(gateway.calls) > 3)
        (asker,) = _askers(crew)
        if unread:
            asker.suspend()
            await asyncio.sleep(_A_WISH_COMES_S)
        asker.kill()
        run = await task
    (lost,) = run.lost
    assert lost.endswith("the process that asks over gRPC ended with code -9")
    assert set(run.samples["kind"]) <= {KINDS.index(Kind.GRPC_STREAM)}
    _all_gone(crew)


async def test_users_are_counted_while_they_are_there(tmp_path: Path) -> None:
    """Not when the process that asks over gRPC tells of its last ticks: by then they are gone."""
    plan = structs.replace(_plan(False, True, steps=(Step(4, 0.1, 2.0),)), mix={Kind.GRPC_STREAM: 1.0})
    async with scripted_gateway(_answer) as gateway, _front(gateway.port) as front:
        errand = structs.replace(_errand(plan, front.url, tmp_path), gateway=f"127.0.0.1:{gateway.port}")
        run = await Crew(errand, lambda _: None).run()
    (step,) = evaluate(_bench(front.url, tmp_path), plan, run).steps
    assert step.reached == 4


async def test_what_is_asked_over_grpc_at_the_end_is_given_up(tmp_path: Path) -> None:
    """Streams that would never end are ABANDONED and cancelled at the gateway; nobody goes on asking."""
    plan = structs.replace(_plan(False, True, steps=(Step(4, 0.1, 600),)), mix={Kind.GRPC_STREAM: 1.0})

    async def endless(request: GenerateRequest, context: Context, number: int) -> None:
        await context.write(parts("word ")[0])
        await asyncio.Event().wait()

    async with scripted_gateway(endless) as gateway, _front(gateway.port) as front:
        errand = structs.replace(_errand(plan, front.url, tmp_path), gateway=f"127.0.0.1:{gateway.port}")
        crew, task = await _begun(errand, lambda: len(gateway.calls) > 3)
        askers = _askers(crew)
        task.cancel()
        run = await task
        await until(lambda: gateway.cancelled == len(gateway.calls))
    assert run.lost == ()
    assert set(run.samples["ending"]) == {ENDINGS.index(Ending.ABANDONED)}
    assert not any(asker.is_running() for asker in askers)
    _all_gone(crew)


def _askers(crew: Crew) -> list[psutil.Process]:
    (worker,) = crew.worker_pids
    return [one for one in psutil.Process(worker).children() if "grpc_asker" in " ".join(one.cmdline())]


async def test_a_front_that_goes_away_is_named(tmp_path: Path) -> None:
    """The users' requests are UNREACHABLE, with the system's word for it."""
    plan = _plan(False, False, steps=(Step(4, 0.1, 2.0),))
    run = await Crew(_errand(plan, f"http://127.0.0.1:{free_port()}", tmp_path), lambda _: None).run()
    assert set(run.samples["ending"]) == {ENDINGS.index(Ending.UNREACHABLE)}
    assert all("refused" in reason for reason in run.details)
    assert run.locust_requests == len(run.samples)
    found = evaluate(_bench("http://x", tmp_path), plan, run)
    assert not any(step.sustained for step in found.steps)
    assert found.last is not None
    assert found.last.failed == found.last.requests > 0


async def test_a_front_that_does_not_answer_is_missing(tmp_path: Path) -> None:
    """Before anything is started."""
    bench = _bench(f"http://127.0.0.1:{free_port()}", tmp_path, kind="openai")
    with pytest.raises(MissingError, match="does not answer"):
        await conduct(bench, _plan, gateway=False)


async def test_a_gateway_that_is_not_there_costs_its_requests_only(tmp_path: Path) -> None:
    """Of a front that runs: the pages are answered, each generation is a failure with a name."""
    address = f"127.0.0.1:{free_port()}"
    trial = await conduct(_bench(address, tmp_path), _plan, gateway=True)
    samples = trial.run.samples
    for kind in set(_of(samples)):
        endings = {ENDINGS[number] for number in samples[samples["kind"] == KINDS.index(kind)]["ending"]}
        if kind is Kind.STATIC:
            assert endings == {Ending.COMPLETE}
        else:
            assert Ending.COMPLETE not in endings
    assert not any(step.sustained for step in trial.steps)
    assert trial.run.details


def _front(gateway_port: int) -> AbstractAsyncContextManager[RunningFront]:
    """A front that asks nobody for a key."""
    return serving(read_settings({"GPU_ENDPOINT": f"127.0.0.1:{gateway_port}"}, allow_anonymous=True))


async def _begun(errand: Errand, condition: Callable[[], bool]) -> tuple[Crew, asyncio.Task[LoadRun]]:
    """A load that has come as far as `condition`."""
    crew = Crew(errand, lambda _: None)
    task = asyncio.create_task(crew.run())
    await until(condition)
    return crew, task


def _errand(plan: LoadPlan, url: str, folder: Path) -> Errand:
    return Errand(plan=plan, fronts=(url,), folder=str(folder), model=MODEL)


async def _answer(request: GenerateRequest, context: Context, number: int) -> None:
    """As many tokens as were forced."""
    for message in parts(*["word "] * request.max_tokens):
        await context.write(message)


def _all_gone(crew: Crew) -> None:
    assert not [pid for pid in crew.pids if psutil.pid_exists(pid)]
