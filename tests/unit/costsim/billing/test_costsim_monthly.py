"""Bills of a month: against one worked by hand, and what must always hold of them."""

from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import pytest
from cost_bills import monthly_bill
from hypothesis import given, settings
from hypothesis import strategies as st

from dreamseed_cli.core.errors import UsageError
from dreamseed_cli.costsim.billing.bill import Bill
from dreamseed_cli.costsim.billing.choices import Choices
from dreamseed_cli.costsim.billing.monthly import LINES, bill_of, depreciation
from dreamseed_cli.costsim.prices.load import load_book
from dreamseed_cli.costsim.scenario import Scenario
from dreamseed_cli.costsim.usage.month import month_of

_BOOK = load_book("current", Path(__file__).with_name("bills") / "prices.toml")
_TODAY = load_book()
_STEADY = Scenario(1_000_000, 10_000, peak_to_average=1)
_FIXED = {"electricity", "cloudflare", "storage", "fixed-ip", "cloud-sql", "domain", "glacier"}
_A_CENT = Decimal("0.01")
_PRICES = sorted(
    {
        *("cloud-run-cpu", "cloud-run-memory", "cloud-run-requests", "cloud-run-instance-cpu", "b2-storage"),
        *("cloud-run-instance-memory", "egress", "cloudflare-pro", "fixed-ip", "cloud-sql-storage", "domain"),
        *("electricity-flat", "glacier-storage", "fallback-gpt-5-nano-input", "fallback-gpt-5-nano-output"),
    }
)


@st.composite
def _scenarios(draw: st.DrawFn) -> Scenario:
    """Services of any size on any box."""
    users = draw(st.integers(0, 2_000_000))
    return Scenario(
        users=users,
        concurrent=draw(st.integers(0, users)),
        peak_to_average=draw(st.floats(1, 20)),
        surge=draw(st.floats(1, 5)),
        surge_days=draw(st.floats(0, 30)),
        ai_share=draw(st.floats(0, 0.3)),
        answer_cache_hit=draw(st.floats(0, 1)),
        gpus=draw(st.integers(0, 5)),
        max_instances=draw(st.integers(1, 20)),
        plain_request_s=draw(st.floats(0, 2)),
        cooling=draw(st.floats(0, 0.5)),
        outage_hours=draw(st.floats(0, 100)),
    )


def _not_cheaper(more: Bill, less: Bill) -> None:
    """No line of the dearer bill is below the other's by more than a rounding to ten won."""
    for line in less.lines:
        assert more.of(line.key) >= line.usd * (1 - Decimal("1e-9")) - _A_CENT, line.key


def test_a_month_worked_by_hand() -> None:
    """bills/month.md."""
    bill = monthly_bill(_STEADY, _BOOK)
    found = {line.key: line.usd.quantize(Decimal("0.001")) for line in bill.lines}
    assert {key: str(usd) for key, usd in found.items()} == {
        "electricity": "196.448",
        "cloud-run": "226.044",
        "cloudflare": "20.000",
        "storage": "272.639",
        "egress": "1396.462",
        "fixed-ip": "10.000",
        "cloud-sql": "24.670",
        "domain": "6.667",
        "glacier": "3.960",
        "fallback": "383.852",
    }
    assert round(bill.usd, 2) == Decimal("2540.74")


def test_every_line_says_how_it_came_about() -> None:
    """With the figures of the invoice; Cloud Run tells of both kinds of billing, the cheaper first."""
    how = {line.key: line.how for line in monthly_bill(_STEADY, _BOOK).lines}
    assert all(how.values())
    assert how["cloud-run"].startswith("instance-based: 1,460.0 instance-hours = $226.04; request-based: ")
    assert "1,445,400,000 requests $577.36 = $876.99" in how["cloud-run"]
    assert "= 1,637.1 kWh" in how["electricity"]
    assert "118,260 answers in 3.65 h of outage + 3,922,290 too many for the cards" in how["fallback"]


def test_no_sentence_is_written_unless_asked_for() -> None:
    """The amounts are the same."""
    told, silent = monthly_bill(_STEADY, _BOOK), monthly_bill(_STEADY, _BOOK, explain=False)
    assert [line.usd for line in told.lines] == [line.usd for line in silent.lines]
    assert not any(line.how for line in silent.lines)


def test_what_cloud_run_refuses_is_told() -> None:
    """One instance of one request at a time has no place for 82.9."""
    bill = monthly_bill(replace(_STEADY, max_instances=1, container_concurrency=1), _BOOK)
    how = next(line.how for line in bill.lines if line.key == "cloud-run")
    assert how.endswith("requests refused")


def test_request_based_billing_under_the_free_tier_and_with_an_idle_instance() -> None:
    """1 request/s of 0.1 s: 1 - e^-0.1 of 2,628,000 s = 250,086.4 s busy, the rest idle.

    Without a minimum: CPU (500,172.7 - 180,000) x 0.000024 = 7.6841; memory (1,000,345.5 - 360,000) x
    0.0000025 = 1.6009; requests (2.628 - 2) x 0.40 = 0.2512: 9.5362. A minimum of one idles for
    2,377,913.6 s: 2 x 0.0000025 + 4 x 0.0000025 a second = 35.6687 more.
    """
    quiet = replace(_STEADY, concurrent=10, cached_question_share=0, ai_share=0)
    assert monthly_bill(quiet, _BOOK).of("cloud-run").quantize(_A_CENT) == Decimal("9.54")
    kept = monthly_bill(replace(quiet, min_instances=1), _BOOK).of("cloud-run")
    assert kept.quantize(_A_CENT) == Decimal("45.20")
    # A fifth of the requests is all within the free tier.
    assert monthly_bill(replace(quiet, concurrent=2), _BOOK).of("cloud-run") == 0


def test_choices_change_their_lines_and_no_other() -> None:
    """Tariff and month, plan, store, region and fallback."""
    month = month_of(_STEADY)
    usual = {line.key: line.usd for line in bill_of(month, _TODAY).lines}
    for choices, changed in (
        (Choices(tariff="kr-residential-low", month=8), "electricity"),
        (Choices(cloudflare="business"), "cloudflare"),
        (Choices(store="r2"), "storage"),
        (Choices(cloud_run_tier=2), "cloud-run"),
        (Choices(fallback="gpt-4o-mini"), "fallback"),
    ):
        other = {line.key: line.usd for line in bill_of(month, _TODAY, choices).lines}
        assert {key for key, usd in other.items() if usd != usual[key]} == {changed}
        assert other[changed] > usual[changed]


def test_an_unknown_choice_is_refused_by_its_name() -> None:
    """A tariff, a fallback, a month."""
    for wrong, place in (
        (Choices(tariff="cheap"), "cheap"),
        (Choices(fallback="none"), "fallback-none-input"),
        (Choices(tariff="kr-general-low", month=13), "month"),  # type: ignore[arg-type]
    ):
        with pytest.raises(UsageError) as caught:
            monthly_bill(_STEADY, _TODAY, wrong)
        assert caught.value.place == place


def test_depreciation_stands_aside() -> None:
    """(12,200 - 5,000) / 36 = 200 a month, not in the total."""
    line = depreciation(Decimal(12200), Decimal(5000), 36)
    assert line.usd == 200
    bill = replace(monthly_bill(_STEADY, _BOOK), aside=(line,))
    assert bill.usd == monthly_bill(_STEADY, _BOOK).usd
    with pytest.raises(UsageError, match="at 'resale'"):
        depreciation(Decimal(100), Decimal(101), 12)
    with pytest.raises(UsageError, match="at 'months'"):
        depreciation(Decimal(100), Decimal(10), 0)


@given(_scenarios())
@settings(max_examples=100, deadline=None)
def test_without_users_only_the_fixed_lines_cost(scenario: Scenario) -> None:
    """Idle electricity, and what is paid by the month or for stored data."""
    none = replace(scenario, users=0, concurrent=0)
    bill = monthly_bill(none, _TODAY, explain=False)
    assert {line.key for line in bill.lines if line.usd} == _FIXED
    assert {key for key, *_ in LINES} - _FIXED == {"cloud-run", "egress", "fallback"}
    idle = month_of(none).box
    assert idle.kwh == idle.idle_kwh


@given(
    _scenarios(),
    st.integers(0, 500_000),
    st.integers(0, 500_000),
    st.sampled_from(["electricity-flat", "kr-residential-low"]),
)
@settings(max_examples=150, deadline=None)
def test_more_users_never_cost_less(scenario: Scenario, more: int, online: int, tariff: str) -> None:
    """With the same box, line by line, whatever is refused or too much for the cards."""
    users = scenario.users + max(more, online)
    grown = replace(scenario, users=users, concurrent=scenario.concurrent + online)
    less = monthly_bill(scenario, _TODAY, Choices(tariff=tariff), explain=False)
    _not_cheaper(monthly_bill(grown, _TODAY, Choices(tariff=tariff), explain=False), less)


@given(_scenarios(), st.floats(1, 1.2))
@settings(max_examples=100, deadline=None)
def test_more_hours_never_cost_less(scenario: Scenario, longer_by: float) -> None:
    """A longer month, as much of it exam season and outage as before."""
    longer = replace(
        scenario,
        hours=scenario.hours * longer_by,
        surge_days=scenario.surge_days * longer_by,
        outage_hours=scenario.outage_hours * longer_by,
    )
    less = monthly_bill(scenario, _TODAY, explain=False)
    _not_cheaper(monthly_bill(longer, _TODAY, explain=False), less)


@given(_scenarios(), st.sampled_from(_PRICES), st.floats(1, 10))
@settings(max_examples=150, deadline=None)
def test_higher_prices_never_cost_less(scenario: Scenario, price: str, factor: float) -> None:
    """Any one of them."""
    dearer = _TODAY.with_amounts({price: _TODAY.price(price).amount * Decimal(str(factor))})
    less = monthly_bill(scenario, _TODAY, explain=False)
    _not_cheaper(monthly_bill(scenario, dearer, explain=False), less)
