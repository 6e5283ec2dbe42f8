"""The bill of a scenario: every line of §F1, and those the document forgets."""

from __future__ import annotations

from decimal import Decimal

from dreamseed_cli.core.errors import UsageError
from dreamseed_cli.costsim.billing import lines as bill_lines
from dreamseed_cli.costsim.billing.bill import Bill, Line
from dreamseed_cli.costsim.billing.choices import Choices
from dreamseed_cli.costsim.billing.lines import LineOf
from dreamseed_cli.costsim.money import dollars
from dreamseed_cli.costsim.prices.schema import PriceBook
from dreamseed_cli.costsim.usage.month import Month

LINES: tuple[tuple[str, str, str, LineOf], ...] = (
    ("electricity", "Electricity of the box", "F1", bill_lines.electricity),
    ("cloud-run", "Cloud Run", "F1", bill_lines.cloud_run),
    ("cloudflare", "Cloudflare", "F1", bill_lines.cloudflare),
    ("storage", "Object storage", "F1", bill_lines.storage),
    ("egress", "Egress of Google Cloud", "", bill_lines.egress),
    ("fixed-ip", "Fixed IP address", "F1", bill_lines.fixed_ip),
    ("cloud-sql", "Cloud SQL standby", "F1", bill_lines.cloud_sql),
    ("domain", "Domain and certificate", "F1", bill_lines.domain),
    ("glacier", "Archive of snapshots", "A1", bill_lines.glacier),
    ("fallback", "Fallback answers", "H2", bill_lines.fallback),
)
"""Key, title, the document's section, and what works it out."""
_DEFAULT = Choices()


def bill_of(month: Month, book: PriceBook, choices: Choices = _DEFAULT, *, explain: bool = True) -> Bill:
    """The bill of a month in quantities; without `explain` no line says how, which is twice as fast.

    UsageError for a choice that is not in the book.
    """
    lines = []
    for key, title, section, line_of in LINES:
        usd, how = line_of(month, book, choices)
        lines.append(Line(key, title, usd, how() if explain else "", section))
    return Bill(tuple(lines))


def depreciation(price: Decimal, resale: Decimal, months: int) -> Line:
    """What the hardware loses in a month, for a bill's `aside`: its price less what it is sold for.

    UsageError if it is sold for more, or written off over no time.
    """
    if months < 1:
        raise UsageError(f"{months} is no life", place="months", remedy="Write 1 or more.")
    if not 0 <= resale <= price:
        raise UsageError(
            f"{resale} is not between nothing and the price of {price}",
            place="resale",
            remedy="Write what the used parts bring.",
        )
    return Line(
        "depreciation",
        "Depreciation of the hardware",
        (price - resale) / months,
        f"({dollars(price)} - {dollars(resale)} resale) / {months} months",
        "F2",
    )
