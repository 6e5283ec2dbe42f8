"""From pgbench's runs to figures and to the suite's result."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dreamseed_cli.bench.document import missed
from dreamseed_cli.bench.measure.quantiles import quantile_ms
from dreamseed_cli.bench.pgbench.command import READ_MOSTLY, READ_ONLY, WRITE, PgCell, Workload
from dreamseed_cli.bench.pgbench.database import ServerFacts
from dreamseed_cli.bench.pgbench.figures import (
    Row,
    at_its_best,
    choose_scale,
    client_counts,
    measurements,
    p95_limit_ms,
    tps_interval,
)
from dreamseed_cli.bench.pgbench.found import Found
from dreamseed_cli.bench.pgbench.output import Second, Summary
from dreamseed_cli.bench.pgbench.process import PgRun
from dreamseed_cli.bench.result import Interval
from dreamseed_cli.core.errors import FailedError
from dreamseed_cli.estimates.load import load_book

GIB = 1024**3
FACTS = ServerFacts("18.4", 100, 90, 4 * GIB, ())


def _row(workload: Workload, clients: int, tps: float, p95_ms: float | None, failed: int = 0) -> Row:
    return Row(
        workload, clients, Interval(value=tps, low=tps - 1, high=tps + 1), 20, 1.0, p95_ms, None, failed
    )


GOOD = (
    _row(READ_MOSTLY, 1, 2000, 0.5),
    _row(READ_MOSTLY, 8, 9000, 3.0),
    _row(READ_MOSTLY, 500, 9500, 90.0),
    _row(READ_ONLY, 8, 20000, 1.0),
    _row(WRITE, 1, 300, 4.0),
    _row(WRITE, 64, 900, 60.0),
)


@pytest.mark.parametrize(
    ("memory", "disk", "seconds", "most", "scale"),
    [
        (32 * GIB, 2000 * GIB, 20, 500, 128),
        (32 * GIB, 20 * GIB, 20, 500, 25),
        (512 * GIB, 4000 * GIB, 60, 500, 500),
        (32 * GIB, 2000 * GIB, 1, 500, 10),
        (32 * GIB, None, 20, 100, 100),
        (GIB // 64, GIB, 20, 500, 1),
    ],
    ids=["memory", "disk", "clients", "short", "somewhere else", "tiny"],
)
def test_the_scale_follows_the_scarcest(
    memory: int, disk: int | None, seconds: float, most: int, scale: int
) -> None:
    """Memory, disk, the time to load it, and no more branches than clients; at least 1."""
    assert choose_scale(memory, disk, seconds, most) == scale


@pytest.mark.parametrize(
    ("free", "counts"), [(516, (1, 8, 64, 500)), (90, (1, 8, 64, 90)), (50, (1, 8, 50)), (0, (1,))]
)
def test_clients_stay_within_what_the_server_has_room_for(free: int, counts: tuple[int, ...]) -> None:
    """No count comes twice."""
    assert client_counts((1, 8, 64, 500), free) == counts


def test_the_rate_weighs_every_second_by_its_length() -> None:
    """pgbench's seconds are not exact ones."""
    seconds = (Second(101.0, 100.0), Second(104.0, 200.0))

    assert tps_interval(seconds, 100.0, otherwise=0.0).value == pytest.approx(175.0)


def test_a_few_seconds_give_no_interval() -> None:
    """And none at all give what pgbench's summary says."""
    few = tuple(Second(100.0 + i, 100.0 + i) for i in range(1, 9))

    assert tps_interval(few, 100.0, otherwise=0.0).low is None
    assert tps_interval((), 0.0, otherwise=42.0) == Interval(value=42.0)


@given(st.lists(st.floats(0, 1e5), min_size=10, max_size=60))
def test_the_interval_holds_the_mean(rates: list[float]) -> None:
    """And is never below 0."""
    found = tps_interval([Second(1e9 + i, rate) for i, rate in enumerate(rates, 1)], 1e9, otherwise=0.0)

    assert found.low is not None
    assert found.high is not None
    assert 0 <= found.low <= found.value <= found.high
    assert found.value == pytest.approx(sum(rates) / len(rates))


def test_the_interval_rests_on_batches_of_seconds() -> None:
    """Seconds that alternate are steady in pairs: the interval vanishes, where single ones would give ±39."""
    seconds = [Second(100.0 + i, 100.0 if i % 2 else 300.0) for i in range(1, 21)]

    found = tps_interval(seconds, 100.0, otherwise=0.0)

    assert (found.low, found.value, found.high) == (200.0, 200.0, 200.0)


def test_a_quantile_needs_samples() -> None:
    """662 for the p99, as everywhere in the bench."""
    many = [float(i) for i in range(1, 663)]

    assert quantile_ms(many, 0.99) == 656.0
    assert quantile_ms(many[1:], 0.99) is None
    assert quantile_ms(many[1:], 0.95) == 629.0


def test_the_best_load_keeps_the_p95() -> None:
    """§E1 promises TPS and p95 of one server at one time: more TPS at 90 ms are not what it means."""
    best = at_its_best(GOOD, READ_MOSTLY, 5.0)

    assert best is not None
    assert (best.clients, best.tps.value) == (8, 9000)


def test_where_no_load_keeps_the_p95_the_one_with_most_tps_is_told() -> None:
    """Then the p95 is what falls short."""
    best = at_its_best(GOOD, READ_MOSTLY, 0.1)

    assert best is not None
    assert best.clients == 500
    assert at_its_best((), WRITE, 5.0) is None


def test_the_figures_have_the_keys_and_units_of_the_estimates() -> None:
    """The p95 is the worse one of the two loads whose TPS are told; the connections are the most served."""
    book = load_book()
    found = {one.key: one for one in measurements(GOOD, p95_limit_ms(book))}

    assert {key: (one.value, one.low, one.provenance) for key, one in found.items()} == {
        "postgres-read-tps": (9000.0, 8999.0, "measured"),
        "postgres-write-tps": (300.0, 299.0, "measured"),
        "postgres-p95-ms": (4.0, None, "measured"),
        "postgres-connections": (500.0, None, "measured"),
    }
    units = {one.measured_key: one.unit for one in book}
    assert all(one.unit == units[key] for key, one in found.items())


def test_connections_whose_transactions_failed_do_not_count() -> None:
    """They were not served."""
    rows = (_row(READ_ONLY, 64, 10.0, 1.0), _row(READ_ONLY, 500, 10.0, 1.0, failed=3))

    assert [one.value for one in measurements(rows, 5.0)] == [64.0]


def test_what_falls_short_of_the_document_is_named() -> None:
    """300 writing TPS are below 500; the others hold."""
    book = load_book()

    (words,) = missed(measurements(GOOD, p95_limit_ms(book)), book)

    assert words == "writing transactions: 300 TPS, §E1 says 500-1,000 TPS"


def test_a_whole_run_has_figures_a_table_and_a_sentence() -> None:
    """With the connections that were asked and could not be had."""
    found = Found(where="the stack's PostgreSQL", scale=20, facts=FACTS)
    row = found.add(_run(WRITE, 64))

    result = found.result(load_book())

    assert row.note.startswith("more writers than branches (20)")
    assert result.headline == (
        "write 100 TPS at 64 (p95 unknown); 64 connections at a time of the 500 asked: max_connections is "
        "100; PostgreSQL 18.4, the stack's PostgreSQL."
    )
    assert result.tables[0].title == "pgbench, scale 20 (300 MiB)"
    assert {one.key for one in result.measurements} == {"postgres-write-tps", "postgres-connections"}
    assert not result.partial


def test_a_part_of_a_run_publishes_no_figures() -> None:
    """The best of some cells is not the best of all; the table shows what there is."""
    found = Found(scale=20, facts=FACTS, partial=True)
    found.add(_run(READ_MOSTLY, 1))

    result = found.result(load_book())

    assert result.partial
    assert (result.measurements, result.missed) == ((), ())
    assert len(result.tables[0].rows) == 1


def test_a_cell_that_failed_makes_the_suite_invalid() -> None:
    """With pgbench's last words, and without figures."""
    found = Found(scale=20, facts=FACTS)
    found.add(_run(READ_MOSTLY, 1))
    found.add_failure(_run(READ_MOSTLY, 500).cell, FailedError("it failed: sorry, too many clients already"))

    result = found.result(load_book())

    (problem,) = result.problems
    assert problem.reason == "read-mostly, 500 clients: it failed: sorry, too many clients already"
    assert result.measurements == ()


def test_a_server_that_forgets_what_it_commits_is_named() -> None:
    """Its writing TPS would be believed."""
    found = Found(scale=20)
    found.note_facts(ServerFacts("18.4", 100, 90, GIB, ("fsync = off",)))

    (problem,) = found.result(load_book()).problems

    assert "fsync = off" in problem.reason


def _run(workload: Workload, clients: int) -> PgRun:
    cell = PgCell(workload, clients, threads=2, warm_s=1, measured_s=2, seed=1)
    return PgRun(cell, Summary(100.0, 200, 0), 0.0, (), ())
