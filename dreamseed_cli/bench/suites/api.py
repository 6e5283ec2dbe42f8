"""`api`: the HTTP front under §G phase 1's load test: 100 virtual users for 5 minutes."""

from __future__ import annotations

from dreamseed_cli.bench.locust_users.plan import Step
from dreamseed_cli.bench.locust_users.report import share_words
from dreamseed_cli.bench.locust_users.trial import NO_QUESTIONS, Planner, Trial, conduct, document_planner
from dreamseed_cli.bench.result import SuiteResult
from dreamseed_cli.bench.suites.base import Bench
from dreamseed_cli.estimates.load import load_book
from dreamseed_cli.estimates.schema import Book

KEY = "load-test-users"
_ESTIMATE = "g-phase1-load-test-users"
_RAMP_SHARE = 0.05


async def api(bench: Bench) -> SuiteResult:
    """§G phase 1's users against the HTTP front, for `bench.duration_s`, else the document's minutes."""
    book = load_book()
    document_s = book.get(_ESTIMATE).field("minutes") * 60
    planner = api_planner(book, seed=bench.seed, hold_s=bench.duration_s or document_s)
    return summarise(await conduct(bench, planner, gateway=False), document_s)


def api_planner(book: Book, *, seed: int, hold_s: float) -> Planner:
    """One step of the document's users, with its mix and rate."""
    users = round(book.number(_ESTIMATE))
    return document_planner(book, (Step(users, hold_s * _RAMP_SHARE, hold_s),), seed=seed)


def summarise(trial: Trial, document_s: float) -> SuiteResult:
    """The suite's result. Pure. document_s: how long §G's test lasts; a shorter one claims nothing of it."""
    whole = trial.plan.steps[-1].hold_s >= document_s
    return SuiteResult(
        name="api",
        headline=_headline(trial)
        + ("" if whole else f" §G's test lasts {document_s:g} s: not judged by it."),
        tables=trial.tables,
        measurements=trial.measurement(KEY) if whole else (),
        problems=trial.problems,
        partial=trial.run.interrupted or bool(trial.run.lost),
        missed=_missed(trial),
    )


def _headline(trial: Trial) -> str:
    last = trial.last
    if last is None:
        return "The load ended before its time."
    left_out = "" if trial.asked_questions else f" Note: {NO_QUESTIONS}."
    return (
        f"{last.users:,} users made {last.achieved_per_s:,.1f} of {last.asked_per_s:,.1f} requests/s; "
        f"{share_words(last.good)} kept the SLO, {last.failed:,} of {last.requests:,} failed."
        f"{left_out}{trial.remarks}"
    )


def _missed(trial: Trial) -> tuple[str, ...]:
    last = trial.last
    if last is None or trial.sustained != 0:
        return ()
    return (
        f"{last.users:,} virtual users (§G phase 1): {share_words(last.good)} of the requests kept the SLO, "
        f"{last.failed:,} of {last.requests:,} failed",
    )
