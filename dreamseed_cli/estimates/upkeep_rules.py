"""Arithmetic of §B2, §E and §H: power in watts, the UPS, and what a backup's rhythm can lose."""

from __future__ import annotations

from dataclasses import replace

from dreamseed_cli.estimates.outcome import Outcome, exact, expect, figure, say
from dreamseed_cli.estimates.schema import Book, Estimate
from dreamseed_cli.estimates.serving_rules import document_card
from dreamseed_cli.plan.power import PSU_EFFICIENCY

CPU_POWER_W = 280
"""AMD's TDP of the Threadripper PRO 5975WX (§B2)."""


def full_load(book: Book, estimate: Estimate) -> Outcome:
    """§B2: the cards' board power and the processor's."""
    load, work = _load(book)
    return expect(estimate, load, work)


def covers_load(book: Book, estimate: Estimate) -> Outcome:
    """§B2: the PSU must carry the full load."""
    load, work = _load(book)
    return _covers(estimate, load, f"{work} = {say(load)} W")


def covers_wall(book: Book, estimate: Estimate) -> Outcome:
    """§F2, §H3: the UPS must carry what the PSU takes for it."""
    load, work = _wall(book)
    return _covers(estimate, load, f"{work} = {say(load)} W from the wall")


def electricity(book: Book, estimate: Estimate) -> Outcome:
    """§B2: watts x hours x price."""
    ids = ("b2-full-load-w", "b2-hours", "b2-usd-kwh")
    watts, hours, price = (exact(book.number(one)) for one in ids)
    work = f"{say(watts)} W x {say(hours)} h x ${say(price)}/kWh"
    return expect(estimate, watts / 1000 * hours * price, work)


def ups_minutes(book: Book, estimate: Estimate) -> Outcome:
    """§H3: the energy of its rating for that long, spent at full load."""
    load, work = _wall(book)
    rating = book.number("h3-ups-w")
    energy = rating * estimate.middle / 60
    minutes = energy / load * 60
    found = expect(
        estimate,
        minutes,
        f"{say(rating)} W x {say(estimate.middle)} min are {say(energy)} Wh; at a full load of {work} = "
        f"{say(load)} W they last {say(energy)} / {say(load)} x 60",
    )
    longer = minutes >= estimate.low
    return replace(found, consistent=found.consistent or longer)


def nightly_backup(book: Book, estimate: Estimate) -> Outcome:
    """§E2 against §E3: what was written since the last backup is lost; it must never be more than the RPO."""
    hours, rpo = book.number("e2-backup-interval-h"), book.number("e3-rpo-min")
    share = max(0.0, 1 - rpo / (hours * 60))
    within = share == 0
    verb = (
        "never" if within else f"at 1 - {say(rpo)} / {say(hours * 60)} = {say(share * 100)} % of all moments"
    )
    sentence = (
        f"With a backup every {say(hours)} h as the only copy, more than {say(rpo)} min are lost {verb}"
    )
    worst = hours if estimate.unit == "h" else hours * 60
    return Outcome(within, worst, estimate.unit, f"{sentence}; at worst {say(hours)} h and the run.")


def _load(book: Book) -> tuple[float, str]:
    """Full load in W, and the words of the sum."""
    count, each = book.number("b1-cards"), document_card().board_power_w
    return count * each + CPU_POWER_W, f"{say(count)} x {say(each)} W + {CPU_POWER_W} W (processor)"


def _wall(book: Book) -> tuple[float, str]:
    """The same before the PSU, which is what a UPS sees (`dreamseed plan` computes it so, too)."""
    load, work = _load(book)
    return load / PSU_EFFICIENCY, f"({work}) / {PSU_EFFICIENCY:.0%} efficiency"


def _covers(estimate: Estimate, load: float, work: str) -> Outcome:
    enough = estimate.low >= load
    verb = "covers it" if enough else "does not cover it, unless the cards are power-limited"
    return Outcome(enough, load, "W", f"Full load: {work}; {figure(estimate)} {verb}.")
