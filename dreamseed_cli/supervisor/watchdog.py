"""Whether an engine makes progress: a pure judge of what is seen of it once a second, with time passed in.

`/health` says 200 while a core hangs, so nothing here asks it: tokens count, and nothing else.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from dreamseed_cli.core.counting import counted
from dreamseed_cli.profile.resilience import Supervision
from dreamseed_cli.supervisor.replica import (
    CanaryFailed,
    Event,
    Failing,
    Reason,
    Recovered,
    Replica,
    ReplicaState,
    Slowed,
    Stalled,
)

_FAILURES = 3
"""Requests in a row that it did not deliver, after which it is in doubt."""
_BAD_CANARIES = 2
"""Canaries in a row without a token, while in doubt or idle, after which it is ejected."""
_DOUBT_EVERY_S = 1.0
"""How often an engine in doubt gets a canary."""
_GOOD_CANARIES, _MOST_CANARIES = 3, 60
_SLOW_LOOKS = 5
_LEARN, _LOOKS_TO_KNOW = 0.1, 10
_SHORTEST_CANARY_S = 0.01


@dataclass(frozen=True, slots=True)
class Look:
    """What is seen of one engine at one moment. None: unknown.

    outstanding: requests that the gateway has there. progress: a number that grows with every token that
    reached the gateway from it. running: requests that it says it has itself. computed: tokens that it says
    it has processed, prompts included; generated: without them. delivered, undelivered: requests that ended
    well, or by its fault.
    """

    outstanding: int | None = None
    progress: int | None = None
    running: int | None = None
    computed: int | None = None
    generated: int | None = None
    delivered: int = 0
    undelivered: int = 0

    @property
    def working(self) -> bool:
        return bool(self.outstanding or self.running)


@dataclass(slots=True)
class _Average:
    """A mean of the newest values, of use after some of them."""

    value: float = 0.0
    count: int = 0

    def add(self, value: float) -> None:
        self.count += 1
        self.value += (value - self.value) * max(_LEARN, 1 / self.count)

    @property
    def known(self) -> bool:
        return self.count >= _LOOKS_TO_KNOW


@dataclass(slots=True)
class Watchdog:
    """Make one for each process of an engine; `pace` outlives a restart, since the card stays the same."""

    rules: Supervision
    pace: dict[int, _Average] = field(default_factory=dict)
    """Tokens a second and request, by the size of the batch (powers of two)."""
    usual_canary: _Average = field(default_factory=_Average)
    relapses: int = 0
    _last: Look | None = None
    _last_at: float = 0.0
    _moved_at: float = 0.0
    _worked_at: float = 0.0
    _canary_at: float = 0.0
    _undelivered: int = 0
    _slow_looks: int = 0
    _good: int = 0
    _bad: int = 0

    def begin(self, now: float) -> None:
        """A process of it has just generated its first token."""
        self._last = None
        self._last_at = self._moved_at = self._worked_at = self._canary_at = now
        self._undelivered = self._slow_looks = self._good = self._bad = 0

    def look(self, look: Look, replica: Replica, now: float) -> Event | None:
        """Judge what is seen now. now: monotonic seconds."""
        before, since = self._last, now - self._last_at
        self._last, self._last_at = look, now
        if before is None or before.progress != look.progress or before.computed != look.computed:
            self._moved_at = now
        if not look.working:
            self._moved_at = now
        else:
            self._worked_at = now
        still_s = now - self._moved_at
        if still_s >= self.rules.hang_after_s:
            requests = look.outstanding or look.running or 0
            return Stalled(
                f"it has {counted(requests, 'request')} and has generated nothing for {still_s:.0f} s",
                still_s,
            )
        if before is None:
            return None
        return self._judge_deliveries(before, look, replica) or self._judge_pace(before, look, replica, since)

    def canary_due(self, replica: Replica, now: float) -> bool:
        """Whether it should be asked for one token: when idle for long, and often while in doubt."""
        if replica.state is ReplicaState.DEGRADED or self._bad:
            in_the_way = replica.reason is Reason.SLOW and now - self._worked_at < _DOUBT_EVERY_S
            return not in_the_way and now - self._canary_at >= _DOUBT_EVERY_S
        idle_since = max(self._worked_at, self._canary_at)
        return now - idle_since >= self.rules.canary_every_s

    def canary_sent(self, now: float) -> None:
        self._canary_at = now

    def canary_answered(self, took_s: float, replica: Replica) -> Event | None:
        """It generated the token."""
        self._bad = 0
        if replica.state is not ReplicaState.DEGRADED:
            self.usual_canary.add(took_s)
            return None
        slow = self.usual_canary.known and took_s > self.rules.slow_factor * max(
            self.usual_canary.value, _SHORTEST_CANARY_S
        )
        self._good = 0 if slow else self._good + 1
        needed = min(_GOOD_CANARIES * 2**self.relapses, _MOST_CANARIES)
        return self._recover(f"{self._good} canaries in time") if self._good >= needed else None

    def canary_missed(self, cause: str, *, timed_out: bool) -> Event | None:
        """It did not. One that timed out was given time enough; one that came wrong is asked again."""
        self._good = 0
        self._bad += _BAD_CANARIES if timed_out else 1
        return CanaryFailed(f"asked for one token: {cause}") if self._bad >= _BAD_CANARIES else None

    def _judge_deliveries(self, before: Look, look: Look, replica: Replica) -> Event | None:
        if look.delivered > before.delivered:
            self._undelivered = 0
        else:
            self._undelivered += max(0, look.undelivered - before.undelivered)
        if replica.state is ReplicaState.READY and self._undelivered >= _FAILURES:
            count, self._undelivered = self._undelivered, 0
            return Failing(f"{counted(count, 'request')} in a row not answered")
        return None

    def _judge_pace(self, before: Look, look: Look, replica: Replica, since: float) -> Event | None:
        """Compare the tokens a second and request with what is usual for such a batch.

        Prompts count for it now, but not for what is usual: one long prompt is read in a second, and after it
        every answer would seem slow.
        """
        running = min(before.running or 0, look.running or 0)
        if not running or before.computed is None or look.computed is None or since <= 0:
            self._slow_looks = 0
            return None
        pace = (look.computed - before.computed) / since / running
        usual = self.pace.setdefault(running.bit_length(), _Average())
        slow = usual.known and pace * self.rules.slow_factor < usual.value
        self._slow_looks = self._slow_looks + 1 if slow else 0
        if replica.state is ReplicaState.READY:
            if not slow and before.generated is not None and look.generated is not None:
                most = max(before.running or 0, look.running or 0)
                usual.add((look.generated - before.generated) / since / most)
            if self._slow_looks >= _SLOW_LOOKS:
                return self._slowed(pace, usual.value)
        elif replica.reason is Reason.SLOW and usual.known:
            self._good = 0 if slow else self._good + 1
            if self._good >= _SLOW_LOOKS * 2**self.relapses:
                return self._recover("its pace is as usual")
        return None

    def _slowed(self, pace: float, usual: float) -> Event:
        self._good = self._slow_looks = 0
        return Slowed(f"{pace:.1f} tokens a second and request, {usual:.1f} is usual")

    def _recover(self, why: str) -> Event:
        self._good = 0
        self.relapses = min(self.relapses + 1, 4)
        return Recovered(why)
