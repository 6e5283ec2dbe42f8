"""A load test as tables, sentences and measurements. Pure."""

from __future__ import annotations

from typing import Literal

from dreamseed_cli.bench.locust_users.crew import LoadRun
from dreamseed_cli.bench.locust_users.judge import (
    StepFigures,
    failures,
    is_good,
    kind_times,
    of_kind,
    within,
)
from dreamseed_cli.bench.locust_users.plan import Kind, LoadPlan
from dreamseed_cli.bench.locust_users.samples import REVALIDATED, SIMULATED
from dreamseed_cli.bench.report.words import percent
from dreamseed_cli.bench.result import Column, FactTable, Interval, Latency, Slo

Provenance = Literal["measured", "simulated"]
Row = dict[str, float | int | str | bool | None]
_MOST_REASONS = 12
_KINDS = {
    Kind.STATIC: "static asset (/healthz stands for it)",
    Kind.QUESTION: "question (HTTP)",
    Kind.CHAT: "AI, whole (HTTP)",
    Kind.CHAT_STREAM: "AI, streamed (HTTP)",
    Kind.GRPC_STREAM: "AI, streamed (gRPC)",
}
_KIND_COLUMNS = (
    Column(key="kind", label="request"),
    Column(key="share", label="asked", unit="%"),
    Column(key="requests", label="requests"),
    Column(key="per_s", label="rate", unit="1/s"),
    Column(key="failed", label="failed"),
    Column(key="good", label="within the SLO", unit="%"),
    Column(key="p50", label="p50", unit="ms"),
    Column(key="p95", label="p95", unit="ms"),
    Column(key="p99", label="p99", unit="ms"),
    Column(key="ttft_p50", label="TTFT p50", unit="ms"),
    Column(key="ttft_p95", label="TTFT p95", unit="ms"),
    Column(key="revalidated", label="304", unit="%"),
)
_STEP_COLUMNS = (
    Column(key="users", label="users"),
    Column(key="verdict", label="verdict"),
    Column(key="reached", label="reached"),
    Column(key="asked_per_s", label="asked", unit="1/s"),
    Column(key="per_s", label="achieved", unit="1/s"),
    Column(key="failed", label="failed", unit="%"),
    Column(key="good", label="within the SLO", unit="%"),
    Column(key="good_answers", label="of AI", unit="%"),
    Column(key="page_p95", label="pages p95", unit="ms"),
    Column(key="ttft_p95", label="TTFT p95", unit="ms"),
    Column(key="held", label="users held up", unit="%"),
    Column(key="lag_p99", label="load's own lag p99", unit="ms"),
)


def provenance_of(run: LoadRun, *, simulated: bool) -> Provenance:
    """Simulated as soon as one answer was, whatever the target is said to be."""
    seen = bool((run.samples["flags"] & SIMULATED).any())
    return "simulated" if simulated or seen else "measured"


def kind_table(
    plan: LoadPlan, run: LoadRun, step: StepFigures, slo: Slo, provenance: Provenance
) -> FactTable:
    """What was asked for in a step's window, by kind."""
    seen = within(run.samples, step.window_s)
    length = step.window_s[1] - step.window_s[0]
    rows: list[Row] = []
    for kind, share in plan.mix.items():
        ours = of_kind(seen, kind)
        whole = kind_times(seen, kind)
        first = kind_times(seen, kind, first=True) if kind.value.endswith("stream") else None
        rows.append(
            {
                "kind": _KINDS[kind],
                "share": round(100 * share / sum(plan.mix.values()), 2),
                "requests": len(ours),
                "per_s": round(len(ours) / length, 2),
                "failed": failures(ours),
                "good": _percent(int(is_good(ours, slo, plan.answer_tokens).sum()), len(ours)),
                "p50": _quantile(whole, "p50"),
                "p95": _quantile(whole, "p95"),
                "p99": _quantile(whole, "p99"),
                "ttft_p50": _quantile(first, "p50"),
                "ttft_p95": _quantile(first, "p95"),
                "revalidated": _percent(int((ours["flags"] & REVALIDATED > 0).sum()), len(ours)),
            }
        )
    title = f"Requests of {step.users:,} users, from the moment each was due"
    return FactTable(title=title, columns=_KIND_COLUMNS, rows=tuple(rows), provenance=provenance)


def step_table(steps: list[StepFigures], provenance: Provenance) -> FactTable:
    """Where it stops coping."""
    rows = tuple(_step_row(step) for step in steps)
    return FactTable(title="Users, step by step", columns=_STEP_COLUMNS, rows=rows, provenance=provenance)


def reason_table(run: LoadRun, provenance: Provenance) -> FactTable | None:
    """Why requests failed, in the servers' words; None if none did."""
    if not run.details:
        return None
    columns = (Column(key="reason", label="reason"), Column(key="requests", label="requests"))
    rows: list[Row] = [
        {"reason": reason, "requests": count} for reason, count in list(run.details.items())[:_MOST_REASONS]
    ]
    return FactTable(title="Why requests failed", columns=columns, rows=tuple(rows), provenance=provenance)


def _step_row(step: StepFigures) -> Row:
    verdict = "kept the SLO" if step.sustained else "missed the SLO" if step.valid else "INVALID"
    return {
        "users": step.users,
        "reached": step.reached,
        "asked_per_s": round(step.asked_per_s, 2),
        "per_s": round(step.achieved_per_s, 2),
        "failed": _percent(step.failed, step.requests),
        "good": _percent(round(step.good.value * step.requests), step.requests),
        "good_answers": round(100 * step.good_answers.value, 2) if step.ttft is not None else None,
        "page_p95": _quantile(step.page, "p95"),
        "ttft_p95": _quantile(step.ttft, "p95"),
        "held": round(100 * step.held, 2),
        "lag_p99": None if step.lag_p99_ms is None else round(step.lag_p99_ms, 2),
        "verdict": verdict,
    }


def share_words(share: Interval) -> str:
    """A share of one in percent, with its 95 % interval: `91.2 % (88.1-93.7 %)`."""
    if share.low is None or share.high is None:
        return percent(share.value)
    return f"{percent(share.value)} ({percent(share.low).removesuffix(' %')}-{percent(share.high)})"


def _quantile(found: Latency | None, name: str) -> float | None:
    interval = found.quantiles.get(name) if found is not None else None
    return None if interval is None else round(interval.value, 2)


def _percent(part: int, of: int) -> float | None:
    return round(100 * part / of, 2) if of else None
