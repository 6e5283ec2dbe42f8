"""Requests that the front refused, until the gateway has them. In memory alone, and bounded. Pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Hashable, Iterable
from itertools import islice

from dreamseed_cli.gateway.events.flood import Flood
from dreamseed_cli.gateway.events.record import UNKNOWN_PRIORITY
from dreamseed_cli.gateway.proto.front_pb2 import EndedRequest

MOST = 10_000
"""Some 10 MiB."""
DOUBT_S = 2.0
"""How long the gateway has to tell of a request itself: it knows more of it."""
_MOST_KINDS = 100


class Untold:
    """on_lost: told how many requests were refused by the gateway. Times are seconds of any steady clock.

    None is dropped. Of a flood the first of each second are kept one by one, the others as one for each
    caller and reason. When `most` are kept, all further ones become one for each reason, of nobody's.
    """

    def __init__(self, on_lost: Callable[[int], None], *, most: int = MOST) -> None:
        self._on_lost = on_lost
        self._most = most
        self._flood = Flood(_kind, _plain, most_kinds=_MOST_KINDS)
        self._doubtful: deque[tuple[float, EndedRequest]] = deque()
        self._kept: dict[str, EndedRequest] = {}
        self._crowds: dict[Hashable, str] = {}

    def __bool__(self) -> bool:
        return bool(self._kept or self._doubtful or self._flood.folds)

    def requests(self) -> int:
        """How many requests the gateway has not been told of."""
        kept = sum(_count(each) for each in self._kept.values())
        return kept + len(self._doubtful) + self._flood.held()

    def add(self, ended: EndedRequest, now: float) -> None:
        """Nobody else tells of it."""
        self._keep_all(self._flood.add(ended, now))

    def doubt(self, ended: EndedRequest, now: float) -> None:
        """The gateway may tell of it, under the same id."""
        if len(self._doubtful) < self._most:
            self._doubtful.append((now + DOUBT_S, ended))
        else:
            self._keep(ended, 1)

    def ripen(self, now: float) -> None:
        """Have `oldest` give what is due by now."""
        self._keep_all(self._flood.over(now))
        while self._doubtful and self._doubtful[0][0] <= now:
            self._keep(self._doubtful.popleft()[1], 1)

    def ripen_all(self) -> None:
        """Have it give everything."""
        self._keep_all(self._flood.end())
        while self._doubtful:
            self._keep(self._doubtful.popleft()[1], 1)

    def oldest(self, most: int) -> list[EndedRequest]:
        """The first ones; from here on they stay as they are."""
        taken = list(islice(self._kept.values(), most))
        for each in taken:
            if self._crowds.get(_kind(each)) == each.event_id:
                del self._crowds[_kind(each)]
        return taken

    def sent(self, taken: Iterable[EndedRequest]) -> None:
        """The gateway has them."""
        for each in taken:
            del self._kept[each.event_id]

    def refused(self, taken: Iterable[EndedRequest]) -> None:
        """The gateway is there and will never take them."""
        for each in taken:
            self._on_lost(_count(self._kept.pop(each.event_id)))

    def _keep_all(self, told: Iterable[tuple[EndedRequest, int]]) -> None:
        for ended, count in told:
            self._keep(ended, count)

    def _keep(self, ended: EndedRequest, count: int) -> None:
        if count > 1:
            ended.count = count
        if len(self._kept) < self._most:
            self._kept[ended.event_id] = ended
            return
        plain = _plain(ended)
        crowd = self._crowds.setdefault(_kind(plain), ended.event_id)
        if crowd == ended.event_id:
            self._kept[crowd] = plain
        else:
            self._kept[crowd].count = _count(self._kept[crowd]) + count


def _count(ended: EndedRequest) -> int:
    return ended.count if ended.HasField("count") else 1


def _kind(ended: EndedRequest) -> Hashable:
    return ended.key_hash, ended.outcome, ended.reason, ended.priority, ended.workload


def _plain(ended: EndedRequest) -> EndedRequest:
    plain = EndedRequest()
    plain.CopyFrom(ended)
    plain.priority = UNKNOWN_PRIORITY
    plain.ClearField("key_hash")
    plain.ClearField("workload")
    return plain
