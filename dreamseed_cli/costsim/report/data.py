"""What `cost-sim --json` prints, as types: docs/schemas/cost-sim.schema.json is made of them."""

from __future__ import annotations

from typing import Any, Literal

from typing_extensions import TypedDict

from dreamseed_cli.core.result import Provenance


class Number(TypedDict):
    """One figure; `value` is null where there is none: never, or without end."""

    value: float | None
    unit: str
    provenance: Provenance


class BandData(TypedDict):
    """Quantiles of the draws."""

    p5: Number
    p50: Number
    p95: Number


class LineData(TypedDict):
    """One line of a bill."""

    key: str
    title: str
    section: str
    usd: Number
    how: str
    document_usd: list[float] | None
    """What the document prints for it, from low to high."""
    document_recomputed_usd: Number | None
    """The document's own quantities at its own prices."""
    band: BandData | None


class BillData(TypedDict):
    """A month's bill; `aside` is not in the total."""

    lines: list[LineData]
    aside: list[LineData]
    total: Number
    band: BandData | None


class BarData(TypedDict):
    """An input at both ends of its range; of a price and of a factor as a multiple."""

    name: str
    low: float
    high: float
    usd_at_low: Number
    usd_at_high: Number
    rank_correlation: float


class ClassData(TypedDict):
    """AI requests of one class that no cache answered."""

    requests: int
    endings: dict[str, int]
    kept_slo: Number
    goodput: Number
    """Those that kept the SLO, a second."""
    fallback: int
    ttft_s: dict[str, Number]
    wait_s: dict[str, Number]
    end_to_end_s: dict[str, Number]


class TrafficData(TypedDict):
    """A month's requests, and how busy the hours are."""

    api_requests: Number
    cloud_run_requests: Number
    ai_requests: Number
    answers: Number
    """AI requests that no cache answers."""
    prompt_tokens: Number
    answer_tokens: Number
    static_requests: Number
    average: Number
    busiest_hour: Number
    """Exam season included."""


class HeldData(TypedDict):
    """A simulated hour against the SLO; its warm-up is left out of all counts."""

    holds: bool
    hours: float
    seed: int
    counted: Number
    """The time that the counts are of."""
    api_requests: int
    """Of users; some the CDN answers."""
    cdn_answered: int
    ai_requests: int
    cache_hits: int
    """Of AI requests."""
    kept_slo: Number
    """Of PREMIUM and STANDARD requests."""
    wanted: float
    classes: dict[str, ClassData]
    cards_busy: Number
    batch: Number
    """Answers that a busy replica generates at a time."""
    preemptions: int
    tokens_per_s: Number
    prompt_tokens_per_s: Number
    power: Number
    energy: Number
    energy_of_a_token: Number
    cloud_run_requests: int
    cloud_run_in_flight: Number
    billable_instance_s: float
    """What request-based billing counts; `idle_instance_s`: of minimum instances; `instance_s`: all."""
    idle_instance_s: float
    instance_s: float
    cloud_run_rejected: int
    cloud_run_instances: int
    cold_starts: int
    fallback_answers: int
    fallback_usd: Number
    """At the rate of this hour, an hour."""
    notes: list[str]


class InvestmentData(TypedDict):
    """A purchase against its alternative."""

    initial: Number
    monthly: Number
    alternative: Number
    funds: Number
    saving: Number
    saved_2_years: Number
    net_2_years: Number
    payback: Number
    runway: Number
    runway_unpaid: Number
    """As if the purchase cost nothing, as §J2 counts."""
    runway_alternative: Number


class ReturnsData(TypedDict):
    """Payback and runway."""

    ours: InvestmentData
    document: InvestmentData
    breaks_even: Number
    breaks_even_sold: Number
    payback_band: BandData
    runway_band: BandData
    runway_alternative_band: BandData
    never_pays_back: float
    """Share of the draws."""
    flow: list[dict[str, float]]


class ArchitectureData(TypedDict):
    """One of §A's three."""

    architecture: str
    bill: BillData
    outages: dict[str, dict[str, Number]]
    """By luck: `least`, `likeliest`, `most` failures."""


class MainsData(TypedDict):
    """Outages of the mains, least, likeliest and most."""

    per_year: list[float]
    hours: list[float]
    """Each."""
    provenance: Literal["measured", "assumption"]
    source: str


class PowerData(TypedDict):
    """What the box's own record says, else what stands in its place."""

    file: str | None
    """The record; null if there is none."""
    days: float
    energy: Number
    """Measured: at the UPS's output, under the load that the box had. Computed: of this scenario."""
    electricity: Number
    """What that energy costs."""
    mains: MainsData


class GrowthData(TypedDict):
    """When more cards are due."""

    monthly: float
    due: list[dict[str, int]]


class SaturationData(TypedDict):
    """A part against its limit."""

    id: str
    title: str
    demand: Number
    limit: Number
    users_at_limit: Number
    beyond: str
    source: str


class SweepData(TypedDict):
    """One row of §F3 as we find it."""

    users: int
    concurrent: int
    cards: int
    cards_needed: int
    total: Number
    band: BandData
    lines: dict[str, float]
    document_total_usd: float | None
    document_cards: float | None
    held: HeldData


class ChoiceData(TypedDict):
    """A candidate that was simulated."""

    model: str
    cards: int
    power_limit_w: float
    container_concurrency: int
    max_instances: int
    usd: Number
    """Of a month, the hardware's loss of worth included."""
    kept_slo: Number


class OptimumData(TypedDict):
    """The cheapest that holds."""

    best: ChoiceData | None
    failed: list[ChoiceData]
    screened_out: int
    candidates: int


class StudyData(TypedDict):
    """All of one scenario's answer. Amounts are US dollars."""

    profile: str
    book: str
    krw_per_usd: float
    scenario: dict[str, float]
    stated: list[str]
    """What was set, by the profile or the command."""
    card_source: str
    card_provenance: Provenance
    """How it is known how fast a card is."""
    traffic: TrafficData
    bill: BillData
    draws: int
    sensitivity: list[BarData]
    busiest_hour: HeldData | None
    investment: ReturnsData
    architectures: list[ArchitectureData]
    power: PowerData
    growth: list[GrowthData]
    saturation: dict[str, list[SaturationData]]
    contradictions: list[dict[str, Any]]
    document: list[dict[str, Any]]
    stale_prices: list[dict[str, str]]
    optimum: OptimumData | None
    day: list[dict[str, float | None]]


class DeviationData(TypedDict):
    """A figure of a load."""

    quantity: str
    measured: float
    measured_low: float | None
    """Of the measurement's 95 % interval."""
    measured_high: float | None
    simulated: float
    error_percent: float
    within: bool
    """Whether it is inside of the measurement's interval."""


class CheckedLoadData(TypedDict):
    """One load of a bench result."""

    suite: str
    name: str
    held_out: bool
    """Nothing was fitted to it."""
    figures: list[DeviationData]


class ValidationData(TypedDict):
    """The simulation against a bench result."""

    held_out_error: Number
    """The mean of the absolute errors of all figures of the loads held out."""
    suites: dict[str, Number]
    """The same of each suite by itself, fitted to its own other loads; empty where one suite was measured."""
    worst_error: Number
    rounds: int
    """In which the loads were measured."""
    drift: Number | None
    """By how much the time between tokens differed from round to round of one load (standard deviation)."""
    aim_percent: float
    fitted_step: Number
    """Of one sequence, from the loads that were not held out."""
    fitted_prefill: Number
    fitted_on_top: Number
    """Of each time to the first token, beside its prefill."""
    loads: list[CheckedLoadData]


class TargetData(TypedDict):
    """What decides the exit code."""

    met: bool
    keeps_slo: bool | None
    """Null if only a sweep was asked for."""
    budget_usd: float | None
    within_budget: bool | None
    foretells: bool | None
    """Whether loads of the bench result that were held out are foretold within the aim."""


class CostSim(TypedDict):
    """`data` of the envelope."""

    study: StudyData | None
    sweep: list[SweepData] | None
    validation: ValidationData | None
    """Null without a bench result."""
    target: TargetData
    files: list[str]
