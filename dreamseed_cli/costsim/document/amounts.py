"""Amounts of a month from the document's quantities and the book's prices: each with its arithmetic."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from decimal import Decimal

from dreamseed_cli.core.errors import UsageError
from dreamseed_cli.costsim.money import decimal, dollars
from dreamseed_cli.costsim.prices.schema import PriceBook
from dreamseed_cli.estimates.outcome import say
from dreamseed_cli.estimates.schema import Book as Figures
from dreamseed_cli.estimates.schema import NotComputable

Amount = tuple[Decimal, str]
"""US dollars, and how they come about."""

_KWH_PRICE = "electricity-flat"
_ANY_MONTH = 1
"""A flat price has no seasons."""
GB_PER_TB = 1000


@contextmanager
def computable() -> Iterator[None]:
    """A figure that is missing from the file, or divides by zero as it is there, becomes a UsageError."""
    try:
        yield
    except (NotComputable, ArithmeticError) as error:
        cause = str(error) if isinstance(error, NotComputable) else "a figure that is 0 divides another one"
        remedy = "Put it into the file of estimates, or use the shipped one."
        raise UsageError(cause, place="estimates", remedy=remedy) from error


def run_cpu(figures: Figures, book: PriceBook, requests: Decimal) -> Amount:
    """§C1: every request holds all vCPUs by itself."""
    return _run_part(figures, book, requests, ("c1-vcpus", "vCPU", "cloud-run-cpu"))


def run_memory(figures: Figures, book: PriceBook, requests: Decimal) -> Amount:
    """§C1: and all memory."""
    return _run_part(figures, book, requests, ("c1-memory-gb", "GB", "cloud-run-memory"))


def run_requests(book: PriceBook, requests: Decimal) -> Amount:
    """§C1: the requests themselves."""
    return book.usd("cloud-run-requests", requests), f"{requests:,} requests"


def run_total(figures: Figures, book: PriceBook, requests: Decimal) -> Amount:
    """§C1's three together, for any number of requests."""
    cpu = run_cpu(figures, book, requests)[0]
    memory = run_memory(figures, book, requests)[0]
    calls = run_requests(book, requests)[0]
    return cpu + memory + calls, f"CPU {dollars(cpu)} + memory {dollars(memory)} + requests {dollars(calls)}"


def electricity(figures: Figures, book: PriceBook, watts: Decimal | None = None) -> Amount:
    """§B2: so many watts (§B2's own, if not said) around the clock."""
    load = figure(figures, "b2-full-load-w") if watts is None else watts
    hours = figure(figures, "b2-hours")
    usd = book.electricity_usd(_KWH_PRICE, load * hours / 1000, _ANY_MONTH)
    return usd, f"{say(float(load))} W x {say(float(hours))} h x {book.unit_usd(_KWH_PRICE):f} $/kWh"


def stored(figures: Figures, book: PriceBook) -> Amount:
    """§C3: the terabytes kept."""
    amount = figure(figures, "c3-stored-tb")
    return book.usd("b2-storage", amount * GB_PER_TB), f"{say(float(amount))} TB for a month"


def downloaded(figures: Figures, book: PriceBook) -> Amount:
    """§C3: the gigabytes read, as if not through Cloudflare."""
    amount = field(figures, "c3-stored-tb", "download_gb")
    kept = figure(figures, "c3-stored-tb") * GB_PER_TB
    return book.usd("b2-download", amount, of=kept), f"{say(float(amount))} GB downloaded"


def storage(figures: Figures, book: PriceBook) -> Amount:
    """§C3: both."""
    kept, read = stored(figures, book)[0], downloaded(figures, book)[0]
    return kept + read, f"storage {dollars(kept)} + download {dollars(read)}"


def _cloud_run(figures: Figures, book: PriceBook) -> Amount:
    return run_total(figures, book, figure(figures, "c1-requests-per-month"))


def _domain(figures: Figures, book: PriceBook) -> Amount:
    year = book.usd("domain", 1)
    return year / 12, f"{dollars(year)} a year / 12"


def _month_of(price: str) -> Callable[[Figures, PriceBook], Amount]:
    """A price by the month."""
    return lambda _, book: (book.usd(price, 1), "a month's price")


MONTH: dict[str, Callable[[Figures, PriceBook], Amount]] = {
    "electricity": electricity,
    "cloud-run": _cloud_run,
    "cloudflare": _month_of("cloudflare-pro"),
    "storage": storage,
    "fixed-ip": _month_of("fixed-ip"),
    "cloud-sql": _month_of("cloud-sql-micro"),
    "domain": _domain,
}
"""§F1's lines by their key, each from its price."""


def figure(figures: Figures, estimate_id: str) -> Decimal:
    """A figure of the document; of a range, its middle."""
    return decimal(figures.number(estimate_id))


def field(figures: Figures, estimate_id: str, name: str) -> Decimal:
    """A further figure of a row."""
    return decimal(figures.get(estimate_id).field(name))


def _run_part(figures: Figures, book: PriceBook, requests: Decimal, part: tuple[str, str, str]) -> Amount:
    """Requests x seconds x amount, at its price."""
    amount_id, unit, price = part
    seconds, amount = figure(figures, "c1-request-ms") / 1000, figure(figures, amount_id)
    used = requests * seconds * amount
    work = f"{say(float(requests))} requests x {say(float(seconds))} s x {say(float(amount))} {unit}"
    return book.usd(price, used), f"{work} x {book.unit_usd(price):f} $/{unit}-s"
