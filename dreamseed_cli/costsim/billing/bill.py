"""A month's bill: lines that say how they were derived, in exact decimal US dollars."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

from dreamseed_cli.core.result import Provenance


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the bill."""

    key: str
    """`electricity`, `cloud-run`, `cloudflare`, `storage`, ...: the same in every bill."""
    title: str
    usd: Decimal
    """Of one month, not rounded."""
    how: str
    """The derivation in figures: `1,500 W x 720 h x $0.12/kWh`."""
    section: str = ""
    """Where the document speaks of it: `F1`; empty if it does not."""
    provenance: Provenance = Provenance.COMPUTED


@dataclass(frozen=True, slots=True)
class Bill:
    """All lines of one month."""

    lines: tuple[Line, ...]
    aside: tuple[Line, ...] = ()
    """Shown below the total and not in it, because nobody pays them this month: depreciation."""

    @property
    def usd(self) -> Decimal:
        """The total, not rounded."""
        return sum((line.usd for line in self.lines), Decimal(0))

    def of(self, key: str) -> Decimal:
        """One line's amount; 0 if there is none of that key."""
        return sum((line.usd for line in self.lines if line.key == key), Decimal(0))
