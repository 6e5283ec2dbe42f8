"""Arithmetic of §A, §C, §F and §J: what a month costs, what is saved, how long the funds last (in USD).

Amounts are decimals: no verdict hangs on how a float is rounded.
"""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

from dreamseed_cli.estimates.outcome import Outcome, agrees, exact, expect, figure, place, say
from dreamseed_cli.estimates.schema import Book, Estimate

MONTHLY_LINES = ("electricity", "cloud-run", "cloudflare", "storage", "fixed-ip", "cloud-sql", "domain")
"""§F1's lines, each `f1-NAME-usd`."""
FIXED_LINES = ("cloudflare", "storage", "fixed-ip", "cloud-sql", "domain")
"""Those that §F3 has no column for."""
INITIAL_LINES = ("cards", "server", "nvme", "network", "ups")
"""§F2's lines, each `f2-NAME-usd`."""

_ZERO = Decimal(0)
_Work = tuple[Decimal, str]
"""What is computed, and how it comes about."""


def agrees_with(book: Book, estimate: Estimate) -> Outcome:
    """A figure that stands in two places: the ranges must meet."""
    other = book.about(estimate)
    consistent = agrees(*_ends(estimate), *_ends(other))
    verb = "agree" if consistent else "do not agree"
    both = f"{place(estimate)} says {figure(estimate)}, {other.id} says {figure(other)}"
    return Outcome(consistent, other.middle, other.unit, f"{both}: they {verb}.")


def cloud_run_vcpu(book: Book, estimate: Estimate) -> Outcome:
    """§C1: requests x seconds x vCPUs x the price of a vCPU-second."""
    return expect(estimate, *_vcpu(book))


def cloud_run_memory(book: Book, estimate: Estimate) -> Outcome:
    """§C1: requests x seconds x GB x the price of a GB-second."""
    return expect(estimate, *_memory(book))


def cloud_run_total(book: Book, estimate: Estimate) -> Outcome:
    """§C1: vCPU, memory and the requests themselves, each from its price."""
    vcpu, memory = _vcpu(book)[0], _memory(book)[0]
    requests = _number(book, "c1-requests-per-month") / 10**6 * _number(book, "c1-requests-price-usd")
    return expect(
        estimate,
        vcpu + memory + requests,
        f"vCPU ${say(vcpu)} + memory ${say(memory)} + requests ${say(requests)}",
    )


def storage_cost(book: Book, estimate: Estimate) -> Outcome:
    """§C3: terabytes x price."""
    return expect(estimate, *_storage(book))


def download_cost(book: Book, estimate: Estimate) -> Outcome:
    """§C3: gigabytes x price."""
    return expect(estimate, *_download(book))


def storage_total(book: Book, estimate: Estimate) -> Outcome:
    """§C3: storage and download."""
    stored, loaded = _storage(book)[0], _download(book)[0]
    return expect(estimate, stored + loaded, f"storage ${say(stored)} + download ${say(loaded)}")


def domain(book: Book, estimate: Estimate) -> Outcome:
    """§F1: a twelfth of the year's price."""
    year = _field(estimate, "usd_per_year")
    return expect(estimate, year / 12, f"${say(year)} / 12")


def monthly_total(book: Book, estimate: Estimate) -> Outcome:
    """§F1: the sum of the lines, from the cheapest to the dearest month."""
    lines = [_ends(book.get(f"f1-{name}-usd")) for name in MONTHLY_LINES]
    low, high = sum((line[0] for line in lines), _ZERO), sum((line[1] for line in lines), _ZERO)
    said_low, said_high = _ends(estimate)
    consistent = agrees(said_low, said_low, low) and agrees(said_high, said_high, high)
    sentence = f"The lines sum to ${say(low)}-{say(high)}; the document says {figure(estimate)}."
    return Outcome(consistent, float((low + high) / 2), estimate.unit, sentence)


def monthly_average(book: Book, estimate: Estimate) -> Outcome:
    """§F1: the middle of the sum of the lines."""
    average = sum((_number(book, f"f1-{name}-usd") for name in MONTHLY_LINES), _ZERO)
    return expect(estimate, average, "The middle of the lines' sum")


def cards_price(book: Book, estimate: Estimate) -> Outcome:
    """§F2: cards x price."""
    cards, price = _field(estimate, "cards"), _field(estimate, "usd_per_card")
    return expect(estimate, cards * price, f"{say(cards)} x ${say(price)}")


def initial_total(book: Book, estimate: Estimate) -> Outcome:
    """§F2: the sum of the lines."""
    prices = [_number(book, f"f2-{name}-usd") for name in INITIAL_LINES]
    return expect(estimate, sum(prices, _ZERO), " + ".join(f"${say(price)}" for price in prices))


def monthly_saving(book: Book, estimate: Estimate) -> Outcome:
    """§F2: full cloud less hybrid."""
    cloud, hybrid = _field(estimate, "full_cloud_usd"), _field(estimate, "hybrid_usd")
    return expect(estimate, cloud - hybrid, f"${say(cloud)} - ${say(hybrid)}")


def payback(book: Book, estimate: Estimate) -> Outcome:
    """§F2: the initial cost / what is saved in a month."""
    initial, saving = _number(book, "f2-total-usd"), _number(book, "f2-saving-usd")
    return expect(estimate, initial / saving, f"${say(initial)} / ${say(saving)}")


def two_years(book: Book, estimate: Estimate) -> Outcome:
    """§F2: 24 months of saving; says what is left of it after the initial cost."""
    saving, initial = _number(book, "f2-saving-usd"), _number(book, "f2-total-usd")
    found = expect(estimate, saving * 24, f"${say(saving)} x 24")
    left = f" Less the initial ${say(initial)} it is ${say(saving * 24 - initial)}."
    return replace(found, sentence=found.sentence + left)


def row_total(book: Book, estimate: Estimate) -> Outcome:
    """§F3: a row's Cloud Run and electricity, and §F1's lines that have no column."""
    run, power = _field(estimate, "cloud_run_usd"), _field(estimate, "electricity_usd")
    fixed = sum((_number(book, f"f1-{name}-usd") for name in FIXED_LINES), _ZERO)
    work = f"Cloud Run ${say(run)} + electricity ${say(power)} + §F1's other lines ${say(fixed)}"
    return expect(estimate, run + power + fixed, work)


def goal_cost(book: Book, estimate: Estimate) -> Outcome:
    """The goal against §F3's own row: the row must not cost more."""
    row = book.about(estimate)
    within = _ends(row)[0] <= _ends(estimate)[1]
    verb = "is within" if within else "is over"
    sentence = f"{place(row)} says {figure(row)} at {say(row.field('users'))} users, which {verb} the goal"
    return Outcome(within, row.middle, row.unit, f"{sentence} of {figure(estimate)}.")


def runway_hybrid(book: Book, estimate: Estimate) -> Outcome:
    """§J2: what is left of the funds after §F2's initial cost, / the hybrid's month."""
    found = expect(estimate, *_hybrid_months(book))
    whole = _number(book, "j2-funds-usd") / _number(book, "j1-hybrid-usd")
    without = f" Without the initial cost it were {say(whole)}."
    return replace(found, sentence=found.sentence + without)


def runway_cloud(book: Book, estimate: Estimate) -> Outcome:
    """§J2: the funds / the full cloud's month; nothing is bought."""
    return expect(estimate, *_cloud_months(book))


def runway_difference(book: Book, estimate: Estimate) -> Outcome:
    """§J2: how much longer the hybrid lasts, its initial cost paid."""
    hybrid, cloud = _hybrid_months(book)[0], _cloud_months(book)[0]
    return expect(estimate, hybrid - cloud, f"{say(hybrid)} - {say(cloud)}")


def _vcpu(book: Book) -> _Work:
    return _resource(book, "c1-vcpus", "vCPU", "c1-vcpu-price-usd")


def _memory(book: Book) -> _Work:
    return _resource(book, "c1-memory-gb", "GB", "c1-memory-price-usd")


def _resource(book: Book, amount_id: str, unit: str, price_id: str) -> _Work:
    """Requests x seconds x amount x price."""
    requests, seconds = _number(book, "c1-requests-per-month"), _number(book, "c1-request-ms") / 1000
    amount, price = _number(book, amount_id), _number(book, price_id)
    used = requests * seconds * amount
    return used * price, (
        f"{say(requests)} requests x {say(seconds)} s x {say(amount)} {unit} = {say(used)} {unit}-s; "
        f"x ${say(price)}"
    )


def _storage(book: Book) -> _Work:
    stored, price = _number(book, "c3-stored-tb"), _number(book, "c3-storage-price-usd-tb")
    return stored * price, f"{say(stored)} TB x ${say(price)}"


def _download(book: Book) -> _Work:
    loaded = _field(book.get("c3-stored-tb"), "download_gb")
    price = _field(book.get("c3-storage-price-usd-tb"), "download_usd_per_gb")
    return loaded * price, f"{say(loaded)} GB x ${say(price)}"


def _hybrid_months(book: Book) -> _Work:
    funds, initial = _number(book, "j2-funds-usd"), _number(book, "f2-total-usd")
    month = _number(book, "j1-hybrid-usd")
    left = max(_ZERO, funds - initial)
    return left / month, f"(${say(funds)} - the initial ${say(initial)}) / ${say(month)}"


def _cloud_months(book: Book) -> _Work:
    funds, month = _number(book, "j2-funds-usd"), _number(book, "j1-full-cloud-usd")
    return funds / month, f"${say(funds)} / ${say(month)}"


def _ends(estimate: Estimate) -> tuple[Decimal, Decimal]:
    return exact(estimate.low), exact(estimate.high)


def _number(book: Book, estimate_id: str) -> Decimal:
    """A figure as one number; of a range, its middle."""
    low, high = _ends(book.get(estimate_id))
    return (low + high) / 2


def _field(estimate: Estimate, name: str) -> Decimal:
    return exact(estimate.field(name))
