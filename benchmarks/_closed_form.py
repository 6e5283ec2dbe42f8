"""Queues whose answer is known: Erlang's formulas, M/M/c and M/D/1. The simulation is held against them.

Sources: L. Kleinrock, Queueing Systems, Volume 1 (1975), section 3 for M/M/c and section 5 for M/G/1; the
recursion of Erlang B is the usual one (e.g. R. B. Cooper, Introduction to Queueing Theory, 1981, section 3).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from dreamseed_cli.core.errors import UsageError


@dataclass(frozen=True, slots=True)
class Wait:
    """The time in the queue, the service left out, in seconds."""

    probability: float
    """That one has to wait at all."""
    mean_s: float
    rate_per_s: float
    """Of the exponential that those who wait at all wait for; infinite if nobody does."""

    def quantile_s(self, share: float) -> float:
        """What this share of all requests does not wait longer than."""
        if share <= 1 - self.probability:
            return 0.0
        return math.log(self.probability / (1 - share)) / self.rate_per_s


def erlang_b(servers: int, offered: float) -> float:
    """The share of requests lost by M/G/c/c: `servers` places, no queue, `offered` load in erlangs.

    B(0) = 1, B(c) = a B(c-1) / (c + a B(c-1)).
    """
    _check(servers, offered)
    lost = 1.0
    for places in range(1, servers + 1):
        lost = offered * lost / (places + offered * lost)
    return lost


def erlang_c(servers: int, offered: float) -> float:
    """The share of requests that M/M/c lets wait: C = B / (1 - rho (1 - B)), 1 from full load on."""
    lost = erlang_b(servers, offered)
    usage = offered / servers
    return 1.0 if usage >= 1 else lost / (1 - usage * (1 - lost))


def mmc_wait_s(servers: int, arrivals_per_s: float, service_s: float) -> Wait:
    """M/M/c, first come first served: the mean is C / (c mu - lambda), and those that wait do so for an
    exponential time of rate c mu - lambda. UsageError if the load is not below 1.
    """
    offered = arrivals_per_s * service_s
    rate = servers / service_s - arrivals_per_s
    _check(servers, offered)
    _check_stable(offered / servers)
    probability = erlang_c(servers, offered)
    return Wait(probability, probability / rate, rate)


def md1_wait_s(arrivals_per_s: float, service_s: float) -> float:
    """The mean wait of M/D/1 (Pollaczek-Khinchine with no variance): rho s / (2 (1 - rho)).

    UsageError if the load is not below 1.
    """
    usage = arrivals_per_s * service_s
    _check(1, usage)
    _check_stable(usage)
    return usage * service_s / (2 * (1 - usage))


def _check(servers: int, offered: float) -> None:
    if servers < 1:
        raise UsageError(f"{servers} servers serve nobody", place="servers", remedy="Write 1 or more.")
    if not 0 <= offered < math.inf:
        raise UsageError(f"a load of {offered:g} erlangs", place="offered", remedy="Write 0 or more.")


def _check_stable(usage: float) -> None:
    if usage >= 1:
        raise UsageError(
            f"at {usage:.0%} load the queue grows for ever",
            place="arrivals_per_s",
            remedy="Lower the arrivals, or take more servers.",
        )
