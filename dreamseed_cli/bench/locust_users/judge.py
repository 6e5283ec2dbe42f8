"""What a load test showed, and whether it may be believed. Pure.

Every time counts from when a request was due: the end of its user's pause.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from dreamseed_cli.bench.locust_users.crew import LoadRun, StepTimes
from dreamseed_cli.bench.locust_users.plan import USERS_A_PROCESS, Kind, LoadPlan
from dreamseed_cli.bench.locust_users.samples import ENDINGS, HELD, KINDS, UNCOUNTED, Table
from dreamseed_cli.bench.measure.intervals import attainment
from dreamseed_cli.bench.measure.quantiles import latency, plain_quantile
from dreamseed_cli.bench.measure.validity import FEWEST_REQUESTS, allowed_delay_ms, own_limits, tokens_agree
from dreamseed_cli.bench.records import Ending
from dreamseed_cli.bench.result import Interval, Latency, Problem, Slo
from dreamseed_cli.core.counting import counted

ENOUGH: Final = 0.99
"""The share of users and of requests without which a run is not the one that was asked for."""
_SETTLE: Final = 0.2
"""The part of a step that is not looked at: what the step before left is answered first."""
_Floats = npt.NDArray[np.float64]
_Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class StepFigures:
    """One step. asked_per_s: what so many users ask for if no answer takes longer than their pause.

    good: within the SLO; good_answers: of those that a model answers.
    page: whole answers that no model gives. ttft: first text of streamed ones. lag_p99_ms: how late the
    load's own loops were; delay_p99_ms: how late it began its requests. held: the share of requests whose
    user still waited for the answer before.
    """

    users: int
    reached: int
    window_s: tuple[float, float]
    asked_per_s: float
    achieved_per_s: float
    requests: int
    failed: int
    good: Interval
    good_answers: Interval
    held: float
    page: Latency | None
    ttft: Latency | None
    lag_p99_ms: float | None
    delay_p99_ms: float | None
    problems: tuple[Problem, ...]
    sustained: bool

    @property
    def valid(self) -> bool:
        return not self.problems


def judge_step(plan: LoadPlan, run: LoadRun, step: StepTimes, slo: Slo) -> StepFigures:
    """A step's figures against what was asked and the SLO."""
    window = window_of(step)
    seen = within(run.samples, window)
    asked = step.users / plan.pause_s
    length = window[1] - window[0]
    kept, generated = is_good(seen, slo, plan.answer_tokens), _generated(seen)
    held = float((seen["flags"] & HELD > 0).mean()) if len(seen) else 0.0
    reached = _users_reached(run.ticks, window)
    lag = plain_quantile(_lags(run.ticks, window), 0.99)
    delay = plain_quantile((seen["begun_s"] - seen["due_s"]) * 1000, 0.99)
    more = remedy(plan)
    limit = allowed_delay_ms(slo.ttft_ms, _page_ms(seen))
    problems = [*_too_few_users(step.users, reached, more), *_late(lag, delay, limit, more)]
    short = _falls_short(len(seen), asked * length)
    if short and _falls_short(len(seen) + _held_back(run.samples, window, plan.pause_s), asked * length):
        problems.append(_too_few_requests(len(seen) / length, asked, more))
    problems += _too_few_samples(plan, int(generated.sum()), int((~generated).sum()))
    # Each by itself: pages are so many that they would hide it if no model answered at all.
    enough = all(part.sum() >= slo.attainment * len(part) for part in (kept[generated], kept[~generated]))
    return StepFigures(
        users=step.users,
        reached=reached,
        window_s=window,
        asked_per_s=asked,
        achieved_per_s=len(seen) / length,
        requests=len(seen),
        failed=int((~_complete(seen)).sum()),
        good=attainment(kept),
        good_answers=attainment(kept[generated]),
        held=held,
        page=_times(seen, "end_s", [kind for kind in KINDS if not kind.generates]),
        ttft=_times(seen, "first_s", [Kind.CHAT_STREAM, Kind.GRPC_STREAM]),
        lag_p99_ms=lag,
        delay_p99_ms=delay,
        problems=tuple(problems),
        sustained=enough and bool(len(seen)) and not short and not problems,
    )


def remedy(plan: LoadPlan) -> str:
    """What a load needs that could not make the requests it was to make."""
    processes = counted(plan.processes, "process", "processes")
    return (
        f"The load ran in {processes}, no more than there are cores, beside the server: give it more cores "
        f"(one for each {USERS_A_PROCESS:,} users), or a machine of its own, and measure with --target."
    )


def run_problems(run: LoadRun, generated: int | None = None) -> Iterator[Problem]:
    """What stands against the run as a whole. generated: the tokens that the engines counted meanwhile."""
    told = int(run.samples["tokens"][_complete(run.samples)].sum())
    # Not the other way round: engines also generate for users that the end of the load cuts off.
    if (made_up := tokens_agree(told, generated, whole=False)) is not None:
        yield made_up
    for words in run.lost:
        yield Problem(
            rule="lost-process",
            reason=f"{words}; its users were gone, and the load was ended",
            remedy="See its log in the run's folder; memory and open files are the usual causes.",
        )
    if (unsent := own_limits(int((run.samples["ending"] == ENDINGS.index(Ending.UNSENT)).sum()))) is not None:
        yield unsent
    ended = int((run.samples["ending"] != ENDINGS.index(Ending.ABANDONED)).sum())
    counted = run.locust_requests
    if counted is not None and not run.lost and not run.interrupted and counted != ended:
        yield Problem(
            rule="count",
            reason=f"Locust counted {counted} requests, and {ended} were written down",
            remedy="Report this: one of the two counts is wrong.",
        )


def sustained_users(steps: list[StepFigures]) -> int | None:
    """The most users within the SLO, with every smaller step within it too; 0: not even the smallest.

    None if it cannot be told: a step that must not be believed came before the first that missed the SLO.
    """
    most = 0
    for step in steps:
        if not step.valid:
            return None
        if not step.sustained:
            return most
        most = step.users
    return most if steps else None


def kept_users(steps: list[StepFigures]) -> int:
    """At least so many users are within the SLO: those of the last step before the first that missed it, or
    that must not be believed.
    """
    most = 0
    for step in steps:
        if not step.sustained:
            break
        most = step.users
    return most


def window_of(step: StepTimes) -> tuple[float, float]:
    """The part of a step that is looked at."""
    return step.spawned_s + _SETTLE * (step.ended_s - step.spawned_s), step.ended_s


def within(samples: Table, window: tuple[float, float]) -> Table:
    """The requests that were due in a window."""
    found: Table = samples[(samples["due_s"] >= window[0]) & (samples["due_s"] < window[1])]
    return found


def of_kind(samples: Table, *kinds: Kind) -> Table:
    """The requests of these kinds."""
    found: Table = samples[np.isin(samples["kind"], [KINDS.index(kind) for kind in kinds])]
    return found


def is_good(samples: Table, slo: Slo, tokens: int) -> _Flags:
    """Whether each kept the SLO: answered, and a page or an answer's first text within `ttft_ms`; what a
    model wrote no slower than `tpot_ms` a token after it.
    """
    generated = _generated(samples)
    streamed = ~np.isnan(samples["first_s"])
    whole_ms = (samples["end_s"] - samples["due_s"]) * 1000
    first_ms = (samples["first_s"] - samples["due_s"]) * 1000
    rest_ms = (samples["end_s"] - samples["first_s"]) * 1000
    count = np.maximum(samples["tokens"].astype(np.float64) - 1, 1)
    slow = slo.ttft_ms + slo.tpot_ms * max(tokens - 1, 1)
    with np.errstate(invalid="ignore"):
        stream_good = (first_ms <= slo.ttft_ms) & (rest_ms <= slo.tpot_ms * count)
        whole_good = whole_ms <= np.where(generated, slow, slo.ttft_ms)
    kept: _Flags = _complete(samples) & np.where(generated & streamed, stream_good, whole_good)
    return kept


def _times(samples: Table, until: str, kinds: list[Kind]) -> Latency | None:
    """Those that failed rank as longer than every time."""
    asked = of_kind(samples, *kinds)
    ms = ((asked[until] - asked["due_s"]) * 1000)[_complete(asked)]
    known: _Floats = ms[~np.isnan(ms)]
    return latency(known, unanswered=len(asked) - len(known))


def kind_times(samples: Table, kind: Kind, *, first: bool = False) -> Latency | None:
    """From when it was due to its end, or to its first text."""
    return _times(samples, "first_s" if first else "end_s", [kind])


def _generated(samples: Table) -> _Flags:
    return np.isin(samples["kind"], [KINDS.index(kind) for kind in KINDS if kind.generates])


def _complete(samples: Table) -> _Flags:
    found: _Flags = samples["ending"] == ENDINGS.index(Ending.COMPLETE)
    return found


def failures(samples: Table) -> int:
    """How many were not answered."""
    return int((~_complete(samples)).sum())


def _lags(ticks: tuple[Table, ...], window: tuple[float, float]) -> _Floats:
    parts = [table["lag_ms"][_inside(table, window)] for table in ticks]
    return np.concatenate(parts) if parts else np.zeros(0)


def _users_reached(ticks: tuple[Table, ...], window: tuple[float, float]) -> int:
    """The fewest each process had in the window, summed: one that told nothing had none."""
    counted = [table[table["users"] != UNCOUNTED] for table in ticks]
    least = [table["users"][_inside(table, window)] for table in counted]
    return sum(int(users.min()) for users in least if len(users))


def _inside(table: Table, window: tuple[float, float]) -> Any:
    return (table["at_s"] >= window[0]) & (table["at_s"] < window[1])


def _held_back(samples: Table, window: tuple[float, float], pause_s: float) -> float:
    """The requests that were not made since their users still waited for an answer, at most.

    A user may ask again half a pause after a request; from then on, waiting costs a request each pause.
    """
    ends = np.where(np.isnan(samples["end_s"]), window[1], samples["end_s"])
    since = samples["begun_s"] + pause_s / 2
    waited = np.minimum(ends, window[1]) - np.maximum(since, window[0])
    return float(np.maximum(waited, 0).sum()) / pause_s


def _falls_short(count: float, asked: float) -> bool:
    """By more than 1 %, and by more than chance (three standard deviations of Poisson arrivals)."""
    return count < min(ENOUGH * asked, asked - 3 * math.sqrt(asked))


def _too_few_users(asked: int, reached: int, more: str) -> Iterator[Problem]:
    if reached < ENOUGH * asked:
        reason = f"{reached} of {asked} users were there"
        yield Problem(rule="users", reason=reason, remedy=more)


def _too_few_samples(plan: LoadPlan, answers: int, pages: int) -> Iterator[Problem]:
    """Of a part of the mix of which hardly any request came, nothing can be told."""
    remedy = f"Use a longer --duration: {FEWEST_REQUESTS} are the least of which anything can be told."
    parts = ((answers, True, "requests to the model"), (pages, False, "requests for pages"))
    for count, generates, words in parts:
        if count < FEWEST_REQUESTS and any(kind.generates is generates for kind in plan.mix):
            reason = f"only {count} {words} were due in the window"
            yield Problem(rule="samples", reason=reason, remedy=remedy)


def _page_ms(samples: Table) -> float | None:
    """The median time of whole pages from when they were asked for: most of what users wait for is such."""
    pages = of_kind(samples, *(kind for kind in KINDS if not kind.generates))
    return plain_quantile(((pages["end_s"] - pages["begun_s"]) * 1000)[_complete(pages)], 0.5)


def _late(lag: float | None, delay: float | None, limit: float, more: str) -> Iterator[Problem]:
    for value, words in ((lag, "the load's own loops were"), (delay, "the load began its requests")):
        if value is not None and value > limit:
            yield Problem(
                rule="scheduling-delay",
                reason=f"{words} {value:,.0f} ms late (p99; {limit:,.0f} ms are allowed)",
                remedy=more,
            )


def _too_few_requests(achieved: float, asked: float, more: str) -> Problem:
    reason = f"{achieved:.1f} requests a second were made of {asked:.1f} that the users ask for"
    return Problem(rule="rate", reason=reason, remedy=more)
