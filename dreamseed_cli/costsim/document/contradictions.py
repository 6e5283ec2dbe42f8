"""The document's contradictions 1, 5, 6, 8 and 9, computed from its figures, prices and the model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from math import ceil
from typing import Any

from dreamseed_cli.core.result import Figure, Provenance
from dreamseed_cli.costsim.billing.cloud_run import cloud_run_cost
from dreamseed_cli.costsim.billing.monthly import bill_of
from dreamseed_cli.costsim.document import amounts
from dreamseed_cli.costsim.document.amounts import field, figure
from dreamseed_cli.costsim.document.scenario import document_scenario
from dreamseed_cli.costsim.document.tables import investment
from dreamseed_cli.costsim.money import decimal, dollars
from dreamseed_cli.costsim.prices.schema import PriceBook
from dreamseed_cli.costsim.scenario import Scenario
from dreamseed_cli.costsim.usage.box import wall_w
from dreamseed_cli.costsim.usage.month import month_of
from dreamseed_cli.estimates.outcome import Outcome, agrees, say
from dreamseed_cli.estimates.rules import apply_rule
from dreamseed_cli.estimates.schema import Book as Figures
from dreamseed_cli.plan.power import PSU_EFFICIENCY

LAST_ROW = "f3-1m"
"""§F3's row of the goal."""
FARM_ROW = "f3-100k"
"""§F3's row with §B's three cards."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What comes of one contradiction."""

    number: int
    """In the list at the document's end."""
    holds: bool
    """Whether the document's figures hold after all: none of them contradicts the computed ones."""
    sentence: str
    figures: Mapping[str, Figure]
    """By a short name."""

    def to_data(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "number": self.number,
            "holds": self.holds,
            "sentence": self.sentence,
            "figures": {name: one.to_data() for name, one in self.figures.items()},
        }


def contradictions(figures: Figures, book: PriceBook) -> tuple[Verdict, ...]:
    """All five; a changed estimate or price changes them. UsageError if a figure they need is missing."""
    with amounts.computable():
        return (
            cloud_run_bill(figures, book),
            concurrency(figures),
            goal(figures, book),
            power(figures, book),
            runway(figures, book),
        )


def cloud_run_bill(figures: Figures, book: PriceBook) -> Verdict:
    """1: §C1's month, and what §F3's requests per second cost, request by request and with places shared."""
    said, row = figures.get("c1-total-usd"), figures.get(LAST_ROW)
    million, work = amounts.MONTH["cloud-run"](figures, book)
    scenario = document_scenario(figures, LAST_ROW)
    asked = field(figures, LAST_ROW, "api_rps") * figure(figures, "b2-hours") * 3600
    alone = amounts.run_total(figures, book, asked)[0]
    use = month_of(scenario).cloud_run
    cost = cloud_run_cost(book, use, vcpus=scenario.instance_vcpus, gib=scenario.instance_gib)
    printed = decimal(row.field("cloud_run_usd"))
    holds = agrees(decimal(said.low), decimal(said.high), million) and agrees(printed, printed, cost.cheaper)
    sentence = (
        f"§C1's {say(figures.number('c1-requests-per-month'))} requests: {work} = {dollars(million)}; the "
        f"document says ${say(said.middle)}. {say(row.field('api_rps'))} requests/s are "
        f"{say(float(asked))} a month: {dollars(alone)} if each has an instance to itself. "
        f"{say(scenario.container_concurrency)} share one: {say(use.peak_in_flight)} at a time (an answer "
        f"holds its place for {say(scenario.ai_request_s)} s) on {use.peak_instances} of "
        f"{scenario.max_instances} instances are {dollars(cost.request_based)} billed by request, "
        f"{dollars(cost.instance_based)} by instance"
        f"{_refused(use.refused_requests)}; §F3 says ${say(float(printed))}."
    )
    return Verdict(
        1,
        holds,
        sentence,
        {
            "c1-month": _usd(million),
            "unshared-month": _usd(alone),
            "request-based-month": _usd(cost.request_based),
            "instance-based-month": _usd(cost.instance_based),
            "requests": _computed(float(asked), "requests/month"),
            "refused": _computed(use.refused_requests, "requests/month"),
        },
    )


def concurrency(figures: Figures) -> Verdict:
    """5: requests a minute are no users at a time (Little's law)."""
    found = _rule(figures, "little", "b1-concurrent-ai-users")
    users, rate = figures.number("b1-concurrent-ai-users"), figures.number("b1-answers-per-s")
    places = figures.number("b1-cards") * figures.number("i2-batch-size")
    stay, speed = places / rate, figures.number("b1-farm-tok-s")
    sentence = (
        f"{found.sentence} With §I2's batches the farm generates {say(places)} answers at a time, each "
        f"within {say(stay)} s."
    )
    return Verdict(
        5,
        found.consistent,
        sentence,
        {
            "at-a-time": _computed(places, "answers"),
            "answer": _computed(stay, "s"),
            "answer-if-all-at-once": _computed(users / rate, "s"),
            "speed-if-all-at-once": _computed(speed / users, "tok/s"),
            "within-timeout": _computed(found.computed, "users"),
        },
    )


def goal(figures: Figures, book: PriceBook) -> Verdict:
    """6: the goal's cost and cards against §F3's, and both against what the row's requests need."""
    cost = _rule(figures, "goal-cost", "goal-monthly-usd")
    cards = _rule(figures, "row-cards", LAST_ROW)
    scenario = document_scenario(figures, LAST_ROW)
    month = month_of(scenario)
    asked, made = month.traffic.busiest_answers_s, scenario.card_tok_s / scenario.answer_tokens
    needed = ceil(round(asked / made, 9))
    hit = max(0.0, 1 - made * scenario.gpus / asked) if asked else 0.0
    flat = bill_of(month, book, explain=False)
    real = bill_of(month_of(_modelled(figures, LAST_ROW)), book, explain=False)
    most = decimal(figures.get("goal-monthly-usd").high)
    sentence = (
        f"{cost.sentence} {cards.sentence} Without a cache it takes {needed} cards. If every hour is like "
        f"that, a month costs {dollars(flat.usd)}: {dollars(flat.of('fallback'))} of it for answers that are "
        f"too many for the cards. With the model's week and caches it is {dollars(real.usd)}: "
        f"{dollars(real.of('egress'))} of it for egress."
    )
    return Verdict(
        6,
        cost.consistent and cards.consistent and real.usd <= most,
        sentence,
        {
            "generations": _computed(asked, "answers/s"),
            "cards-answer": _computed(made * scenario.gpus, "answers/s"),
            "cards-needed": _computed(needed, "cards"),
            "cache-hit-needed": _computed(hit * 100, "%"),
            "flat-month": _usd(flat.usd),
            "modelled-month": _usd(real.usd),
        },
    )


def power(figures: Figures, book: PriceBook) -> Verdict:
    """8: full load against PSU, UPS and §B2's watts; the two prices of the server; idle hours."""
    load = _rule(figures, "full-load", "b2-full-load-w")
    supplies = [_rule(figures, "covers-load", "b2-psu-w")]
    supplies += [_rule(figures, "covers-wall", name) for name in ("f2-ups-w", "h3-ups-w")]
    price = _rule(figures, "agrees", "b2-server-usd")
    from_wall = load.computed / PSU_EFFICIENCY
    full = amounts.electricity(figures, book, decimal(from_wall))[0]
    modelled = month_of(_modelled(figures, FARM_ROW))
    users, average_w = modelled.scenario.users, modelled.box.average_w
    idle_w = wall_w(modelled.scenario, 0)
    idle = amounts.electricity(figures, book, decimal(idle_w))[0]
    typical = amounts.electricity(figures, book, decimal(average_w))[0]
    said = " ".join(one.sentence for one in [load, *dict.fromkeys(supplies), price])
    sentence = (
        f"{said} From the wall, at {say(PSU_EFFICIENCY * 100)} % efficiency, full load around the clock is "
        f"{say(from_wall)} W or {dollars(full)} a month; idle it is {say(idle_w)} W or {dollars(idle)}; with "
        f"the model's week at §F3's {say(users)} users {say(average_w)} W on average or {dollars(typical)}."
    )
    return Verdict(
        8,
        all(one.consistent for one in [load, *supplies, price]),
        sentence,
        {
            "full-load": _computed(load.computed, "W"),
            "from-wall": _computed(from_wall, "W"),
            "full-month": _usd(full),
            "idle-month": _usd(idle),
            "typical-month": _usd(typical),
        },
    )


def runway(figures: Figures, book: PriceBook) -> Verdict:
    """9: the funds pay for the hardware first."""
    said, found = figures.get("j2-hybrid-months"), investment(figures, book)
    paid, unpaid, other = found.runway_months, found.runway_unpaid_months, found.alternative_runway_months
    months = {"paid": paid, "unpaid": unpaid, "full-cloud": other}
    known = {name: float(value) for name, value in months.items() if value is not None}
    holds = "paid" not in known or agrees(said.low, said.high, known["paid"])
    sentence = (
        f"({dollars(found.funds)} - {dollars(found.initial)}) / {dollars(found.monthly)} = {_months(paid)}; "
        f"§J2 says {say(said.middle)}, which leaves the hardware out ({_months(unpaid)}). The full cloud, at "
        f"{dollars(found.alternative)}: {_months(other)}."
    )
    return Verdict(9, holds, sentence, {name: _computed(value, "months") for name, value in known.items()})


def _modelled(figures: Figures, row_id: str) -> Scenario:
    """A row's users, requests and cards; all else is the real traffic model's, not the document's."""
    row = figures.get(row_id)
    concurrent = row.field("concurrent_users")
    return Scenario(
        users=round(row.field("users")),
        concurrent=round(concurrent),
        requests_per_user_min=row.field("api_rps") * 60 / concurrent,
        hours=figures.number("b2-hours"),
        gpus=round(row.field("cards")),
        psu_efficiency=PSU_EFFICIENCY,
    )


def _rule(figures: Figures, rule: str, estimate_id: str) -> Outcome:
    return apply_rule(rule, figures, figures.get(estimate_id))


def _refused(requests: float) -> str:
    return f", with {say(requests)} requests refused" if requests else ""


def _months(value: Decimal | None) -> str:
    return "for ever" if value is None else f"{say(float(value))} months"


def _computed(value: float, unit: str) -> Figure:
    return Figure(value, unit, Provenance.COMPUTED)


def _usd(amount: Decimal) -> Figure:
    return _computed(float(amount), "USD")
