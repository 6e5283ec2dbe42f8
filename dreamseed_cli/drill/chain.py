"""Every drill names the one kept before it by its signature, a mark the newest one: a gap shows. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from dreamseed_cli.core.errors import FailedError


class ChainBroken(FailedError):
    """A drill that was kept is not there any more, or another is in its place."""

    kind = "drill_chain_broken"


@dataclass(frozen=True, slots=True)
class Link:
    """A record whose signature holds. previous: the signature of the drill kept before it; empty: it is the
    first; None: it was kept before there was a chain.
    """

    id: str
    signature: str
    previous: str | None


def breaks(links: Sequence[Link], signatures: Collection[str], newest: str | None) -> list[str]:
    """What is wrong. signatures: of all files, those that do not hold too. newest: as its mark has
    it; None: there is no mark that holds.
    """
    chained = [link for link in links if link.previous is not None]
    found = [
        f"the drill kept before {link.id} is gone, or another is in its place"
        for link in chained
        if link.previous and link.previous not in signatures
    ]
    followers = Counter(link.previous for link in chained)
    found += [
        f"{link.id} does not follow the drill kept before it"
        for link in chained
        if followers[link.previous] > 1
    ]
    if newest is None and chained:
        found.append("nothing says any more which drill is the newest")
    if newest is not None and newest not in signatures:
        found.append("the newest drill is gone, or another is in its place")
    return found


def last(links: Sequence[Link], newest: str | None) -> str:
    """The signature that the next drill names. links: oldest first.

    A drill that follows the marked one was kept right before a power cut: the mark is behind. Without a mark
    the chain begins, after the drills from before there was one; where it had begun, the break must show.
    """
    if newest is None:
        begun = not links or any(link.previous is not None for link in links)
        return "" if begun else links[-1].signature
    following = {link.previous: link.signature for link in links}
    while newest in following:
        newest = following[newest]
    return newest
