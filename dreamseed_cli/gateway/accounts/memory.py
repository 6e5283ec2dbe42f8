"""What the gateway remembers of PostgreSQL's answers about users. Pure: times are passed in, in seconds."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from enum import Enum, auto

from dreamseed_cli.gateway.accounts.types import Account

Who = str | bytes
"""A user's id, or the hash of an API key."""

_REFRESH_AFTER = 0.75
_NEGATIVE_S = 10.0


class Age(Enum):
    """How far a memory can be relied on."""

    FRESH = auto()
    """Believed."""
    AGEING = auto()
    """Believed, and time to ask again in the background, so that nobody ever waits for it."""
    STALE = auto()
    """Believed only while PostgreSQL cannot be asked."""


@dataclass(slots=True)
class _Belief:
    account: Account | None
    learned: float


class Memory:
    """The last answers, the least used forgotten first.

    cache_s, stale_s: profile.schema.Accounts. entries: registered accounts kept; as many answers that nobody
    is known by that name or key are kept apart, so that a flood of inventions displaces no account.
    """

    def __init__(self, *, cache_s: float, stale_s: float, entries: int = 65_536) -> None:
        self._known_s = cache_s
        self._nobody_s = min(cache_s, _NEGATIVE_S)
        self._stale_s = max(stale_s, cache_s)
        self._entries = entries
        self._known: OrderedDict[Who, _Belief] = OrderedDict()
        self._nobody: OrderedDict[Who, _Belief] = OrderedDict()

    def __len__(self) -> int:
        return len(self._known) + len(self._nobody)

    def recall(self, who: Who, now: float) -> tuple[Age, Account | None] | None:
        """The last answer (None in it: nobody) and its age; None if there is none to rely on."""
        belief = self._known.get(who)
        if belief is not None:
            self._known.move_to_end(who)
            age = self._age(now - belief.learned)
            return None if age is None else (age, belief.account)
        belief = self._nobody.get(who)
        if belief is None or now - belief.learned > self._nobody_s:
            return None
        return Age.FRESH, None

    def learn(self, who: Who, account: Account | None, now: float) -> None:
        """What PostgreSQL said to a question that was put at `now`."""
        place, other = (self._nobody, self._known) if account is None else (self._known, self._nobody)
        other.pop(who, None)
        place[who] = _Belief(account, now)
        place.move_to_end(who)
        if len(place) > self._entries:
            place.popitem(last=False)

    def _age(self, seconds: float) -> Age | None:
        if seconds <= self._known_s * _REFRESH_AFTER:
            return Age.FRESH
        if seconds <= self._known_s:
            return Age.AGEING
        return Age.STALE if seconds <= self._stale_s else None
