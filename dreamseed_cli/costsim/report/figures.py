"""The answer as JSON: every figure with its unit and how it came about."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict
from decimal import Decimal

from dreamseed_cli.core.result import Provenance
from dreamseed_cli.costsim.billing.bill import Bill, Line
from dreamseed_cli.costsim.decisions.architectures import Compared, Outage
from dreamseed_cli.costsim.decisions.bands import Band, MonthsBand
from dreamseed_cli.costsim.decisions.beyond import Saturation
from dreamseed_cli.costsim.decisions.investment import Investment, Month
from dreamseed_cli.costsim.decisions.optimise import Optimum, Tried
from dreamseed_cli.costsim.decisions.sweep import Row
from dreamseed_cli.costsim.holding import Held, fallback_usd
from dreamseed_cli.costsim.money import cents
from dreamseed_cli.costsim.question import Question
from dreamseed_cli.costsim.queueing.outcome import ClassOutcome, Times
from dreamseed_cli.costsim.queueing.validate import HELD_OUT_AIM, Deviation, Validation
from dreamseed_cli.costsim.report.bill_rows import BillRow, Kind, bill_rows
from dreamseed_cli.costsim.report.data import (
    ArchitectureData,
    BandData,
    BarData,
    BillData,
    ChoiceData,
    ClassData,
    DeviationData,
    GrowthData,
    HeldData,
    InvestmentData,
    LineData,
    Number,
    OptimumData,
    ReturnsData,
    SaturationData,
    StudyData,
    SweepData,
    TrafficData,
    ValidationData,
)
from dreamseed_cli.costsim.report.power import power_data
from dreamseed_cli.costsim.rivals import Returns
from dreamseed_cli.costsim.study import Growth, Study
from dreamseed_cli.costsim.usage.traffic import Traffic

_SHOWN_DUE = 3
_USD_MONTH = "USD/month"
_REQUESTS = "requests/month"


def study_data(one: Study) -> StudyData:
    """The whole answer."""
    asked = one.question
    return {
        "profile": asked.profile.name,
        "book": asked.book.name,
        "krw_per_usd": float(asked.book.rate),
        "scenario": asdict(one.scenario),
        "stated": sorted(asked.known),
        "card_source": asked.cards.card.source,
        "card_provenance": asked.cards.provenance,
        "traffic": _traffic(one.month.traffic),
        "bill": _study_bill(one),
        "draws": one.bands.draws,
        "sensitivity": _sensitivity(one),
        "busiest_hour": None if one.held is None else held_data(one.held, asked),
        "investment": _returns(one.returns),
        "architectures": [_architecture(row) for row in one.compared],
        "power": power_data(one),
        "growth": [_growth(row) for row in one.growths],
        "saturation": {
            str(users): [_saturation(row) for row in rows] for users, rows in one.saturations.items()
        },
        "contradictions": [verdict.to_data() for verdict in one.verdicts],
        "document": [row.to_data() for row in one.rows],
        "stale_prices": [{"id": price.id, "date": str(price.date)} for price in one.stale],
        "optimum": None if one.optimum is None else _optimum(one.optimum),
        "day": [_hour(number, rps, held) for number, (rps, held) in enumerate(one.hours)],
    }


def sweep_data(rows: Sequence[Row[Held]], one: Question) -> list[SweepData]:
    """Every row of the sweep."""
    return [
        {
            "users": row.point.users,
            "concurrent": row.point.concurrent,
            "cards": row.scenario.gpus,
            "cards_needed": row.cards_needed,
            "total": _usd(row.bill.usd),
            "band": _band(row.bands.total),
            "lines": {line.key: _cents(line.usd) for line in row.bill.lines},
            "document_total_usd": row.point.document.middle if row.point.document else None,
            "document_cards": row.point.document.field("cards") if row.point.document else None,
            "held": held_data(row.verdict, one),
        }
        for row in rows
    ]


def held_data(held: Held, one: Question) -> HeldData:
    """A simulation; its fallback at the book's prices."""
    found = held.outcome
    return {
        "holds": held.holds,
        "hours": held.hours,
        "seed": found.seed,
        "counted": _simulated(found.window_s, "s"),
        "api_requests": found.api_requests,
        "cdn_answered": found.cdn_answered,
        "ai_requests": found.ai_requests,
        "cache_hits": found.cache_hits,
        "kept_slo": _simulated(held.attainment * 100, "%"),
        "wanted": held.targets.attainment * 100,
        "classes": {name: _class(each) for name, each in found.classes.items()},
        "cards_busy": _simulated(found.cards.busy_share * 100, "%"),
        "batch": _simulated(found.cards.mean_batch, "answers"),
        "preemptions": found.cards.preemptions,
        "tokens_per_s": _simulated(found.cards.tokens_per_s, "tok/s"),
        "prompt_tokens_per_s": _simulated(found.cards.prompt_tokens_per_s, "tok/s"),
        "power": _simulated(found.energy.mean_w, "W"),
        "energy": _simulated(found.energy.kwh, "kWh"),
        "energy_of_a_token": _simulated(found.energy.joules_per_token, "J"),
        "cloud_run_requests": found.cloud_run.requests,
        "cloud_run_in_flight": _simulated(found.cloud_run.mean_concurrency, "requests"),
        "billable_instance_s": found.cloud_run.billable_instance_s,
        "idle_instance_s": found.cloud_run.idle_min_instance_s,
        "instance_s": found.cloud_run.instance_s,
        "cloud_run_rejected": found.cloud_run.rejected,
        "cloud_run_instances": found.cloud_run.peak_instances,
        "cold_starts": found.cloud_run.cold_starts,
        "fallback_answers": found.fallback.requests,
        "fallback_usd": _simulated(float(fallback_usd(held, one.book, one.choices)), "USD/h"),
        "notes": list(found.notes),
    }


def _traffic(one: Traffic) -> TrafficData:
    return {
        "api_requests": _computed(one.api_requests, _REQUESTS),
        "cloud_run_requests": _computed(one.cloud_run_requests, _REQUESTS),
        "ai_requests": _computed(one.ai_requests, _REQUESTS),
        "answers": _computed(one.answers, "answers/month"),
        "prompt_tokens": _computed(one.prompt_tokens, "tokens/month"),
        "answer_tokens": _computed(one.answer_tokens, "tokens/month"),
        "static_requests": _computed(one.static_requests, _REQUESTS),
        "average": _computed(one.average_rps, "requests/s"),
        "busiest_hour": _computed(one.busiest_rps, "requests/s"),
    }


def validation_data(one: Validation) -> ValidationData:
    """Every load of the bench result, and how far the simulation is off."""
    return {
        "held_out_error": _simulated(one.mean_error * 100, "%"),
        "suites": {name: _simulated(error * 100, "%") for name, error in one.alone.items()},
        "worst_error": _simulated(abs(one.worst[1].error) * 100, "%"),
        "rounds": one.rounds,
        "drift": None if one.drift is None else _number(one.drift * 100, "%", one.card.provenance),
        "aim_percent": HELD_OUT_AIM * 100,
        "fitted_step": _computed(float(one.card.steps_ms()[0]), "ms"),
        "fitted_prefill": _computed(one.card.card.prefill_tokens_per_s, "tok/s"),
        "fitted_on_top": _computed(one.card.on_top_s * 1000, "ms"),
        "loads": [
            {
                "suite": load.cell.suite,
                "name": load.cell.name,
                "held_out": load.held_out,
                "figures": [_deviation(figure) for figure in load.deviations],
            }
            for load in one.loads
        ],
    }


def _deviation(one: Deviation) -> DeviationData:
    return {
        "quantity": one.quantity,
        "measured": one.measured.value,
        "measured_low": one.measured.low,
        "measured_high": one.measured.high,
        "simulated": one.simulated,
        "error_percent": one.error * 100,
        "within": one.within,
    }


def _study_bill(one: Study) -> BillData:
    rows = list(bill_rows(one))
    return {
        "lines": [_row(row) for row in rows if row.kind is Kind.LINE],
        "aside": [_row(row) for row in rows if row.kind is Kind.ASIDE],
        "total": _usd(one.bill.usd),
        "band": _band(one.bands.total),
    }


def _row(row: BillRow) -> LineData:
    return {
        **_line(row.line),
        "document_usd": None if row.printed is None else list(row.printed),
        "document_recomputed_usd": None if row.recomputed is None else _usd(row.recomputed),
        "band": None if row.band is None else _band(row.band),
    }


def _bill(bill: Bill) -> BillData:
    return {
        "lines": [_line(line) for line in bill.lines],
        "aside": [_line(line) for line in bill.aside],
        "total": _usd(bill.usd),
        "band": None,
    }


def _line(line: Line) -> LineData:
    return {
        "key": line.key,
        "title": line.title,
        "section": line.section,
        "usd": _number(_cents(line.usd), _USD_MONTH, line.provenance),
        "how": line.how,
        "document_usd": None,
        "document_recomputed_usd": None,
        "band": None,
    }


def _sensitivity(one: Study) -> list[BarData]:
    return [
        {
            "name": bar.name,
            "low": bar.low,
            "high": bar.high,
            "usd_at_low": _usd(bar.usd_low),
            "usd_at_high": _usd(bar.usd_high),
            "rank_correlation": one.correlations[bar.name],
        }
        for bar in one.bars
    ]


def _class(one: ClassOutcome) -> ClassData:
    return {
        "requests": one.requests,
        "endings": {ending.value: count for ending, count in one.endings.items()},
        "kept_slo": _simulated(one.attainment * 100, "%"),
        "goodput": _simulated(one.per_s, "requests/s"),
        "fallback": one.fallback,
        "ttft_s": _times(one.ttft),
        "wait_s": _times(one.wait),
        "end_to_end_s": _times(one.e2e),
    }


def _times(times: Times) -> dict[str, Number]:
    return {name: _simulated(value, "s") for name, value in times.quantiles_s.items()}


def _returns(one: Returns) -> ReturnsData:
    return {
        "ours": _investment(one.ours),
        "document": _investment(one.document),
        "breaks_even": _months(one.breaks_even),
        "breaks_even_sold": _months(one.breaks_even_sold),
        "payback_band": _months_band(one.drawn.payback),
        "runway_band": _months_band(one.drawn.runway),
        "runway_alternative_band": _months_band(one.drawn.runway_alternative),
        "never_pays_back": one.drawn.payback.never_share,
        "flow": [_month(month) for month in one.flow],
    }


def _month(one: Month) -> dict[str, float]:
    return {
        "month": one.month,
        "funds_usd": _cents(one.funds),
        "funds_alternative_usd": _cents(one.funds_alternative),
        "book_value_usd": _cents(one.book_value),
        "resale_usd": _cents(one.resale),
    }


def _investment(one: Investment) -> InvestmentData:
    return {
        "initial": _usd(one.initial, "USD"),
        "monthly": _usd(one.monthly),
        "alternative": _usd(one.alternative),
        "funds": _usd(one.funds, "USD"),
        "saving": _usd(one.saving),
        "saved_2_years": _usd(one.saved(), "USD"),
        "net_2_years": _usd(one.net(), "USD"),
        "payback": _months(one.payback_months),
        "runway": _months(one.runway_months),
        "runway_unpaid": _months(one.runway_unpaid_months),
        "runway_alternative": _months(one.alternative_runway_months),
    }


def _architecture(one: Compared) -> ArchitectureData:
    return {
        "architecture": one.architecture.value,
        "bill": _bill(one.bill),
        "outages": {luck.value: _outage(found) for luck, found in one.outages.items()},
    }


def _outage(one: Outage) -> dict[str, Number]:
    return {
        "plain_availability": _computed(one.availability.plain * 100, "%"),
        "ai_availability": _computed(one.availability.ai * 100, "%"),
        "own_ai_availability": _computed(one.availability.own_ai * 100, "%"),
        "down": _computed(one.down_hours, "h/month"),
        "lost_requests": _computed(one.lost_requests, "requests/month"),
        "lost": _usd(one.lost_usd),
        "fallback": _usd(one.fallback_usd),
    }


def _growth(one: Growth) -> GrowthData:
    return {"monthly": one.monthly, "due": [asdict(due) for due in one.due[:_SHOWN_DUE]]}


def _saturation(one: Saturation) -> SaturationData:
    limit = one.limit
    return {
        "id": limit.id,
        "title": limit.title,
        "demand": _computed(one.demand, limit.unit),
        "limit": _computed(one.most, limit.unit),
        "users_at_limit": _computed(one.users, "users"),
        "beyond": limit.beyond,
        "source": limit.source,
    }


def _optimum(one: Optimum[Held]) -> OptimumData:
    return {
        "best": None if one.best is None else _choice(one.best),
        "failed": [_choice(tried) for tried in one.failed],
        "screened_out": one.screened_out,
        "candidates": one.candidates,
    }


def _choice(one: Tried[Held]) -> ChoiceData:
    chosen = one.candidate.scenario
    return {
        "model": one.candidate.model,
        "cards": chosen.gpus,
        "power_limit_w": chosen.card_loaded_w,
        "container_concurrency": chosen.container_concurrency,
        "max_instances": chosen.max_instances,
        "usd": _usd(one.usd),
        "kept_slo": _simulated(one.verdict.attainment * 100, "%"),
    }


def _hour(number: int, rps: float, held: Held) -> dict[str, float | None]:
    """An hour of the busiest day; simulated, but for its number and rate."""
    found = held.outcome
    return {
        "hour": number,
        "api_rps": rps,
        "tokens_per_s": found.cards.tokens_per_s,
        "cards_busy": found.cards.busy_share,
        "ttft_p50_s": found.overall.ttft.quantiles_s.get("p50"),
        "ttft_p95_s": found.overall.ttft.quantiles_s.get("p95"),
        "kept_slo": held.attainment,
        "instances": found.cloud_run.peak_instances,
        "power_w": found.energy.mean_w,
    }


def _band(band: Band) -> BandData:
    return {"p5": _usd(band.p5), "p50": _usd(band.p50), "p95": _usd(band.p95)}


def _months_band(band: MonthsBand) -> BandData:
    return {"p5": _months(band.p5), "p50": _months(band.p50), "p95": _months(band.p95)}


def _months(value: Decimal | int | None) -> Number:
    return _computed(None if value is None else round(float(value), 2), "months")


def _usd(amount: Decimal, unit: str = _USD_MONTH) -> Number:
    return _computed(_cents(amount), unit)


def _cents(amount: Decimal) -> float:
    return float(cents(amount))


def _computed(value: float | None, unit: str) -> Number:
    return _number(value, unit, Provenance.COMPUTED)


def _simulated(value: float | None, unit: str) -> Number:
    return _number(value, unit, Provenance.SIMULATED)


def _number(value: float | None, unit: str, provenance: Provenance) -> Number:
    """JSON knows no infinity: there is no figure, then."""
    if value is not None and not math.isfinite(value):
        value = None
    return {"value": value, "unit": unit, "provenance": provenance}
