"""What the `db` suite has found so far, and what it says of it. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from dreamseed_cli.bench.document import missed
from dreamseed_cli.bench.measure.quantiles import quantile_ms
from dreamseed_cli.bench.pgbench.command import WORKLOADS, WRITE, PgCell
from dreamseed_cli.bench.pgbench.database import ServerFacts
from dreamseed_cli.bench.pgbench.figures import (
    Row,
    at_its_best,
    measurements,
    p95_limit_ms,
    table,
    tps_interval,
)
from dreamseed_cli.bench.pgbench.process import PgRun
from dreamseed_cli.bench.pgbench.settings import settings_table
from dreamseed_cli.bench.result import Problem, SuiteResult
from dreamseed_cli.core.errors import FailedError
from dreamseed_cli.database.settings import ServerSetting, wanted_settings
from dreamseed_cli.estimates.outcome import say
from dreamseed_cli.estimates.schema import Book

CLIENTS = (1, 8, 64, 500)
"""§E1: 500 connections."""


@dataclass
class Found:
    """An interruption leaves it as it is. where: whose server it is, in words."""

    where: str = ""
    scale: int = 0
    facts: ServerFacts | None = None
    settings: Mapping[str, ServerSetting] = field(default_factory=dict)
    rows: list[Row] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    partial: bool = False

    def note_facts(self, facts: ServerFacts) -> None:
        """What the server says of itself, and whether its figures can be believed."""
        self.facts = facts
        if facts.careless:
            self.problems.append(_careless(facts))

    def add(self, done: PgRun) -> Row:
        """One cell more; its figures."""
        row = _row(done, self.scale)
        self.rows.append(row)
        return row

    def add_failure(self, cell: PgCell, error: FailedError) -> None:
        """One cell that could not be measured."""
        remedy = error.remedy or "See PostgreSQL's log, and mend what it says."
        reason = f"{cell.name}: {error.cause}"
        self.problems.append(Problem(rule="pgbench-failed", reason=reason, remedy=remedy))

    def result(self, book: Book) -> SuiteResult:
        """The suite's result, with its figures for §E1 if every cell was measured."""
        limit_ms = p95_limit_ms(book)
        # The best of some cells is not the best of all.
        judged = () if self.partial or self.problems else measurements(self.rows, limit_ms)
        tables = []
        if self.rows:
            tables.append(table(self.rows, f"pgbench, scale {self.scale} ({self.scale * 15:,} MiB)"))
        if self.settings:
            tables.append(settings_table(wanted_settings(book), self.settings))
        return SuiteResult(
            name="db",
            headline=self._headline(limit_ms),
            tables=tuple(tables),
            measurements=judged,
            problems=tuple(self.problems),
            partial=self.partial,
            missed=missed(judged, book),
        )

    def _headline(self, limit_ms: float) -> str:
        bests = [at_its_best(self.rows, workload, limit_ms) for workload in WORKLOADS]
        said = [
            f"{best.workload.name} {say(best.tps.value)} TPS at {best.clients} (p95 {say_ms(best.p95_ms)})"
            for best in bests
            if best is not None
        ]
        if not said or self.facts is None:
            return "Interrupted before the first cell of pgbench was measured."
        most = max(row.clients for row in self.rows)
        room = f"; {most} connections at a time"
        if not self.partial and most < max(CLIENTS):
            room += f" of the {max(CLIENTS)} asked: max_connections is {self.facts.most}"
        return f"{'; '.join(said)}{room}; PostgreSQL {self.facts.version}, {self.where}."


def say_ms(value: float | None) -> str:
    """Milliseconds, or that there were too few samples for them."""
    return "unknown" if value is None else f"{say(value)} ms"


def _row(done: PgRun, scale: int) -> Row:
    return Row(
        workload=done.cell.workload,
        clients=done.cell.clients,
        tps=tps_interval(done.seconds, done.begun_s, done.summary.tps),
        seconds=len(done.seconds),
        p50_ms=quantile_ms(done.latencies_ms, 0.50),
        p95_ms=quantile_ms(done.latencies_ms, 0.95),
        p99_ms=quantile_ms(done.latencies_ms, 0.99),
        failed=done.summary.failed,
        note=_note(done.cell, scale),
    )


def _note(cell: PgCell, scale: int) -> str:
    if cell.workload == WRITE and cell.clients > scale:
        return f"more writers than branches ({scale}): they wait for one another"
    return ""


def _careless(facts: ServerFacts) -> Problem:
    return Problem(
        rule="not-durable",
        reason=f"the server runs with {', '.join(facts.careless)}: its writing TPS are not those of one "
        "that keeps what it commits",
        remedy="Turn them on, and measure again.",
    )
