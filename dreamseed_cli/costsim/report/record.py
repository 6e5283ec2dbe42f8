"""What an answer has to say to the document's estimates, in the shape that `dreamseed estimates` reads."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from decimal import Decimal

from dreamseed_cli.core.result import Provenance
from dreamseed_cli.costsim.decisions.architectures import Architecture, Luck
from dreamseed_cli.costsim.decisions.bands import Band
from dreamseed_cli.costsim.decisions.sweep import Row
from dreamseed_cli.costsim.holding import Held
from dreamseed_cli.costsim.money import cents
from dreamseed_cli.costsim.study import Study
from dreamseed_cli.estimates.results import Measurement

_GOAL = "goal-users"
"""The estimate with the number of users that the goal is about."""


def measurements(study: Study | None, rows: Sequence[Row[Held]]) -> list[Measurement]:
    """Costs are computed, whether it holds is simulated: neither counts as measured.

    Figures of the goal come only of the goal's number of users.
    """
    found = list(_of_study(study)) if study is not None else []
    return [*found, *_of_rows(rows)]


def _of_study(study: Study) -> Iterator[Measurement]:
    scenario = study.scenario
    if scenario.users == round(study.question.figures.number(_GOAL)):
        yield _usd("goal-month-usd", study.bill.usd, study.bands.total, study.bands.draws)
        if study.held is not None and study.held.holds:
            yield _simulated("concurrent-users", scenario.concurrent, "users")
    for one in study.compared:
        share = {luck: found.availability.plain * 100 for luck, found in one.outages.items()}
        yield Measurement(
            key=f"{one.architecture}-availability-percent",
            value=share[Luck.LIKELIEST],
            unit="%",
            provenance="computed",
            low=share[Luck.MOST],
            high=share[Luck.LEAST],
        )
        if one.architecture is not Architecture.HYBRID:
            yield _usd(f"{one.architecture}-month-usd", one.bill.usd)
    yield _usd("hybrid-month-usd", study.bill.usd, study.bands.total, study.bands.draws)


def _of_rows(rows: Sequence[Row[Held]]) -> Iterator[Measurement]:
    for row in rows:
        if row.point.document is not None:
            yield _usd(f"month-{row.point.document.id}-usd", row.bill.usd, row.bands.total, row.bands.draws)


def _usd(key: str, amount: Decimal, band: Band | None = None, draws: int | None = None) -> Measurement:
    """low and high are p5 and p95 of so many draws."""
    return Measurement(
        key=key,
        value=float(cents(amount)),
        unit="USD/month",
        provenance="computed",
        low=None if band is None else float(cents(band.p5)),
        high=None if band is None else float(cents(band.p95)),
        n=draws,
    )


def _simulated(key: str, value: float, unit: str) -> Measurement:
    return Measurement(key=key, value=value, unit=unit, provenance=Provenance.SIMULATED.value)
