"""Which server tells of the UPS, by the profile."""

from __future__ import annotations

from dreamseed_cli.core.errors import UsageError
from dreamseed_cli.profile.ups import Ups
from dreamseed_cli.ups.nis import Nis
from dreamseed_cli.ups.nut import Nut
from dreamseed_cli.ups.source import Source


def source_of(rules: Ups) -> Source:
    """The one that the profile names. UsageError if it names none."""
    if rules.source == "none":
        raise UsageError(
            "no UPS is configured: nothing tells of a power cut, and nothing stops this box in order",
            place="ups.source",
            remedy="Set ups.source to 'apcupsd' or 'nut' in the profile.",
        )
    return Nis(rules) if rules.source == "apcupsd" else Nut(rules)
