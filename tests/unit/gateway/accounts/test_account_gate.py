"""The gate's pure rule: what a tier makes of a wish."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dreamseed_cli.gateway.accounts.gate import Known, Standing, granted_priority
from dreamseed_cli.gateway.accounts.types import Tier
from dreamseed_cli.gateway.call import PriorityClass
from dreamseed_cli.gateway.refusals import NotPermitted

_KNOWN = st.sampled_from(Known)
_TIERS = st.sampled_from(Tier)
_ASKED = st.sampled_from(PriorityClass)


@given(_ASKED, _TIERS, _KNOWN)
def test_nobody_gets_more_than_the_tier_or_than_was_asked(
    asked: PriorityClass, tier: Tier, known: Known
) -> None:
    """And never less than the lower of the two. Without accounts there are no tiers."""
    granted = granted_priority(asked, Standing("u", tier, known), refuse_above=False)
    assert granted == (asked if known is Known.NO_ACCOUNTS else min(asked, tier.highest))


@given(_ASKED, _TIERS)
def test_a_wish_above_the_tier_is_refused_where_the_profile_says_so(asked: PriorityClass, tier: Tier) -> None:
    """One within the tier is not; nor is one of a user whose tier is only assumed."""
    assumed = granted_priority(asked, Standing("u", tier, Known.ASSUMED), refuse_above=True)
    assert assumed == min(asked, tier.highest)
    standing = Standing("u", tier, Known.REGISTERED)
    if asked <= tier.highest:
        assert granted_priority(asked, standing, refuse_above=True) == asked
    else:
        with pytest.raises(NotPermitted, match=asked.name):
            granted_priority(asked, standing, refuse_above=True)


def test_the_tiers_are_the_documents() -> None:
    """§B4: PREMIUM for who pays, STANDARD for free users, BATCH for background work."""
    assert [tier.highest for tier in (Tier.PAID, Tier.FREE, Tier.BACKGROUND)] == [
        PriorityClass.PREMIUM,
        PriorityClass.STANDARD,
        PriorityClass.BATCH,
    ]
