"""Watts: what a box draws at full load, what its PSU and UPS allow, and what the current costs (§B2, §H3)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from decimal import Decimal

from dreamseed_cli.plan.parts import Card
from dreamseed_cli.profile.schema import Box

# The document's price and its month of full load around the clock (§B2).
USD_PER_KWH = Decimal("0.12")
HOURS_PER_MONTH = 720

# The usual rule: no more than 80 % of a power supply's rating continuously.
PSU_CONTINUOUS = 0.8

# What an 80 PLUS Platinum supply must reach at full load on 115 V (§B2 has such a one): the UPS and the
# meter see what goes in, cards and CPU what comes out.
PSU_EFFICIENCY = 0.89


@dataclass(frozen=True, slots=True)
class Power:
    """A box at full load. All in watts; None where the box does not say what it has."""

    gpus: int
    card_w: float
    """Of one card: its power limit, or its board power."""
    cpu_w: float
    other_w: float
    psu_w: float | None
    ups_w: float | None
    min_card_w: float | None = None
    """The lowest power limit the card takes."""

    @property
    def draw_w(self) -> float:
        """What the power supply delivers."""
        return self.gpus * self.card_w + self.cpu_w + self.other_w

    @property
    def wall_w(self) -> float:
        """What the power supply takes from UPS or wall."""
        return self.draw_w / PSU_EFFICIENCY

    @property
    def psu_margin_w(self) -> float | None:
        """What is left of the PSU's rating; negative if it is exceeded."""
        return None if self.psu_w is None else self.psu_w - self.draw_w

    @property
    def psu_continuous_margin_w(self) -> float | None:
        """The same by the 80 % rule."""
        return None if self.psu_w is None else self.psu_w * PSU_CONTINUOUS - self.draw_w

    @property
    def ups_margin_w(self) -> float | None:
        """What is left of the UPS's rating; negative if it is exceeded."""
        return None if self.ups_w is None else self.ups_w - self.wall_w

    @property
    def limit_for_psu_w(self) -> int | None:
        """The most each card may draw by the PSU's 80 % rule."""
        return None if self.psu_w is None else self._limit(self.psu_w * PSU_CONTINUOUS)

    @property
    def limit_for_ups_w(self) -> int | None:
        """The most each card may draw for the UPS to carry all of it."""
        return None if self.ups_w is None else self._limit(self.ups_w * PSU_EFFICIENCY)

    @property
    def cards_at_lowest_for_ups(self) -> int | None:
        """How many cards at their lowest limit the UPS carries, where it is too low for all of them."""
        limit, lowest = self.limit_for_ups_w, self.min_card_w
        if self.ups_w is None or limit is None or lowest is None or limit >= lowest:
            return None
        return max(0, math.floor((self.ups_w * PSU_EFFICIENCY - self.cpu_w - self.other_w) / lowest))

    def usd_per_month(self, hours: int = HOURS_PER_MONTH, usd_per_kwh: Decimal = USD_PER_KWH) -> Decimal:
        """What so many hours of full load cost, in US dollars."""
        return Decimal(str(self.wall_w)) / 1000 * hours * usd_per_kwh

    def problems(self) -> list[str]:
        """What this power supply or UPS cannot carry, each with the remedy; empty if nothing known."""
        said = []
        if (margin := self.psu_margin_w) is not None and margin < 0:
            said.append(
                f"the cards and the rest draw {-margin:,.0f} W more than the PSU's {self.psu_w:,.0f} W"
            )
        elif (margin := self.psu_continuous_margin_w) is not None and margin < 0:
            said.append(
                f"{self.draw_w:,.0f} W is {-margin:,.0f} W over 80 % of the PSU's {self.psu_w:,.0f} W, "
                "the usual bound of continuous load"
            )
        if (margin := self.ups_margin_w) is not None and margin < 0:
            said.append(
                f"{self.wall_w:,.0f} W from the wall is {-margin:,.0f} W more than the UPS's "
                f"{self.ups_w:,.0f} W: it drops the load the moment the mains fail"
            )
        return said

    def _limit(self, budget_w: float) -> int:
        if self.gpus == 0:
            return 0
        return max(0, math.floor((budget_w - self.cpu_w - self.other_w) / self.gpus))


def box_power(box: Box, card: Card) -> Power:
    """The box with its cards at their board power, or at the profile's power limit."""
    return Power(
        gpus=box.gpus,
        card_w=box.gpu_power_limit_w or card.board_power_w,
        cpu_w=box.cpu_power_w or 0.0,
        other_w=box.other_power_w or 0.0,
        psu_w=box.psu_w,
        ups_w=box.ups_w,
        min_card_w=card.min_power_limit_w,
    )
