"""§A's three architectures, §F3's rows, and what saturates beyond one box."""

import json
import math
import re
from dataclasses import dataclass
from decimal import Decimal
from functools import partial
from pathlib import Path

import pytest
from cost_bills import monthly_bill
from hypothesis import given, settings
from hypothesis import strategies as st

from dreamseed_cli.core.errors import ErrorGroup, MissingError, UsageError
from dreamseed_cli.costsim.billing.bill import Bill, Line
from dreamseed_cli.costsim.decisions.architecture_bills import (
    Database,
    full_cloud_bill,
    on_premises_bill,
)
from dreamseed_cli.costsim.decisions.architectures import (
    Architecture,
    Availability,
    Demand,
    Failure,
    Luck,
    Site,
    availability,
    compare,
    load_failures,
    outage,
    shipped_failures,
)
from dreamseed_cli.costsim.decisions.beyond import (
    demands,
    load_limits,
    on_paper,
    saturations,
    shipped_limits,
)
from dreamseed_cli.costsim.decisions.ranges import shipped_ranges
from dreamseed_cli.costsim.decisions.sweep import (
    Point,
    concurrent_users,
    parse_sweep,
    points,
    scenario_at,
    sweep,
)
from dreamseed_cli.costsim.prices.load import load_book
from dreamseed_cli.costsim.prices.schema import PriceBook
from dreamseed_cli.costsim.scenario import Scenario
from dreamseed_cli.estimates.load import load_book as load_figures
from dreamseed_cli.estimates.load import shipped_dir
from dreamseed_cli.plan.tables import cards

_FIGURES = load_figures()
_BOOK = load_book()
_RESULTS = shipped_dir() / "results"
_SCENARIO = Scenario(users=100_000, concurrent=3000)
_SITE = Site(cards=3, needed_cards=2, ups_h=10 / 60, switch_h=1.0)


@dataclass(frozen=True)
class _Says:
    holds: bool


def _failure(hits: str, rate: float, hours: float, *, ups: bool = False) -> Failure:
    every = list(Architecture)
    return Failure(
        id="x",
        title="x",
        where=tuple(every),
        hits=hits,  # type: ignore[arg-type]
        per_year=(rate,) * 3,
        hours=(hours,) * 3,
        ups=ups,
        source="a test",
    )


def _in_cloud(scenario: Scenario, *, book: PriceBook = _BOOK, home: str = "rtx5090") -> Bill:
    hybrid = monthly_bill(scenario, book)
    return full_cloud_bill(hybrid, scenario, book, cards(), home, Database(16, 32))


def _how(bill: Bill, key: str) -> str:
    return next(line.how for line in bill.lines if line.key == key)


def test_one_part_by_hand() -> None:
    """10 failures of 8.76 h in 8,760 h: 87.6 / 8,847.6 = 0.99 % down, at home for all requests alike."""
    found = availability([_failure("box", 10, 8.76)], Architecture.ON_PREMISES, _SITE)
    assert found.plain == found.ai == found.own_ai == pytest.approx(1 / 1.01)


def test_the_standby_and_the_fallback_carry_the_hybrid() -> None:
    """Of each 8.76 h plain requests feel 8.76 (1 - exp(-1 / 8.76)) = 0.945 h; AI goes to the fallback."""
    found = availability([_failure("box", 10, 8.76)], Architecture.HYBRID, _SITE)
    lost = 10 * 8.76 * (1 - math.exp(-1 / 8.76))
    assert found.plain == pytest.approx(8760 / (8760 + lost))
    assert found.ai == 1
    assert found.own_ai == pytest.approx(1 / 1.01)
    alone = Site(3, 2, 0, 1.0, has_fallback=False)
    assert availability([_failure("box", 10, 8.76)], Architecture.HYBRID, alone).ai == found.own_ai


def test_a_ups_bridges_what_is_shorter() -> None:
    """Outages of half an hour on average: 10 minutes of battery let exp(-1/3) = 72 % of them through."""
    with_ups = availability([_failure("box", 10, 0.5, ups=True)], Architecture.ON_PREMISES, _SITE).plain
    lost = 10 * math.exp(-1 / 3) * 0.5
    assert with_ups == pytest.approx(8760 / (8760 + lost))


def test_enough_of_the_cards_must_work() -> None:
    """Each down 10 % of the time: at least 2 of 3 work for 0.9^3 + 3 x 0.9^2 x 0.1 = 97.2 %."""
    failing = [_failure("card", 10, 8760 / 90)]
    assert availability(failing, Architecture.ON_PREMISES, _SITE).own_ai == pytest.approx(0.972)
    assert availability(failing, Architecture.ON_PREMISES, _SITE).plain == 1


@settings(max_examples=40)
@given(rate=st.floats(0, 100), more=st.floats(0, 100), hours=st.floats(0.01, 100))
def test_more_failures_never_make_it_more_available(rate: float, more: float, hours: float) -> None:
    """In any architecture, of any kind."""
    for hits in ("all", "box", "card"):
        for one in Architecture:
            good = availability([_failure(hits, rate, hours)], one, _SITE)
            bad = availability([_failure(hits, rate + more, hours)], one, _SITE)
            assert bad.plain <= good.plain
            assert bad.own_ai <= good.own_ai + 1e-12
            assert bad.ai <= good.ai + 1e-12


def test_the_shipped_failures_order_the_architectures_as_the_document_does() -> None:
    """§J1: full cloud over hybrid over on-premises; and luck only helps."""
    found = {
        (one, luck): availability(shipped_failures(), one, _SITE, luck).plain
        for one in Architecture
        for luck in Luck
    }
    for one in Architecture:
        assert found[one, Luck.LEAST] > found[one, Luck.LIKELIEST] > found[one, Luck.MOST]
    likely = [found[one, Luck.LIKELIEST] for one in Architecture]
    assert likely == sorted(likely, reverse=True)


def test_what_an_outage_costs_by_hand() -> None:
    """1 % of 1,000 plain requests at $0.10, and 3 % of 100 answers bought at $0.02."""
    demand = Demand(730, 1000, 100, Decimal("0.10"), Decimal("0.02"))
    found = outage(Availability(plain=0.99, ai=1.0, own_ai=0.97), demand)
    assert found.lost_usd == pytest.approx(Decimal("1.00"))
    assert found.fallback_usd == pytest.approx(Decimal("0.06"))
    assert found.down_hours == pytest.approx(7.3)
    assert found.usd == found.lost_usd + found.fallback_usd


def test_the_comparison_adds_what_failures_cost() -> None:
    """Bill and outages, for each architecture that has a bill."""
    bill = Bill((Line("x", "", Decimal(100), ""),))
    demand = Demand(730, 1e6, 1e4, Decimal("0.001"), Decimal("0.01"))
    rows = compare(dict.fromkeys(Architecture, bill), shipped_failures(), _SITE, demand)
    assert [row.architecture for row in rows] == list(Architecture)
    for row in rows:
        assert row.usd(Luck.MOST) > row.usd() > row.usd(Luck.LEAST) > 100


def test_at_home_only_electricity_address_and_domain_are_left() -> None:
    """§J1's $150: 130 + 10 + 2, to 5 %."""
    lines = [
        Line(name, "", Decimal(str(_FIGURES.number(f"f1-{name}-usd"))), "")
        for name in ("electricity", "cloud-run", "cloudflare", "storage", "fixed-ip", "cloud-sql", "domain")
    ]
    assert on_premises_bill(Bill(tuple(lines))).usd == 142


def test_the_full_cloud_pays_for_cards_by_the_hour() -> None:
    """At 0 users one instance of the cheapest kind runs all month: an L4, 730 h x $0.7068."""
    nobody = Scenario(users=0, concurrent=0)
    bill = _in_cloud(nobody)
    assert bill.of("cloud-gpu") == pytest.approx(730 * Decimal("0.7068"))
    how = "730 h of L4 24 GB (g2-standard-4), on demand, up to 1 at a time, x $0.7068/h"
    assert _how(bill, "cloud-gpu") == how
    assert bill.of("electricity") == bill.of("fixed-ip") == 0
    # 2 x (16 x 0.0413 + 32 x 0.007) x 730
    assert bill.of("cloud-sql") == Decimal("1291.8080")
    assert _how(bill, "cloud-sql").startswith("2 x (16 vCPU x $0.0413 + 32 GiB x $0.007) x 730 h")
    assert bill.of("domain") == monthly_bill(nobody, _BOOK).of("domain")


def test_a_busy_service_takes_more_cloud_cards_in_its_busy_hours() -> None:
    """More than one at the peak, and fewer on average."""
    busy = Scenario(users=1_000_000, concurrent=10_000)
    found = re.match(r"([\d,]+) h of .* up to (\d+) at a time", _how(_in_cloud(busy), "cloud-gpu"))
    assert found is not None
    hours, most = float(found[1].replace(",", "")), int(found[2])
    assert most > 1
    assert 730 < hours < most * 730
    with pytest.raises(UsageError, match="no card"):
        _in_cloud(busy, home="rtx6090")


def test_the_prices_of_cloud_sql_are_in_the_book() -> None:
    """A dearer vCPU is a dearer database: 16 x 2 x 730 h x $0.01 more."""
    nobody = Scenario(users=0, concurrent=0)
    dearer = _BOOK.with_amounts({"cloud-sql-vcpu": _BOOK.amount("cloud-sql-vcpu") + Decimal("0.01")})
    more = _in_cloud(nobody, book=dearer).of("cloud-sql") - _in_cloud(nobody).of("cloud-sql")
    assert more == 16 * 2 * 730 * Decimal("0.01")


def test_failures_that_make_no_sense_are_refused(tmp_path: Path) -> None:
    """At their path."""
    path = tmp_path / "failures.toml"
    path.write_text(
        '[[failure]]\nid = "x"\ntitle = "x"\nwhere = ["hybrid"]\nhits = "box"\n'
        'per_year = [3, 2, 1]\nhours = [1, 2, 3]\nsource = "x"\n',
        encoding="utf-8",
    )
    with pytest.raises(ErrorGroup, match="per_year must not fall"):
        load_failures(path)


@pytest.mark.parametrize(
    ("text", "ends"),
    [("users=1e3..1e6", (1000, 1_000_000)), ("users=500", (500, 500)), ("users=1..2", (1, 2))],
)
def test_a_sweep_is_read(text: str, ends: tuple[int, int]) -> None:
    """In plain or scientific numbers, or just one."""
    assert parse_sweep(text) == ends


@pytest.mark.parametrize("text", ["cards=1..2", "users=2..1", "users=a..b", "users=0..9", "users=1..inf", ""])
def test_what_is_no_sweep_is_refused(text: str) -> None:
    """With the way to write it."""
    with pytest.raises(UsageError, match=r"users=1e3\.\.1e6"):
        parse_sweep(text)


def test_the_sweep_of_the_document_has_its_rows() -> None:
    """1e3 to 1e6 is §F3's five rows with their concurrent users and cards."""
    found = points(1000, 1_000_000, _FIGURES)
    assert [one.users for one in found] == [1_000, 10_000, 100_000, 500_000, 1_000_000]
    assert [one.concurrent for one in found] == [100, 500, 3000, 7000, 10_000]
    assert [scenario_at(one, _SCENARIO).gpus for one in found] == [1, 2, 3, 4, 5]


def test_between_and_beyond_the_rows() -> None:
    """31,623 users are halfway between 10,000 and 100,000 on paper with logarithms: sqrt(500 x 3,000)."""
    rows = [one.document for one in points(1000, 1_000_000, _FIGURES) if one.document]
    assert concurrent_users(31_623, rows) == pytest.approx(math.sqrt(500 * 3000), abs=1)
    assert concurrent_users(100, rows) == 10
    assert concurrent_users(1, rows) == 1
    assert concurrent_users(10_000_000, rows) == 100_000
    beyond = points(2_000_000, 20_000_000, _FIGURES)
    assert [one.users for one in beyond] == [2_000_000, 10_000_000, 20_000_000]
    assert scenario_at(beyond[0], _SCENARIO).gpus == 3


def test_a_sweep_gives_each_row_its_bill_its_bands_and_its_verdict() -> None:
    """Ours beside the document's; the median near the bill; the verdict is the simulation's."""
    rows = [
        (Point(users, online, None), Scenario(users=users, concurrent=online))
        for users, online in ((1000, 100), (1_000_000, 10_000))
    ]
    found = sweep(
        rows,
        _BOOK,
        shipped_ranges(),
        cost=partial(monthly_bill, explain=False),
        simulate=lambda one: _Says(one.users < 10_000),
        draws=100,
    )
    assert [row.verdict.holds for row in found] == [True, False]
    for row in found:
        assert row.bill.usd == monthly_bill(row.scenario, _BOOK).usd
        assert row.bands.total.p5 < row.bill.usd < row.bands.total.p95
    assert found[0].cards_needed <= 1 < found[1].cards_needed


def test_demands_by_hand() -> None:
    """300 RPS: 54.1 % reach and need no card, 3 % are AI, of which 30 % are generated: 540 tok/s."""
    found = demands(_SCENARIO, shipped_limits().demand)
    plain = 300 * (0.55 - 0.009)
    assert found.tok_s == pytest.approx(540)
    assert found.ai_rps == pytest.approx(9)
    assert found.cards == pytest.approx(540 / 400)
    assert found.uplink_mbit_s == pytest.approx((plain * 10_000 * 8 + 9 * 200 * 4 * 8) / 1e6)
    assert found.db_reads_s == pytest.approx(plain * 2)
    assert found.redis_ops_s == pytest.approx(plain + 27)
    assert found.instances == pytest.approx((plain * 0.1 + 2.7 * 3.2) / 80)


def test_ten_million_users_saturate_the_box() -> None:
    """A hundred times the users meet each limit a hundred times over; nothing is left out."""
    found = on_paper(
        _SCENARIO, [10_000_000, 100_000_000], shipped_limits(), figures=_FIGURES, results=_RESULTS
    )
    assert set(found) == {10_000_000, 100_000_000}
    for many, rows in found.items():
        assert {row.limit.id for row in rows} == {one.id for one in shipped_limits().limit}
        assert [row.users for row in rows] == sorted(row.users for row in rows)
        for row in rows:
            assert (row.times > 1) == (row.users < many)
    cards_row = next(row for row in found[10_000_000] if row.limit.id == "psu-cards")
    assert cards_row.demand == pytest.approx(135)
    assert cards_row.users == pytest.approx(10_000_000 * 3 / 135)


def test_nobody_saturates_nothing() -> None:
    """Zero users: no demand, no number of users at which it is met."""
    nobody = Scenario(users=0, concurrent=0)
    rows = saturations(nobody, shipped_limits(), figures=_FIGURES, results=_RESULTS)
    assert all(row.users == math.inf and row.times == 0 for row in rows)


def test_a_measured_limit_is_read_from_the_benchmarks_result(tmp_path: Path) -> None:
    """2,000 calls a second; a token of 200 microseconds is 5,000 a second; without the file it says so."""
    result = {"summary": {"unary_64": {"calls_per_s": {"gateway": 2000}}}}
    result["summary"]["streams_32"] = {"gateway_cpu_us_per_token": 200}  # type: ignore[dict-item]
    (tmp_path / "gateway_overhead.json").write_text(json.dumps(result), encoding="utf-8")
    rows = saturations(_SCENARIO, shipped_limits(), figures=_FIGURES, results=tmp_path)
    most = {row.limit.id: row.most for row in rows}
    assert (most["gateway-calls"], most["gateway-tokens"]) == (2000, 5000)
    assert most["postgres-writes"] == 1000
    assert most["cloud-run-own"] == 10
    with pytest.raises(MissingError, match="gateway_overhead"):
        saturations(_SCENARIO, shipped_limits(), figures=_FIGURES, results=tmp_path / "none")


@pytest.mark.parametrize(
    ("change", "cause"), [('demand = "wind"', "no demand"), ('demand = "cards"\nlimit = 3', "just one of")]
)
def test_limits_that_make_no_sense_are_refused(tmp_path: Path, change: str, cause: str) -> None:
    """At their path."""
    path = tmp_path / "limits.toml"
    path.write_text(
        '[[limit]]\nid = "x"\ntitle = "x"\nunit = "x"\nsource = "x"\nbeyond = "x"\n'
        f'estimate = "y"\n{change}\n'
        "[demand]\nreads_per_request = 1.0\nwrite_share = 0.1\nredis_ops_per_request = 1.0\n"
        "redis_ops_per_ai_request = 1.0\n",
        encoding="utf-8",
    )
    with pytest.raises(ErrorGroup, match=cause):
        load_limits(path)
