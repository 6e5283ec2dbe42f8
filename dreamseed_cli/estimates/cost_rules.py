"""Arithmetic of §A, §C, §F and §J: what a month costs, what is saved, how long the funds last (in USD)."""

from __future__ import annotations

from dataclasses import replace

from dreamseed_cli.estimates.outcome import Outcome, agrees, expect, figure, place, say
from dreamseed_cli.estimates.schema import Book, Estimate

MONTHLY_LINES = ("electricity", "cloud-run", "cloudflare", "storage", "fixed-ip", "cloud-sql", "domain")
"""§F1's lines, each `f1-NAME-usd`."""
FIXED_LINES = ("cloudflare", "storage", "fixed-ip", "cloud-sql", "domain")
"""Those that §F3 has no column for."""
INITIAL_LINES = ("cards", "server", "nvme", "network", "ups")
"""§F2's lines, each `f2-NAME-usd`."""


def agrees_with(book: Book, estimate: Estimate) -> Outcome:
    """A figure that stands in two places: the ranges must meet."""
    other = book.about(estimate)
    consistent = agrees(estimate.low, estimate.high, other.low, other.high)
    verb = "agree" if consistent else "do not agree"
    both = f"{place(estimate)} says {figure(estimate)}, {other.id} says {figure(other)}"
    return Outcome(consistent, other.middle, other.unit, f"{both}: they {verb}.")


def cloud_run_vcpu(book: Book, estimate: Estimate) -> Outcome:
    """§C1: requests x seconds x vCPUs x the price of a vCPU-second."""
    return _resource(book, estimate, "c1-vcpus", "vCPU", "c1-vcpu-price-usd")


def cloud_run_memory(book: Book, estimate: Estimate) -> Outcome:
    """§C1: requests x seconds x GB x the price of a GB-second."""
    return _resource(book, estimate, "c1-memory-gb", "GB", "c1-memory-price-usd")


def cloud_run_total(book: Book, estimate: Estimate) -> Outcome:
    """§C1: vCPU, memory and the requests themselves, each from its price."""
    vcpu = cloud_run_vcpu(book, book.get("c1-vcpu-usd")).computed
    memory = cloud_run_memory(book, book.get("c1-memory-usd")).computed
    requests = book.number("c1-requests-per-month") / 1e6 * book.number("c1-requests-price-usd")
    return expect(
        estimate,
        vcpu + memory + requests,
        f"vCPU ${say(vcpu)} + memory ${say(memory)} + requests ${say(requests)}",
    )


def storage_cost(book: Book, estimate: Estimate) -> Outcome:
    """§C3: terabytes x price."""
    stored, price = book.number("c3-stored-tb"), book.number("c3-storage-price-usd-tb")
    return expect(estimate, stored * price, f"{say(stored)} TB x ${say(price)}")


def download_cost(book: Book, estimate: Estimate) -> Outcome:
    """§C3: gigabytes x price."""
    loaded = book.get("c3-stored-tb").field("download_gb")
    price = book.get("c3-storage-price-usd-tb").field("download_usd_per_gb")
    return expect(estimate, loaded * price, f"{say(loaded)} GB x ${say(price)}")


def storage_total(book: Book, estimate: Estimate) -> Outcome:
    """§C3: storage and download."""
    stored = storage_cost(book, book.get("c3-storage-usd")).computed
    loaded = download_cost(book, book.get("c3-download-usd")).computed
    return expect(estimate, stored + loaded, f"storage ${say(stored)} + download ${say(loaded)}")


def domain(book: Book, estimate: Estimate) -> Outcome:
    """§F1: a twelfth of the year's price."""
    year = estimate.field("usd_per_year")
    return expect(estimate, year / 12, f"${say(year)} / 12")


def monthly_total(book: Book, estimate: Estimate) -> Outcome:
    """§F1: the sum of the lines, from the cheapest to the dearest month."""
    lines = [book.get(f"f1-{name}-usd") for name in MONTHLY_LINES]
    low, high = sum(line.low for line in lines), sum(line.high for line in lines)
    consistent = agrees(estimate.low, estimate.low, low) and agrees(estimate.high, estimate.high, high)
    sentence = f"The lines sum to ${say(low)}-{say(high)}; the document says {figure(estimate)}."
    return Outcome(consistent, (low + high) / 2, estimate.unit, sentence)


def monthly_average(book: Book, estimate: Estimate) -> Outcome:
    """§F1: the middle of the sum of the lines."""
    average = sum(book.number(f"f1-{name}-usd") for name in MONTHLY_LINES)
    return expect(estimate, average, "The middle of the lines' sum")


def cards_price(book: Book, estimate: Estimate) -> Outcome:
    """§F2: cards x price."""
    cards, price = estimate.field("cards"), estimate.field("usd_per_card")
    return expect(estimate, cards * price, f"{say(cards)} x ${say(price)}")


def initial_total(book: Book, estimate: Estimate) -> Outcome:
    """§F2: the sum of the lines."""
    prices = [book.number(f"f2-{name}-usd") for name in INITIAL_LINES]
    return expect(estimate, sum(prices), " + ".join(f"${say(price)}" for price in prices))


def monthly_saving(book: Book, estimate: Estimate) -> Outcome:
    """§F2: full cloud less hybrid."""
    cloud, hybrid = estimate.field("full_cloud_usd"), estimate.field("hybrid_usd")
    return expect(estimate, cloud - hybrid, f"${say(cloud)} - ${say(hybrid)}")


def payback(book: Book, estimate: Estimate) -> Outcome:
    """§F2: the initial cost / what is saved in a month."""
    initial, saving = book.number("f2-total-usd"), book.number("f2-saving-usd")
    return expect(estimate, initial / saving, f"${say(initial)} / ${say(saving)}")


def two_years(book: Book, estimate: Estimate) -> Outcome:
    """§F2: 24 months of saving; says what is left of it after the initial cost."""
    saving, initial = book.number("f2-saving-usd"), book.number("f2-total-usd")
    found = expect(estimate, saving * 24, f"${say(saving)} x 24")
    left = f" Less the initial ${say(initial)} it is ${say(found.computed - initial)}."
    return replace(found, sentence=found.sentence + left)


def row_total(book: Book, estimate: Estimate) -> Outcome:
    """§F3: a row's Cloud Run and electricity, and §F1's lines that have no column."""
    run, power = estimate.field("cloud_run_usd"), estimate.field("electricity_usd")
    fixed = sum(book.number(f"f1-{name}-usd") for name in FIXED_LINES)
    work = f"Cloud Run ${say(run)} + electricity ${say(power)} + §F1's other lines ${say(fixed)}"
    return expect(estimate, run + power + fixed, work)


def goal_cost(book: Book, estimate: Estimate) -> Outcome:
    """The goal against §F3's own row: the row must not cost more."""
    row = book.about(estimate)
    within = row.low <= estimate.high
    verb = "is within" if within else "is over"
    sentence = f"{place(row)} says {figure(row)} at {say(row.field('users'))} users, which {verb} the goal"
    return Outcome(within, row.middle, row.unit, f"{sentence} of {figure(estimate)}.")


def runway_hybrid(book: Book, estimate: Estimate) -> Outcome:
    """§J2: what is left of the funds after §F2's initial cost, / the hybrid's month."""
    funds, initial = book.number("j2-funds-usd"), book.number("f2-total-usd")
    month = book.number("j1-hybrid-usd")
    found = expect(
        estimate,
        max(0.0, funds - initial) / month,
        f"(${say(funds)} - the initial ${say(initial)}) / ${say(month)}",
    )
    without = f" Without the initial cost it were {say(funds / month)}."
    return replace(found, sentence=found.sentence + without)


def runway_cloud(book: Book, estimate: Estimate) -> Outcome:
    """§J2: the funds / the full cloud's month; nothing is bought."""
    funds, month = book.number("j2-funds-usd"), book.number("j1-full-cloud-usd")
    return expect(estimate, funds / month, f"${say(funds)} / ${say(month)}")


def runway_difference(book: Book, estimate: Estimate) -> Outcome:
    """§J2: how much longer the hybrid lasts, its initial cost paid."""
    hybrid = runway_hybrid(book, book.get("j2-hybrid-months")).computed
    cloud = runway_cloud(book, book.get("j2-full-cloud-months")).computed
    return expect(estimate, hybrid - cloud, f"{say(hybrid)} - {say(cloud)}")


def _resource(book: Book, estimate: Estimate, amount_id: str, unit: str, price_id: str) -> Outcome:
    """Requests x seconds x amount x price."""
    requests, seconds = book.number("c1-requests-per-month"), book.number("c1-request-ms") / 1000
    amount, price = book.number(amount_id), book.number(price_id)
    used = requests * seconds * amount
    work = (
        f"{say(requests)} requests x {say(seconds)} s x {say(amount)} {unit} = {say(used)} {unit}-s; "
        f"x ${say(price)}"
    )
    return expect(estimate, used * price, work)
