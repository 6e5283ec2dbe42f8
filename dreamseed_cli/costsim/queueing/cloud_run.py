"""Cloud Run in virtual time: places, instances, cold starts, 429s, and the seconds that are billed (§C1).

AI requests are followed one by one, since they hold their places for seconds. The others are many and short:
they are counted in ticks as long as one of them, each a Poisson number. Whatever the distribution of their
time, so many are in flight at a moment (M/G/infinity), and an instance is empty for the right share of time.

The rules are those of Google's "About instance autoscaling": an instance is started at once for a request
that finds no place, and by the mean concurrency of the last minute over the target; one that is not needed
stays for 15 minutes, unbilled. Its CPU rule is left out. Assumed: requests are spread evenly over the
instances in use, and each time in which an instance is busy is rounded up to a tenth of a second.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from heapq import heappop, heappush

from dreamseed_cli.costsim.queueing.system import CloudRunSettings
from dreamseed_cli.costsim.usage.cloud_run import IDLE_KEPT_S

AVERAGED_S = 60.0
EVALUATED_S = 5.0
ROUNDED_TO_S = 0.1
_SHORTEST_TICK_S, _LONGEST_TICK_S = 0.02, 1.0


def tick_s(settings: CloudRunSettings) -> float:
    """The time a request that needs no card holds its place, within reason."""
    return min(max(settings.plain_request_s, _SHORTEST_TICK_S), _LONGEST_TICK_S)


@dataclass(slots=True)
class CloudRunTotals:
    """Sums since the start: instance-seconds, request-seconds, counts."""

    busy_s: float = 0.0
    begun: float = 0.0
    """How often an instance that had no request got one."""
    starting_s: float = 0.0
    idle_min_s: float = 0.0
    instance_s: float = 0.0
    request_s: float = 0.0
    rejected_plain: int = 0
    cold_starts: int = 0
    peak_instances: int = 0

    rounding_s: float = 0.0
    """What rounding up adds to a busy time."""

    @property
    def billable_s(self) -> float:
        """Instance-seconds with a request or a start under way, each busy time rounded up to a tenth."""
        return self.starting_s + self.busy_s + self.begun * self.rounding_s


def rounding_s(in_flight: float, held_s: float) -> float:
    """What rounding up to a tenth of a second adds to an instance's busy time, on average.

    in_flight: short requests in it on average, each of which takes `held_s` on average. A busy time is that
    of a single request, of mean held_s / (1 + in_flight), or longer; together they last
    (exp(in_flight) - 1) / in_flight x held_s on average (M/G/infinity). Both kinds are taken to be
    exponential, of which a tenth rounded up is 0.1 / (1 - exp(-0.1 / mean)).
    """
    if not held_s:
        return ROUNDED_TO_S
    load = min(max(in_flight, 1e-6), 30.0)
    single_s, singles = held_s / (1 + load), 1 / (1 + load)
    longer_s = (held_s * math.expm1(load) / load - singles * single_s) / (1 - singles)
    return singles * _added_s(single_s) + (1 - singles) * _added_s(longer_s)


def _added_s(mean_s: float) -> float:
    return ROUNDED_TO_S / -math.expm1(-ROUNDED_TO_S / mean_s) - mean_s


class CloudRun:
    """Call `tick` at `next_at`; `enter` and `leave` at any time before it.

    plain: how many requests that need no card come in each tick. let_in, turned_away: told of AI requests
    that had to wait, by their number.
    """

    def __init__(
        self,
        settings: CloudRunSettings,
        plain: Sequence[int],
        *,
        let_in: Callable[[int, float], None],
        turned_away: Callable[[int, float], None],
    ) -> None:
        self._settings = settings
        self._plain = plain
        self._let_in, self._turned_away = let_in, turned_away
        self._tick_s = tick_s(settings)
        # A mean request may be shorter than the shortest tick or longer than the longest one.
        self._held = settings.plain_request_s / self._tick_s
        self._ticks = 0
        mean = sum(plain) / len(plain) * self._held if plain else 0.0
        # The simulation begins in the midst of its load: with what the plain requests keep up.
        wanted = math.ceil(mean / (settings.concurrency * settings.target))
        self._ready = self._active = min(max(wanted, settings.min_instances), settings.max_instances)
        self._starting: deque[float] = deque()
        self._ai = 0
        self._busy_plain = 0
        self._before = 0
        self._leaves: list[float] = []
        self._pending: deque[tuple[float, int, int]] = deque()  # since when, which AI request or -1, how many
        self._waiting_ai = 0
        every = max(1, round(EVALUATED_S / self._tick_s))
        self._every = every
        self._sums = deque([0.0], maxlen=max(1, round(AVERAGED_S / EVALUATED_S)))
        self._used: deque[int] = deque(maxlen=max(1, round(IDLE_KEPT_S / EVALUATED_S)))
        self._total = CloudRunTotals(
            peak_instances=self._ready,
            rounding_s=rounding_s(mean / max(self._active, 1), settings.plain_request_s),
        )
        self.next_at = 0.0

    @property
    def totals(self) -> CloudRunTotals:
        return replace(self._total)

    @property
    def idle(self) -> bool:
        """Whether nobody waits for a place any more and no plain request is to come."""
        return not self._waiting_ai and self._ticks >= len(self._plain)

    def enter(self, index: int, now: float) -> bool:
        """An AI request comes: True if it has a place at once; otherwise it waits."""
        while self._leaves and self._leaves[0] <= now:
            heappop(self._leaves)
            self._ai -= 1
        if not self._pending and self._ai + self._busy_plain < self._ready * self._settings.concurrency:
            self._ai += 1
            return True
        self._pending.append((now, index, 1))
        self._waiting_ai += 1
        self._start_for_pending(now)
        return False

    def leave(self, now: float, *, at: float = 0.0) -> None:
        """An AI request leaves now, or later, at a time that is known."""
        if at > now:
            heappush(self._leaves, at)
        else:
            self._ai -= 1

    def reset_peak(self) -> None:
        """Look for the most instances from here on."""
        self._total.peak_instances = self._ready

    def tick(self) -> None:
        """The next moment of the plain requests, and of the autoscaler every few seconds."""
        now = self.next_at
        while self._starting and self._starting[0] <= now:
            self._starting.popleft()
            self._ready += 1
            self._used.append(self._ready)
        while self._leaves and self._leaves[0] <= now:
            heappop(self._leaves)
            self._ai -= 1
        come = self._plain[self._ticks] if self._ticks < len(self._plain) else 0
        self._serve(come, now)
        self._bill(come)
        self._ticks += 1
        if not self._ticks % self._every:
            self._evaluate(now)
        self.next_at = self._ticks * self._tick_s

    def _serve(self, come: int, now: float) -> None:
        places = self._ready * self._settings.concurrency - self._ai
        if not self._pending and come * self._held <= places:
            self._busy_plain = round(come * self._held)
            return
        if come:
            self._pending.append((now, -1, come))
        self._busy_plain = 0
        given_up = now - self._settings.longest_wait_s
        while self._pending:
            since, index, many = self._pending[0]
            if since <= given_up:
                self._pending.popleft()
                self._reject(index, many, now)
                continue
            room = places - self._busy_plain
            if room <= 0:
                break
            places -= index >= 0
            self._pending.popleft()
            self._admit(index, many, room, since, now)
        self._start_for_pending(now)

    def _admit(self, index: int, many: int, room: int, since: float, now: float) -> None:
        if index >= 0:
            self._ai += 1
            self._waiting_ai -= 1
            self._let_in(index, now)
            return
        served = min(many, max(1, int(room / self._held)) if self._held else many)
        self._busy_plain += round(served * self._held)
        if served < many:
            self._pending.appendleft((since, -1, many - served))

    def _reject(self, index: int, many: int, now: float) -> None:
        if index >= 0:
            self._waiting_ai -= 1
            self._turned_away(index, now)
        else:
            self._total.rejected_plain += many

    def _bill(self, come: int) -> None:
        total, in_flight = self._total, self._ai + self._busy_plain
        busy = min(
            max(self._active, math.ceil(in_flight / self._settings.concurrency)), in_flight, self._ready
        )
        total.busy_s += busy * self._tick_s
        if self._before < self._active:
            total.begun += come
        self._before = in_flight
        total.idle_min_s += max(self._settings.min_instances - busy, 0) * self._tick_s
        total.instance_s += self._ready * self._tick_s
        total.request_s += in_flight * self._tick_s
        self._sums[-1] += in_flight
        total.peak_instances = max(total.peak_instances, self._ready)

    def _evaluate(self, now: float) -> None:
        settings = self._settings
        mean = sum(self._sums) / (len(self._sums) * self._every)
        self._sums.append(0.0)
        wanted = math.ceil(mean / (settings.concurrency * settings.target) - 1e-9)
        wanted = min(max(wanted, settings.min_instances), settings.max_instances)
        self._start(wanted - self._ready - len(self._starting), now)
        self._active = wanted
        self._used.append(self._active)
        self._ready = min(self._ready, max(settings.min_instances, *self._used))

    def _start_for_pending(self, now: float) -> None:
        """On demand: as many as those that wait fill."""
        if self._pending and self._ready + len(self._starting) < self._settings.max_instances:
            waiting = sum(many for _, _, many in self._pending)
            self._start(math.ceil(waiting / self._settings.concurrency) - len(self._starting), now)

    def _start(self, wanted: int, now: float) -> None:
        room = self._settings.max_instances - self._ready - len(self._starting)
        for _ in range(min(wanted, room)):
            self._starting.append(now + self._settings.cold_start_s)
            self._total.cold_starts += 1
            self._total.starting_s += self._settings.cold_start_s
