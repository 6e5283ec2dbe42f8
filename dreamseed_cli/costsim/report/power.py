"""What the box recorded of its power beside what the answer takes it to be: for people, and as JSON."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import RenderableType
from rich.text import Text

from dreamseed_cli.core.render import wrapped
from dreamseed_cli.core.result import Provenance
from dreamseed_cli.costsim.decisions.architectures import Failure, Three, shipped_failures
from dreamseed_cli.costsim.decisions.box_power import (
    LEAST_ENERGY_DAYS,
    LEAST_OUTAGE_DAYS,
    MAINS,
    BoxPower,
)
from dreamseed_cli.costsim.money import cents
from dreamseed_cli.costsim.report.data import MainsData, PowerData
from dreamseed_cli.costsim.report.layout import table_of, titled
from dreamseed_cli.costsim.report.words import NOTHING, Money
from dreamseed_cli.costsim.rivals import failures
from dreamseed_cli.costsim.study import Study


def power_data(one: Study) -> PowerData:
    """Energy as measured, else as the model computes it; the mains as measured, else as assumed."""
    power, mains = one.question.power, _mains(failures(one.question))
    measured = power is not None and power.mean_w is not None
    kwh = _month_kwh(one) if measured else one.month.box.kwh
    provenance = Provenance.MEASURED if measured else Provenance.COMPUTED
    return {
        "file": None if power is None else power.file,
        "days": 0.0 if power is None else round(power.days, 3),
        "energy": {"value": round(kwh, 3), "unit": "kWh/month", "provenance": provenance},
        "electricity": {
            "value": _usd(one, kwh),
            "unit": "USD/month",
            "provenance": Provenance.COMPUTED,
        },
        "mains": _mains_data(mains, power),
    }


def power_view(one: Study, money: Money) -> Iterator[RenderableType]:
    """A table of both; without a record a line that says what stands in its place."""
    power = one.question.power
    if power is None:
        words = (
            "No record of this box's power (dreamseed ups watch writes one): its energy is computed, the "
            f"mains' outages are assumed ({_mains(shipped_failures()).source})."
        )
        yield wrapped(Text(f"\n{words}", "dim"))
        return
    table = table_of("the box's power", "without\nthe record", "recorded")
    kwh = one.month.box.kwh
    measured = power.mean_w is not None
    table.add_row("kWh a month", f"{kwh:,.0f}", f"{_month_kwh(one):,.0f}" if measured else NOTHING)
    recorded = money(_usd(one, _month_kwh(one))) if measured else NOTHING
    table.add_row("  electricity", money(_usd(one, kwh)), recorded)
    assumed = _mains(shipped_failures())
    table.add_row("outages of the mains a year", _three(assumed.per_year), _three(power.per_year))
    table.add_row("  hours each", _three(assumed.hours), _three(power.hours if power.per_year else None))
    yield titled(f"What the box's own record says (measured, {power.days:,.1f} days: {power.file})", table)
    yield wrapped(Text(_note(power, assumed), "dim"))


def _note(power: BoxPower, assumed: Failure) -> str:
    words = [
        "The energy is of the load that the box had, at the UPS's output: the bill above is computed for the "
        "users that were asked for."
    ]
    if power.mean_w is None:
        words.append(f"Energy takes {LEAST_ENERGY_DAYS:g} days.")
    if power.per_year is None:
        words.append(f"Outages take {LEAST_OUTAGE_DAYS:g} days; they are assumed ({assumed.source}).")
    else:
        words.append("The architectures above have the recorded outages: least, likeliest, most.")
    return " ".join(words)


def _mains(known: tuple[Failure, ...]) -> Failure:
    return next(one for one in known if one.id == MAINS)


def _mains_data(mains: Failure, power: BoxPower | None) -> MainsData:
    measured = power is not None and power.per_year is not None
    return {
        "per_year": list(mains.per_year),
        "hours": list(mains.hours),
        "provenance": "measured" if measured else "assumption",
        "source": mains.source,
    }


def _month_kwh(one: Study) -> float:
    power = one.question.power
    mean_w = 0.0 if power is None else power.mean_w or 0.0
    return mean_w * one.scenario.hours / 1000


def _usd(one: Study, kwh: float) -> float:
    asked = one.question
    return float(cents(asked.book.electricity_usd(asked.choices.tariff, kwh, asked.choices.month)))


def _three(values: Three | None) -> str:
    return NOTHING if values is None else " - ".join(f"{value:.2g}" for value in values)
