"""The hybrid beside §A's two other architectures, and what it takes to buy it, from one question."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal

from dreamseed_cli.costsim.billing.bill import Bill
from dreamseed_cli.costsim.billing.monthly import bill_of, depreciation
from dreamseed_cli.costsim.decisions.architecture_bills import Database, full_cloud_bill, on_premises_bill
from dreamseed_cli.costsim.decisions.architectures import (
    Architecture,
    Compared,
    Demand,
    Failure,
    Site,
    compare,
    shipped_failures,
)
from dreamseed_cli.costsim.decisions.box_power import with_record
from dreamseed_cli.costsim.decisions.capacity import cards_needed
from dreamseed_cli.costsim.decisions.hardware import (
    LIFE_MONTHS,
    bought,
    initial_usd,
    pieces,
    shipped_losses,
)
from dreamseed_cli.costsim.decisions.investment import Investment, Month, breaks_even, cash_flow
from dreamseed_cli.costsim.decisions.uncertainty import DrawnBills, DrawnReturn, drawn_return
from dreamseed_cli.costsim.document.tables import investment as document_investment
from dreamseed_cli.costsim.prices.load import load_book
from dreamseed_cli.costsim.prices.schema import PriceBook
from dreamseed_cli.costsim.question import Question
from dreamseed_cli.costsim.scenario import Scenario
from dreamseed_cli.costsim.usage.box import wall_w
from dreamseed_cli.costsim.usage.month import Month as Quantities
from dreamseed_cli.costsim.usage.month import month_of


@dataclass(frozen=True, slots=True)
class Returns:
    """Whether it pays to buy the box. Computed, but for the document's."""

    ours: Investment
    """Against the full cloud as it would be billed for the same traffic."""
    document: Investment
    """§F2 and §J2 at the document's prices."""
    flow: Sequence[Month]
    drawn: DrawnReturn

    @property
    def breaks_even(self) -> int | None:
        """The first month in which one is no worse off; None if within no month of the flow."""
        return breaks_even(self.flow)

    @property
    def breaks_even_sold(self) -> int | None:
        """The same with what was bought sold again."""
        return breaks_even(self.flow, sold=True)


def document_prices(book: PriceBook) -> PriceBook:
    """What the document's own figures are recomputed at: its prices, with one's own over them if it is asked
    for by `--book document`.
    """
    return book if book.name == "document" else load_book("document")


def hybrid_bill(one: Question, scenario: Scenario, book: PriceBook) -> Bill:
    """The bill of the scenario at a book's prices, without how each line comes about."""
    return bill_of(month_of(scenario), book, one.choices, explain=False)


def both_bills(one: Question, scenario: Scenario, book: PriceBook) -> tuple[Bill, Bill]:
    """The hybrid's bill and the full cloud's, which has lines of it. UsageError as `cloud_bill`."""
    hybrid = hybrid_bill(one, scenario, book)
    return hybrid, cloud_bill(one, scenario, book, hybrid)


def cloud_bill(one: Question, scenario: Scenario, book: PriceBook, hybrid: Bill) -> Bill:
    """The full cloud's for the same traffic. UsageError if no table has the card at home."""
    box = one.figures.get("e1-box")
    database = Database(vcpus=round(box.middle), gib=round(box.field("ram_gb")))
    return full_cloud_bill(hybrid, scenario, book, one.tables.cards, one.home, database)


def architectures(one: Question, month: Quantities, hybrid: Bill) -> list[Compared]:
    """All three with what their failures cost."""
    scenario = month.scenario
    bills = {
        Architecture.FULL_CLOUD: cloud_bill(one, scenario, one.book, hybrid),
        Architecture.HYBRID: hybrid,
        Architecture.ON_PREMISES: on_premises_bill(hybrid),
    }
    return compare(bills, failures(one), _site(one, scenario), _demand(one, month))


def failures(one: Question) -> tuple[Failure, ...]:
    """What fails, with the mains as the box recorded them where its record is long enough."""
    return with_record(shipped_failures(), one.power)


def worn(one: Question, hybrid: Bill) -> Bill:
    """The bill with the hardware's depreciation aside."""
    pieces_ = pieces(one.scenario.gpus, one.home)
    paid = initial_usd(one.book, pieces_)
    left = sum((part.resale(LIFE_MONTHS) for part in bought(one.book, pieces_, shipped_losses())), Decimal(0))
    return Bill(hybrid.lines, (*hybrid.aside, depreciation(paid, left, LIFE_MONTHS)))


def returns(
    one: Question, scenario: Scenario, hybrid: Bill, drawn: DrawnBills, in_cloud: DrawnBills
) -> Returns:
    """Payback, saving and runway, with the cash of every month and the bands of the draws.

    drawn, in_cloud: the hybrid's bills and the full cloud's, from the same draws.
    """
    pieces_ = pieces(scenario.gpus, one.home)
    paid = initial_usd(one.book, pieces_)
    ours = Investment(
        initial=paid,
        monthly=hybrid.usd,
        alternative=cloud_bill(one, scenario, one.book, hybrid).usd,
        funds=one.means.funds_usd,
    )
    flow = cash_flow(
        ours, bought(one.book, pieces_, shipped_losses()), months=LIFE_MONTHS, life_months=LIFE_MONTHS
    )
    returned = drawn_return(drawn, in_cloud, [paid] * len(drawn.totals), funds=ours.funds)
    return Returns(ours, document_investment(one.figures, document_prices(one.book)), flow, returned)


def _site(one: Question, scenario: Scenario) -> Site:
    """The box as failures meet it: the UPS holds §H3's energy, or cannot carry the box at all."""
    figures, full_w = one.figures, wall_w(scenario, 1.0)
    rated_w = one.profile.box.ups_w or figures.number("h3-ups-w")
    ups_h = figures.number("h3-ups-min") / 60 * rated_w / full_w if full_w <= rated_w else 0.0
    return Site(
        cards=scenario.gpus,
        needed_cards=min(scenario.gpus, max(1, cards_needed(scenario, busy_share=1.0))),
        ups_h=ups_h,
        switch_h=figures.number("e3-rto-min") / 60,
    )


def _demand(one: Question, month: Quantities) -> Demand:
    scenario, load = month.scenario, month.traffic
    return Demand(
        hours=scenario.hours,
        plain_requests=load.cloud_run_requests - load.answers,
        ai_requests=load.answers,
        usd_per_lost_request=one.means.usd_per_lost_request,
        usd_per_fallback_answer=one.book.fallback_usd(
            one.choices.fallback, scenario.prompt_tokens, scenario.answer_tokens
        ),
    )
