"""Which of two servers clients should ask: a state machine over looks at both, with the time passed in.

It turns to the replica for reads alone, and back. It never promotes: that is a person's word. A promotion by
whomever it goes by for good once clients are at the replica or the primary is gone: from then on the first
server's return changes nothing. It takes no clients away from a primary that is well.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from dreamseed_cli.database.standby.seen import Role, Seen


class Mode(StrEnum):
    """Where clients are sent."""

    PRIMARY = "primary"
    REPLICA = "read-only replica"
    """Reads go on, writes are refused until somebody decides."""
    PROMOTED = "promoted replica"


@dataclass(frozen=True, slots=True)
class Patience:
    """Seconds. down_s: away without a break. back_s: well without a break, doubled by each turn up to
    most_back_s; down_s is enough while the replica serves nobody. An answer later than `gap_s` after the one
    before says nothing about the time between.
    """

    down_s: float
    back_s: float
    most_back_s: float
    gap_s: float


@dataclass(frozen=True, slots=True)
class Sight:
    """Both servers at one moment."""

    primary: Seen
    replica: Seen


class Watch:
    """Call see() with every look; `mode` is where clients belong, `split` whether two servers take writes,
    `broken_off` whether a way back promoted the first server and did not turn the clients, `stranded` why
    they have no database at all. system: the cluster's identifier, as far as it is known.
    """

    def __init__(self, patience: Patience, mode: Mode = Mode.PRIMARY, system: str = "") -> None:
        self.mode = mode
        self.system = system
        self.stranded = ""
        self.split = False
        self.broken_off = False
        self.turns = 0
        self._patience = patience
        self._since: float | None = None
        self._seen_at: float | None = None
        self._wait_s = patience.back_s
        self._calm_since: float | None = None
        self._useless_since: float | None = None  # the replica, beside a primary that is well
        self._stranded_since: float | None = None

    @property
    def back_after_s(self) -> float:
        """How long the primary must be well before the next turn back."""
        return self._wait_s

    def see(self, sight: Sight, now: float) -> Mode:
        """Where clients belong from now on. now: seconds, of a clock that is never set."""
        if self._seen_at is not None and now - self._seen_at > self._patience.gap_s:
            self._forget()  # we slept, which is no reason to turn anywhere
        self._seen_at = now
        self.system = sight.primary.system or self.system
        promoted = sight.replica.role is Role.PRIMARY and self._is_ours(sight.replica)
        self.split = promoted and sight.primary.role is Role.PRIMARY
        if self.mode is Mode.PRIMARY:
            self._while_primary(sight, now)
        elif self.mode is Mode.REPLICA and promoted:
            self._turn(Mode.PROMOTED)  # where clients are already, and it takes their writes
        elif self.mode is Mode.REPLICA:
            self._while_replica(sight, now)
        self.broken_off = self.mode is Mode.PROMOTED and self._breaks_off(sight, now)
        self.stranded = self._strands(sight, now)
        return self.mode

    def _while_primary(self, sight: Sight, now: float) -> None:
        if sight.primary.role is Role.PRIMARY:
            self._since = None
            self._calm(now)
            return
        self._calm_since = None
        if self._lasts(now, self._patience.down_s) and self._fits(sight.replica):
            self._turn(Mode.PROMOTED if sight.replica.role is Role.PRIMARY else Mode.REPLICA)

    def _while_replica(self, sight: Sight, now: float) -> None:
        if sight.primary.role is not Role.PRIMARY:
            self._since = self._useless_since = None
            return
        if self._fits(sight.replica):
            self._useless_since = None
        elif self._useless_since is None:
            self._useless_since = now
        useless = self._useless_since is not None and now - self._useless_since >= self._patience.down_s
        if self._lasts(now, self._wait_s) or useless:
            self._wait_s = min(2 * self._wait_s, self._patience.most_back_s)
            self._turn(Mode.PRIMARY)

    def _breaks_off(self, sight: Sight, now: float) -> bool:
        """For longer than one that is under way needs. Clients stay: turning them is a person's command."""
        promoted = sight.primary.role in {Role.PRIMARY, Role.FENCED}
        if promoted and sight.replica.role is Role.FENCED:
            return self._lasts(now, self._patience.down_s)
        self._since = None
        return False

    def _strands(self, sight: Sight, now: float) -> str:
        """Why clients have been without a database for `down_s`; empty: they have one."""
        without = self._misfit(sight.replica)
        if self.mode is Mode.PROMOTED:
            # One that is fenced answers reads: a way back is under way, or broke off.
            served = sight.replica.role is Role.FENCED
        else:
            served = sight.primary.role is Role.PRIMARY
        if served:
            without = ""
        if not without:
            self._stranded_since = None
        elif self._stranded_since is None:
            self._stranded_since = now
        since = self._stranded_since
        return without if since is not None and now - since >= self._patience.down_s else ""

    def _lasts(self, now: float, seconds: float) -> bool:
        if self._since is None:
            self._since = now
        return now - self._since >= seconds

    def _turn(self, mode: Mode) -> None:
        self.mode = mode
        self.turns += 1
        self._forget()

    def _forget(self) -> None:
        self._since = self._calm_since = self._useless_since = self._stranded_since = None

    def _calm(self, now: float) -> None:
        """The longest wait without a failure: then the next turn back waits as at first."""
        if self._calm_since is None:
            self._calm_since = now
        if now - self._calm_since >= self._patience.most_back_s:
            self._wait_s = self._patience.back_s

    def _fits(self, replica: Seen) -> bool:
        """A standby or promoted, and of this cluster."""
        return not self._misfit(replica)

    def _misfit(self, replica: Seen) -> str:
        """Why no client can be sent there; empty: it can."""
        if replica.role not in {Role.STANDBY, Role.PRIMARY}:
            return f"the replica is {'a ' if replica.answers else ''}{replica.role}"
        if not self.system:
            return "nothing here knows the primary's cluster, so the replica may be another's"
        if not self._is_ours(replica):
            return f"the replica is of another cluster, {replica.system}, and the primary's is {self.system}"
        return ""

    def _is_ours(self, replica: Seen) -> bool:
        """Of the cluster that the primary told, now or in an earlier run."""
        return self.system == replica.system
