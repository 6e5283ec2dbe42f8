"""Amounts, shares and times as tables and pages write them. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import ROUND_HALF_UP, Decimal

from dreamseed_cli.costsim.holding import Held
from dreamseed_cli.costsim.money import Currency, decimal, show
from dreamseed_cli.costsim.usage.traffic import Traffic
from dreamseed_cli.estimates.outcome import say

NOTHING = "-"


@dataclass(frozen=True, slots=True)
class Money:
    """Amounts of dollars in the reader's currency, at the book's rate."""

    currency: Currency
    rate: Decimal

    def __call__(self, usd: Decimal | float | None) -> str:
        """`$1,234.50`, `₩1,234,500`; `-` where there is none."""
        if usd is None:
            return NOTHING
        return show(decimal(usd), self.currency, self.rate)

    def whole(self, usd: Decimal | float | None) -> str:
        """Without cents: `$1,235`."""
        if usd is None:
            return NOTHING
        amount = decimal(usd)
        if self.currency is Currency.USD:
            amount = amount.quantize(Decimal(1), ROUND_HALF_UP)
        return self(amount).partition(".")[0]

    def span(self, low: float, high: float) -> str:
        """What the document prints: `$130`, `$50-150`."""
        if low == high:
            return self.whole(low)
        return f"{self.whole(low)}-{self.whole(high).lstrip('$₩')}"


def months(value: Decimal | float | None) -> str:
    """`27.9`; `never` where there is no such month."""
    return "never" if value is None else f"{float(value):,.1f}"


def seconds(quantiles: Mapping[str, float], name: str) -> str:
    """`118 ms`, `2.47 s`; `-` where there were too few samples for it."""
    value = quantiles.get(name)
    if value is None:
        return NOTHING
    return f"{value * 1000:,.0f} ms" if value < 1 else f"{value:,.2f} s"


def percent(share: float) -> str:
    """`98.7 %`; it never rounds up to 100 %."""
    rounded = round(share * 100, 1)
    return f"{99.9 if rounded >= 100 > share * 100 else rounded:g} %"


def count(value: float) -> str:
    """`1,000,000`, `2.3`; `no end` for one without."""
    return "no end" if value == float("inf") else say(value)


def traffic_words(one: Traffic) -> str:
    """A month's requests, and the hours' rates, in one sentence."""
    return (
        f"A month has {one.api_requests:,.0f} API requests (computed), {say(one.average_rps)} a second on "
        f"average and {say(one.busiest_rps)} in the busiest hour; {one.ai_requests:,.0f} ask for AI, and "
        f"{one.answers:,.0f} of these no cache answers."
    )


def holds_words(held: Held) -> str:
    """Whether it holds, in one sentence; simulated, and so it says."""
    wanted, kept = percent(held.targets.attainment), percent(held.attainment)
    word = "holds" if held.holds else "does NOT hold"
    turned = f", Cloud Run turned {percent(held.rejected)} away" if held.rejected else ""
    return (
        f"The busiest hour {word} (simulated): {kept} of PREMIUM and STANDARD requests keep TTFT "
        f"{held.targets.ttft_ms:g} ms and TPOT {held.targets.tpot_ms:g} ms, {wanted} should{turned}."
    )
