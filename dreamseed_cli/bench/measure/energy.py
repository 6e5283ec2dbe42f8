"""What the cards drew in the steady window, of rounds in all of their windows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np

from dreamseed_cli.bench.cell_run import PowerSample
from dreamseed_cli.bench.measure.tokens import Events
from dreamseed_cli.bench.result import Energy

JOULES_PER_KWH: Final = 3.6e6


def energy(
    samples: Sequence[PowerSample],
    events: Events,
    windows_s: Sequence[tuple[float, float]],
    usd_per_kwh: float | None,
) -> Energy | None:
    """Trapezoid rule over the power samples; None unless two of them reach into a window.

    Joules and tokens are both of those parts of the windows which the samples cover.
    """
    ordered = sorted(samples, key=lambda one: one.t_s)
    if len(ordered) < 2:
        return None
    times = np.array([one.t_s for one in ordered])
    watts = np.array([one.watts for one in ordered])
    covered = [(max(start, times[0]), min(end, times[-1])) for start, end in windows_s]
    covered = [(start, end) for start, end in covered if end > start]
    if not covered:
        return None
    joules = tokens = 0.0
    for start, end in covered:
        grid = np.concatenate([[start], times[(times > start) & (times < end)], [end]])
        joules += float(np.trapezoid(np.interp(grid, times, watts), grid))
        tokens += events.within(start, end)
    per_token = joules / tokens if tokens > 0 else None
    return Energy(
        joules=joules,
        mean_power_w=joules / float(sum(end - start for start, end in covered)),
        joules_per_output_token=per_token,
        usd_per_million_output_tokens=(
            None
            if per_token is None or usd_per_kwh is None
            else per_token * 1e6 / JOULES_PER_KWH * usd_per_kwh
        ),
    )
