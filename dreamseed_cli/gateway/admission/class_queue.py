"""The requests of one class that wait: fair between users, first come first served for each of them."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator

from dreamseed_cli.gateway.admission.ticket import Ticket
from dreamseed_cli.gateway.slot import Weights

# The linked list inside gives the first, the removal of any and both ends in constant time; a dict's
# first element becomes slow to find after many removals.
_Line = OrderedDict[Ticket, None]
_Home = tuple[frozenset[str], Weights | None]
"""What a ticket that came back accepts: all but these replicas, of these weights."""


class ClassQueue:
    """Every operation takes constant time, `heads` a step for each set of excluded replicas.

    Users take turns, so that one who floods the queue delays itself. Tickets that come back after a failure
    go before all others, in lines by what they still accept: one that waits for a certain replica does not
    hold up one that any could take.
    """

    def __init__(self) -> None:
        self._users: OrderedDict[str, _Line] = OrderedDict()
        self._returned: dict[_Home, _Line] = {}
        self._homes: dict[Ticket, _Home] = {}
        self._size = 0

    def __len__(self) -> int:
        return self._size

    def append(self, ticket: Ticket) -> None:
        """Let one that any replica may answer wait behind its user's others."""
        line = self._users.get(ticket.user_id)
        if line is None:
            line = self._users[ticket.user_id] = OrderedDict()
        line[ticket] = None
        self._size += 1

    def put_back(self, ticket: Ticket) -> None:
        """Let it go before all that never had a replica, behind those that came back earlier."""
        home = ticket.excluded, ticket.weights
        self._returned.setdefault(home, OrderedDict())[ticket] = None
        self._homes[ticket] = home
        self._size += 1

    def remove(self, ticket: Ticket, *, served: bool = False) -> None:
        """Take it out, wherever it stands. served: it got its turn, the next user's comes."""
        self._size -= 1
        home = self._homes.pop(ticket, None)
        if home is not None:
            line = self._returned[home]
            del line[ticket]
            if not line:
                del self._returned[home]
            return
        line = self._users[ticket.user_id]
        del line[ticket]
        if not line:
            del self._users[ticket.user_id]
        elif served:
            self._users.move_to_end(ticket.user_id)

    def heads(self) -> Iterator[Ticket]:
        """Who could go next, best first: the first of each line that came back, the next user's first."""
        for line in self._returned.values():
            yield next(iter(line))
        for line in self._users.values():
            yield next(iter(line))
            return

    def ahead_of(self, user_id: str) -> int:
        """How many go before a new ticket of this user, when the other users keep their turns."""
        own = self._users.get(user_id)
        mine = len(own) if own is not None else 0
        others = len(self._users) - (own is not None)
        return min(self._size, len(self._homes) + mine + others * (mine + 1))

    def forgive(self, ready: frozenset[str]) -> None:
        """Let those whose every ready replica has failed them try again."""
        for home in [key for key in self._returned if ready and ready <= key[0]]:
            for ticket in list(self._returned[home]):
                self.remove(ticket)
                ticket.excluded = frozenset()
                self.put_back(ticket)
