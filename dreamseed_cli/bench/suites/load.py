"""`load`: up to 10,000 concurrent users (§G phase 3), step by step, with §A2's mix."""

from __future__ import annotations

from dreamseed_cli.bench.locust_users.plan import ramp
from dreamseed_cli.bench.locust_users.report import share_words
from dreamseed_cli.bench.locust_users.trial import (
    NO_QUESTIONS,
    Planner,
    Trial,
    conduct,
    cores,
    document_planner,
)
from dreamseed_cli.bench.result import Problem, SuiteResult
from dreamseed_cli.bench.suites.base import Bench
from dreamseed_cli.estimates.load import load_book
from dreamseed_cli.estimates.schema import Book

KEY = "concurrent-users"
_HOLD_S = 30.0
_SPAWN_PER_S = 100.0
_CORES_A_FRONT = 4
_MOST_FRONTS = 10
"""§C1's maxScale."""


async def load(bench: Bench) -> SuiteResult:
    """Ramp up to §G's concurrent users; each step is held for `bench.duration_s`, 30 s by default."""
    book = load_book()
    users = round(book.number("g-phase3-concurrent-users"))
    planner = load_planner(book, users, seed=bench.seed, hold_s=bench.duration_s or _HOLD_S)
    front_count = max(1, min(_MOST_FRONTS, cores() // _CORES_A_FRONT))
    return summarise(await conduct(bench, planner, gateway=True, front_count=front_count))


def load_planner(book: Book, users: int, *, seed: int, hold_s: float) -> Planner:
    """Steps up to `users` with the document's mix and rate; a shorter hold has a faster ramp."""
    spawn_per_s = _SPAWN_PER_S * max(1.0, _HOLD_S / hold_s)
    return document_planner(book, ramp(users, spawn_per_s=spawn_per_s, hold_s=hold_s), seed=seed)


def summarise(trial: Trial) -> SuiteResult:
    """The suite's result. Pure.

    Without questions it is another load than the document's: no number of users is claimed.
    """
    problems = trial.problems
    if not trial.asked_questions:
        remedy = "Measure a stack with services.postgres on, through its gateway."
        problems += (Problem(rule="mix", reason=NO_QUESTIONS, remedy=remedy),)
    return SuiteResult(
        name="load",
        headline=_headline(trial) + trial.remarks,
        tables=trial.tables,
        measurements=trial.measurement(KEY) if trial.asked_questions else (),
        problems=problems,
        partial=trial.run.interrupted or bool(trial.run.lost),
        missed=_missed(trial),
    )


def _headline(trial: Trial) -> str:
    last = trial.last
    if last is None:
        return "The load ended before its first step was over."
    rate = f"{last.achieved_per_s:,.0f} requests/s of {last.asked_per_s:,.0f} asked for"
    reached = f"With {last.users:,} users there were {rate}, {share_words(last.good)} within the SLO"
    if trial.sustained is None and trial.kept:
        beyond = next(step.users for step in trial.steps if not step.valid)
        return (
            f"At least {trial.kept:,} concurrent users kept the SLO; from {beyond:,} on the load itself was "
            f"at its limit. {reached}."
        )
    if trial.sustained is None:
        return f"{reached}; how many users it sustains cannot be told from this run."
    return f"{trial.sustained:,} concurrent users kept the SLO. {reached}."


def _missed(trial: Trial) -> tuple[str, ...]:
    wanted = trial.plan.users
    if trial.sustained is None or trial.sustained >= wanted:
        return ()
    broke = next(step for step in trial.steps if not step.sustained)
    return (
        f"{wanted:,} concurrent users (§G phase 3): {trial.sustained:,} kept the SLO; with {broke.users:,} "
        f"{share_words(broke.good)} of all requests and {share_words(broke.good_answers)} of those to the "
        f"model did, and {broke.failed:,} of {broke.requests:,} failed",
    )
