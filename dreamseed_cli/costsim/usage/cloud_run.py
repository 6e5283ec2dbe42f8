"""What Cloud Run bills, in seconds of instances: Little's law by the hour under containerConcurrency (§C1).

An instance that serves 100 requests at a time costs what it costs for one, so the bill follows the seconds
in which instances are busy, not requests x seconds. Numbers or columns: see columns.py.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dreamseed_cli.costsim.columns import ever, plain
from dreamseed_cli.costsim.scenario import Scenario
from dreamseed_cli.costsim.usage.traffic import Traffic
from dreamseed_cli.costsim.usage.week import Floats, over_hours

IDLE_KEPT_S = 900.0
"""How long Cloud Run keeps an idle instance at most (its documentation: 15 minutes)."""
_ROUNDED_TO = 10
"""Billed time is rounded up to a tenth of a second."""


@dataclass(frozen=True, slots=True, eq=False)
class CloudRunUse:
    """A month of one service. Seconds are of instances: times vCPUs and GiB they are what is billed."""

    requests: float
    """Those answered."""
    refused_requests: float
    """Those for which max_instances x container_concurrency left no place."""
    busy_s: float
    """With at least one request in flight: what request-based billing counts."""
    idle_s: float
    """Of min_instances, with none in flight."""
    up_s: float
    """In which instances are up at all: what instance-based billing counts."""
    peak_in_flight: float
    """Requests at a time in the busiest hour, those refused included."""
    peak_instances: int
    admitted: Floats | float
    """Of the requests of each of the traffic's hours, the share that found a place."""


def cloud_run_use(scenario: Scenario, traffic: Traffic, *, ai_request_s: float | None = None) -> CloudRunUse:
    """Instances by the hour. `ai_request_s`: what the scenario's own stands for, such as a simulation's."""
    one = scenario
    ai_s = one.ai_request_s if ai_request_s is None else ai_request_s
    held_s = _mean_s(traffic, one.plain_request_s, ai_s)
    wanted = traffic.rps * held_s
    peak = traffic.busiest_rps * held_s
    places = one.max_instances * one.container_concurrency
    in_flight = np.minimum(wanted, places)
    instances = np.ceil(in_flight / (one.container_concurrency * one.scaling_target))
    instances = np.minimum(np.maximum(instances, 1.0), one.max_instances)
    billed = in_flight * (_mean_s(traffic, _rounded_up(one.plain_request_s), _rounded_up(ai_s)) / held_s)
    # Requests come at random: of k instances that share L of them, each has none for exp(-L / k) of the time.
    busy = -instances * np.expm1(-billed / instances)
    seconds = traffic.hours * 3600
    full = ever(peak > places)
    refused = over_hours(wanted - in_flight, seconds) / held_s if full else 0.0
    reaching = traffic.plain_share + traffic.generated_share
    arrivals = in_flight * (reaching / held_s)
    up = -instances * np.expm1(-arrivals * IDLE_KEPT_S)
    return CloudRunUse(
        requests=traffic.cloud_run_requests - refused * reaching,
        refused_requests=refused * reaching,
        busy_s=over_hours(busy, seconds),
        idle_s=over_hours(np.maximum(one.min_instances - busy, 0), seconds)
        if ever(one.min_instances)
        else 0.0,
        up_s=over_hours(np.maximum(up, one.min_instances), seconds),
        peak_in_flight=peak,
        peak_instances=plain(np.where(peak, instances.max(axis=0), one.min_instances).astype(int)),
        admitted=places / np.maximum(wanted, places) if full else 1.0,
    )


def _mean_s(traffic: Traffic, plain_s: float, ai_s: float) -> float:
    """Seconds held in an instance for each API request there is, those of the CDN counted as 0."""
    # A request takes some time even where every input says 0; the quotients above need it.
    mean: float = plain(np.maximum(traffic.plain_share * plain_s + traffic.generated_share * ai_s, 1e-9))
    return mean


def _rounded_up(seconds: float) -> float:
    """To a tenth; what floats add to an exact tenth is no reason to round it up."""
    tenths: float = plain(np.ceil(np.round(seconds * _ROUNDED_TO, 9)))
    return tenths / _ROUNDED_TO
