"""What reaches each part of the service in a month: rates by the hour, totals and peaks. Floats, pure.

The busiest hour of a normal week has scenario.concurrent users, each with requests_per_user_min; the week's
curve gives the other hours; exam season multiplies them all. Numbers or columns: see columns.py.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dreamseed_cli.costsim.columns import ever, plain
from dreamseed_cli.costsim.scenario import Scenario
from dreamseed_cli.costsim.usage.week import HOURS, Floats, Week, all_week, default_week, over_hours

BYTES_PER_TOKEN = 4.0
"""UTF-8 text of one token, on average: OpenAI's rule of thumb for English; Korean takes somewhat more."""
_KB_PER_GB = 1e6


@dataclass(frozen=True, slots=True, eq=False)
class Traffic:
    """A month. `rps` and `hours` belong together: at each rate, so many hours of the month."""

    rps: Floats
    """API requests per second: 168 hours of a normal week from Monday 00:00, then those of exam season."""
    hours: Floats
    plain_share: float
    """Of API requests: reach Cloud Run and need no card."""
    generated_share: float
    """Of API requests: an answer must be generated."""
    busiest_rps: float
    api_requests: float
    """Those of a month, as are all of the following."""
    cloud_run_requests: float
    """Those the CDN does not answer."""
    ai_requests: float
    answers: float
    """To be generated: AI requests that no cache answers."""
    answer_tokens: float
    prompt_tokens: float
    static_requests: float
    static_origin_requests: float
    """Static files the CDN must fetch."""
    static_origin_gb: float
    egress_gb: float
    """From Cloud Run: its answers to the CDN, its prompts to the box."""

    @property
    def busiest_day_rps(self) -> Floats:
        """The 24 hours, from 00:00, of the day with the busiest hour, exam season included."""
        day = int(self.rps.argmax()) // 24
        return self.rps[day * 24 : day * 24 + 24]

    @property
    def average_rps(self) -> float:
        return self.api_requests / (float(self.hours.sum()) * 3600)

    @property
    def busiest_answers_s(self) -> float:
        """Answers to generate per second in the busiest hour."""
        return self.busiest_rps * self.generated_share


def traffic(scenario: Scenario, week: Week | None = None) -> Traffic:
    """A month of this scenario; UsageError if the week cannot be as steep as it asks."""
    one = scenario
    normal_peak = one.concurrent * one.requests_per_user_min / 60
    rps, hours = _hourly(one, normal_peak * (week or default_week()).curve(one.peak_to_average))
    requests = over_hours(rps, hours) * 3600
    reaching = 1 - one.cached_question_share * one.question_cdn_hit
    generated = one.ai_share * (1 - one.answer_cache_hit)
    answers = requests * generated
    static = requests * one.static_per_request
    origin = static * (1 - one.cdn_hit)
    prompts_gb = answers * one.prompt_tokens * BYTES_PER_TOKEN / 1e9
    return Traffic(
        rps=rps,
        hours=hours,
        plain_share=reaching - generated,
        generated_share=generated,
        busiest_rps=normal_peak * plain(np.where(one.surge_days, one.surge, 1.0)),
        api_requests=requests,
        cloud_run_requests=requests * reaching,
        ai_requests=requests * one.ai_share,
        answers=answers,
        answer_tokens=answers * one.answer_tokens,
        prompt_tokens=answers * one.prompt_tokens,
        static_requests=static,
        static_origin_requests=origin,
        static_origin_gb=origin * one.static_kb / _KB_PER_GB,
        egress_gb=requests * reaching * one.api_kb / _KB_PER_GB + prompts_gb,
    )


def _hourly(one: Scenario, normal: Floats) -> tuple[Floats, Floats]:
    """The rates, and how many hours of the month run at each."""
    surging = plain(np.where(one.surge == 1, 0.0, one.surge_days)) * 24
    usual = all_week((one.hours - surging) / HOURS)
    if not ever(surging):
        return normal, usual
    return np.concatenate((normal, normal * one.surge)), np.concatenate((usual, all_week(surging / HOURS)))
