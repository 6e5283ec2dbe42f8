"""One load test from its front to its figures: what the suites `api` and `load` share."""

from __future__ import annotations

import os
import secrets
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
from msgspec.structs import replace

from dreamseed_cli.bench.cell_run import ServerView
from dreamseed_cli.bench.limits import raise_descriptor_limit
from dreamseed_cli.bench.locust_users.crew import Crew, LoadRun
from dreamseed_cli.bench.locust_users.front import answers, fronts
from dreamseed_cli.bench.locust_users.judge import (
    StepFigures,
    judge_step,
    kept_users,
    run_problems,
    sustained_users,
)
from dreamseed_cli.bench.locust_users.plan import (
    Errand,
    Kind,
    LoadPlan,
    Step,
    document_mix,
    processes_for,
    request_interval_s,
)
from dreamseed_cli.bench.locust_users.questions import seeded
from dreamseed_cli.bench.locust_users.report import (
    Provenance,
    kind_table,
    provenance_of,
    reason_table,
    step_table,
)
from dreamseed_cli.bench.locust_users.requests import records_by_step
from dreamseed_cli.bench.measure.notes import NO_PREFIX_CACHE
from dreamseed_cli.bench.measure.validity import prefix_cache_cold
from dreamseed_cli.bench.outlook import about
from dreamseed_cli.bench.result import FactTable, Problem
from dreamseed_cli.bench.served_model import served_model
from dreamseed_cli.bench.suites.base import Bench
from dreamseed_cli.bench.target.key import read_key
from dreamseed_cli.core.errors import MissingError
from dreamseed_cli.estimates.results import Measurement
from dreamseed_cli.estimates.schema import Book

Planner = Callable[[bool, bool], LoadPlan]
"""The plan, given whether there are questions to ask for and whether the gateway can be asked directly."""
_OWN_FILES = 200
_TICKS_A_LINE = 5
_UNSEEN = ServerView()
_OF_THE_RUN = frozenset({"lost-process", "count", "own-limits"})
"""Problems after which no step may be believed."""
NO_QUESTIONS = "there is no PostgreSQL with questions behind the target, so none were asked for"


@dataclass(frozen=True)
class Trial:
    """A load test and its figures.

    sustained: users within the SLO; None if that cannot be told. kept: at least so many are, by the steps
    that may be believed; None if the run as a whole may not. prefix_told: whether the engines told of their
    prefix caches.
    """

    plan: LoadPlan
    run: LoadRun
    steps: tuple[StepFigures, ...]
    problems: tuple[Problem, ...]
    provenance: Provenance
    tables: tuple[FactTable, ...]
    sustained: int | None
    kept: int | None = None
    prefix_told: bool = False

    @property
    def remarks(self) -> str:
        """What the headline says beside its figures, each with a space before it."""
        return "" if self.prefix_told else f" Note: {NO_PREFIX_CACHE}."

    @property
    def asked_questions(self) -> bool:
        return Kind.QUESTION in self.plan.mix

    @property
    def last(self) -> StepFigures | None:
        """The highest step that was reached."""
        return self.steps[-1] if self.steps else None

    def measurement(self, key: str) -> tuple[Measurement, ...]:
        """The users within the SLO as a result, if that can be told."""
        if self.sustained is None or self.last is None:
            return ()
        value, count = float(self.sustained), sum(step.requests for step in self.steps)
        return (Measurement(key=key, value=value, unit="users", provenance=self.provenance, n=count),)


def document_planner(book: Book, steps: tuple[Step, ...], *, seed: int) -> Planner:
    """The document's mix, rate and length of answers for the users of the last step."""
    users = steps[-1].users

    def plan(questions: bool, gateway: bool) -> LoadPlan:
        return LoadPlan(
            steps=steps,
            interval_s=request_interval_s(book, users),
            mix=document_mix(book, questions=questions, gateway=gateway),
            seed=seed,
            processes=processes_for(users, cores()),
            answer_tokens=round(book.number("b1-answer-tokens")),
        )

    return plan


async def conduct(bench: Bench, planner: Planner, *, gateway: bool, front_count: int = 1) -> Trial:
    """Run a plan against the target, through fronts of our own where it is a gateway.

    gateway: whether the target's gateway is asked directly, too (if it is one).
    Raises MissingError if the target, its key, or enough open files are not there; FailedError.
    """
    direct = gateway and bench.target.kind == "grpc"
    if bench.target.api_key_env is not None:
        read_key(bench.target.api_key_env)
    most_files = raise_descriptor_limit()
    bench.state.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="locust-", dir=bench.state))
    async with AsyncExitStack() as stack:
        urls = await stack.enter_async_context(fronts(bench.target, folder, count=front_count))
        ids = await stack.enter_async_context(_questions(bench, urls[0]))
        plan = planner(bool(ids), direct)
        require_files(plan, len(urls) if bench.target.kind == "grpc" else None, most_files)
        front = replace(bench.target, kind="openai", address=urls[0])
        errand = Errand(
            plan=plan,
            fronts=urls,
            folder=str(folder),
            gateway=bench.target.address if direct else "",
            model=bench.target.model or await served_model(front),
            questions=ids,
            api_key_env=bench.target.api_key_env,
            ca_file=bench.target.ca_file,
            force_length=bench.target.vllm,
            nonce=secrets.token_hex(4),
            ours=bench.target.kind == "grpc" or bench.target.ours,
            timeout_s=bench.target.timeout_s,
            stall_s=bench.target.stall_s,
        )
        watch = bench.watch()
        await watch.start()
        try:
            run = await Crew(errand, _teller(bench.say, plan.seconds)).run()
        finally:
            server = await watch.stop()
    for cell, records in records_by_step(run):
        bench.keep(cell, records)
    return evaluate(bench, plan, run, server)


def evaluate(bench: Bench, plan: LoadPlan, run: LoadRun, server: ServerView = _UNSEEN) -> Trial:
    """The figures of a run. Pure. server: what the engines told of themselves meanwhile."""
    steps = [judge_step(plan, run, step, bench.slo) for step in run.steps]
    problems = [*run_problems(run, server.generation_tokens)]
    if (warm := prefix_cache_cold(server.prefix_hits, server.prefix_queries)) is not None:
        problems.append(warm)
    for step in steps:
        problems += [
            problem.model_copy(update={"reason": f"{step.users:,} users: {problem.reason}"})
            for problem in step.problems
        ]
    provenance = provenance_of(run, simulated=bench.simulated)
    tables = [step_table(steps, provenance)] if steps else []
    if steps:
        tables.append(kind_table(plan, run, steps[-1], bench.slo, provenance))
    if (reasons := reason_table(run, provenance)) is not None:
        tables.append(reasons)
    told = run.interrupted or any(problem.rule in _OF_THE_RUN for problem in problems)
    return Trial(
        plan=plan,
        run=run,
        steps=tuple(steps),
        problems=tuple(problems),
        provenance=provenance,
        tables=tuple(tables),
        sustained=None if told else sustained_users(steps),
        kept=None if told else kept_users(steps),
        prefix_told=server.prefix_queries is not None,
    )


@asynccontextmanager
async def _questions(bench: Bench, url: str) -> AsyncIterator[tuple[str, ...]]:
    """Questions that the front really serves; none where it does not."""
    async with seeded(bench.stack_dsn()) as ids:
        served = False
        if ids:
            async with aiohttp.ClientSession() as session:
                served = await answers(session, f"{url}/v1/questions/{ids[0]}")
        if not served:
            bench.say(f"Locust: {NO_QUESTIONS}.")
        yield ids if served else ()


def require_files(plan: LoadPlan, front_count: int | None, most: int) -> None:
    """Both ends of every user's connection are files. MissingError if one process has not enough.

    front_count: of our own, each of which has its share of the users; None: the other end is not ours.
    """
    needed = -(-plan.users // min(plan.processes, front_count or plan.processes)) + _OWN_FILES
    if needed > most:
        raise MissingError(
            f"{plan.users:,} users need {needed:,} open files a process, and {most:,} are allowed",
            place="RLIMIT_NOFILE",
            remedy=f"Raise the hard limit (ulimit -Hn {needed}, or LimitNOFILE= of the unit), or ask for "
            "fewer users.",
        )


def _teller(
    say: Callable[[str], None], seconds: float, clock: Callable[[], float] = time.monotonic
) -> Callable[[dict[str, Any]], None]:
    """Says every few seconds where the load is. seconds: as planned, from now on."""
    count, ends_s = 0, clock() + seconds

    def tell(news: dict[str, Any]) -> None:
        nonlocal count
        if news["event"] == "tick":
            count += 1
            if count % _TICKS_A_LINE == 1:
                say(
                    f"Locust: {news['users']:,} users, {news['rate']:.0f} requests/s, "
                    f"{news['failures']:,} failed, ~{about(max(ends_s - clock(), 0.0))} of the suite left"
                )
        elif news["event"] == "step":
            say(f"Locust: the step of {news['users']:,} users is over")

    return tell


def cores() -> int:
    """Processor cores that this process may use."""
    return len(os.sched_getaffinity(0))
