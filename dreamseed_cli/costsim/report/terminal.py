"""The answer for people: verdicts first, then Rich tables that fit 80 columns."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.console import RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from dreamseed_cli.core.render import wrapped
from dreamseed_cli.costsim.decisions.architectures import Architecture, Luck
from dreamseed_cli.costsim.decisions.bands import MonthsBand
from dreamseed_cli.costsim.decisions.capacity import overloaded
from dreamseed_cli.costsim.decisions.optimise import Optimum
from dreamseed_cli.costsim.decisions.sweep import Row
from dreamseed_cli.costsim.holding import Held, fallback_usd
from dreamseed_cli.costsim.report.bill_rows import Kind, bill_rows
from dreamseed_cli.costsim.report.layout import table_of, titled
from dreamseed_cli.costsim.report.power import power_view
from dreamseed_cli.costsim.report.words import (
    NOTHING,
    Money,
    count,
    holds_words,
    months,
    percent,
    seconds,
    traffic_words,
)
from dreamseed_cli.costsim.rivals import Returns
from dreamseed_cli.costsim.study import BEYOND, Study

_BARS = 8
_FAILED = 3
_STYLES = {Kind.LINE: "", Kind.TOTAL: "bold", Kind.ASIDE: "dim"}


def study_view(one: Study, money: Money) -> list[RenderableType]:
    """Everything, in the order in which it is asked for."""
    return [
        *_head(one, money),
        _bill(one, money),
        _how(one),
        _sensitivity(one, money),
        *([] if one.held is None else _held(one, one.held, money)),
        _returns(one.returns, money),
        _architectures(one, money),
        *power_view(one, money),
        *_growth(one),
        _beyond(one),
        *([] if one.optimum is None else _optimum(one.optimum, money)),
        _contradictions(one),
        *_stale(one),
    ]


def sweep_view(rows: Sequence[Row[Held]], money: Money) -> list[RenderableType]:
    """§F3's table beside ours."""
    table = table_of(
        "users", "at a\ntime", "cards\n§F3", "cards\nneeded", "§F3", "ours", "p5 - p95", "kept\nSLO", ""
    )
    for row in rows:
        said, band = row.point.document, row.bands.total
        table.add_row(
            f"{row.point.users:,}",
            f"{row.point.concurrent:,}",
            str(row.scenario.gpus),
            str(row.cards_needed),
            NOTHING if said is None else money.whole(said.middle),
            money.whole(row.bill.usd),
            f"{money.whole(band.p5)} - {money.whole(band.p95)}",
            percent(row.verdict.attainment),
            Text("holds", "green") if row.verdict.holds else Text("no", "bold red"),
        )
    note = (
        "§F3: document. Ours: computed, with the traffic model, for the cards of the row; so are the cards "
        "needed, in the busiest hour. Kept SLO: simulated."
    )
    return [titled("By number of users: §F3's table beside ours", table), wrapped(Text(note, "dim"))]


def _head(one: Study, money: Money) -> Iterator[RenderableType]:
    scenario, asked, band = one.scenario, one.question, one.bands.total
    yield wrapped(
        Text(
            f"{scenario.users:,} users, {scenario.concurrent:,} at a time, {scenario.gpus} x {asked.home} "
            f"(profile {asked.profile.name}), prices of the book '{asked.book.name}'",
            "bold",
        )
    )
    yield wrapped(
        Text(
            f"A month costs {money(one.bill.usd)} (computed); of {one.bands.draws:,} draws 90 % lie between "
            f"{money.whole(band.p5)} and {money.whole(band.p95)}, half below {money.whole(band.p50)}."
        )
    )
    yield wrapped(Text(traffic_words(one.month.traffic)))
    if one.held is not None:
        yield wrapped(Text(holds_words(one.held), "green" if one.held.holds else "bold red"))
    elif (why := overloaded(scenario)) is not None:
        yield wrapped(Text(f"It cannot hold (computed): {why}.", "bold red"))
    else:
        yield wrapped(Text("Nothing was simulated; on average the busiest hour fits (computed).", "yellow"))


def _bill(one: Study, money: Money) -> RenderableType:
    table = table_of("a month", "§F1", "§F1\nrecomp.", "this\nscenario", "p5", "p95")
    for row in bill_rows(one):
        table.add_row(*row.cells(money), style=_STYLES[row.kind])
    title = "The bill (computed), beside §F1's (document) and §F1 at its own prices (computed)"
    return titled(title, table)


def _how(one: Study) -> RenderableType:
    table = Table.grid(padding=(0, 1))
    table.add_column(style="dim", min_width=12)
    table.add_column(overflow="fold")
    for line in (*one.bill.lines, *one.bill.aside):
        table.add_row(line.key, Text(line.how))
    return titled("How each line comes about (US dollars)", Padding(table, (0, 1)))


def _sensitivity(one: Study, money: Money) -> RenderableType:
    table = table_of("input", "from", "to", "bill\nat low", "bill\nat high", "rank\ncorr.")
    for bar in one.bars[:_BARS]:
        correlation = one.correlations[bar.name]
        ends = f"x {bar.low:g}", f"x {bar.high:g}"
        table.add_row(bar.name, *ends, money(bar.usd_low), money(bar.usd_high), f"{correlation:+.2f}")
    return titled("What moves the bill most, each input alone at its ends (computed)", table)


def _held(one: Study, held: Held, money: Money) -> Iterator[RenderableType]:
    table = table_of(
        "class",
        "asked",
        "TTFT\np50",
        "TTFT\np95",
        "TTFT\np99",
        "wait\np95",
        "kept\nSLO",
        "refused",
        "fallback",
    )
    for name, found in held.outcome.classes.items():
        ttft = [seconds(found.ttft.quantiles_s, level) for level in ("p50", "p95", "p99")]
        table.add_row(
            name.upper(),
            f"{found.requests:,}",
            *ttft,
            seconds(found.wait.quantiles_s, "p95"),
            percent(found.attainment),
            f"{found.refused:,}",
            f"{found.fallback:,}",
        )
    counted = f"{held.outcome.window_s / 60:,.3g} min"
    span = f"simulated, {held.hours:.3g} h, counted after its warm-up: {counted}"
    yield titled(f"The busiest hour ({span}): answers that no cache has", table)
    cards, cloud, energy = held.outcome.cards, held.outcome.cloud_run, held.outcome.energy
    spent = money(fallback_usd(held, one.question.book, one.question.choices))
    words = (
        f"Simulated: {cards.replicas} replicas busy {percent(cards.busy_share)} of the time with "
        f"{cards.mean_batch:.1f} answers each, {cards.tokens_per_s:,.0f} tok/s; Cloud Run {cloud.requests:,} "
        f"requests on up to {cloud.peak_instances} instances, {cloud.rejected:,} rejected, "
        f"{cloud.cold_starts:,} cold starts; fallback {spent} an hour; {energy.mean_w:,.0f} W, "
        f"{energy.kwh:.2f} kWh in {counted}. Cards ({one.question.cards.provenance.value}): "
        f"{one.question.cards.card.source}."
    )
    yield wrapped(Text(words))


def _returns(one: Returns, money: Money) -> RenderableType:
    table = table_of("", "document", "this\nscenario", "p5", "p50", "p95")
    ours, said = one.ours, one.document
    for name, of in (
        ("bought", "initial"),
        ("a month with it", "monthly"),
        ("a month without it", "alternative"),
        ("saved a month", "saving"),
    ):
        table.add_row(name, money(getattr(said, of)), money(getattr(ours, of)), "", "", "")
    table.add_row("saved in 2 years", money(said.saved()), money(ours.saved()), "", "", "")
    table.add_row("  less what is bought", money(said.net()), money(ours.net()), "", "", "")
    drawn = one.drawn
    table.add_row("payback, months", *_pair(said.payback_months, ours.payback_months), *_band(drawn.payback))
    table.add_row(
        "runway, with it paid", *_pair(said.runway_months, ours.runway_months), *_band(drawn.runway)
    )
    unpaid = _pair(said.runway_unpaid_months, ours.runway_unpaid_months)
    table.add_row("runway, with it unpaid", *unpaid, "", "", "")
    without = _pair(said.alternative_runway_months, ours.alternative_runway_months)
    table.add_row("runway without it", *without, *_band(drawn.runway_alternative))
    table.add_row("even after, months", "", months(one.breaks_even), *_band(drawn.payback.whole))
    table.add_row("  if all is sold then", "", months(one.breaks_even_sold), "", "", "")
    title = (
        f"Does it pay: the box against the full cloud, funds {money.whole(ours.funds)} (computed; "
        "document: §F2, §J2 at its prices)"
    )
    return titled(title, table)


def _pair(document: object, ours: object) -> tuple[str, str]:
    return months(document), months(ours)  # type: ignore[arg-type]


def _band(band: MonthsBand) -> tuple[str, str, str]:
    return months(band.p5), months(band.p50), months(band.p95)


def _architectures(one: Study, money: Money) -> RenderableType:
    figures = one.question.figures
    table = table_of("", "§A", "bill", "with\nfailures", "answers", "§J1", "AI\nanswers")
    for row in one.compared:
        name = row.architecture.value
        found, said = row.outages[Luck.LIKELIEST], figures.get(f"a-{name}-usd")
        promised = figures.number(f"j1-{name}-availability-percent")
        table.add_row(
            name,
            money.span(said.low, said.high),
            money(row.bill.usd),
            money(row.usd()),
            f"{found.availability.plain * 100:.3f} %",
            f"{promised:g} %",
            f"{found.availability.ai * 100:.3f} %",
        )
    least, most = (_plain(one, luck) for luck in (Luck.MOST, Luck.LEAST))
    title = (
        "The three architectures (computed; §A and §J1: document). Of the hybrid's requests "
        f"{least:.2f} to {most:.2f} % find an answer, between much and little bad luck"
    )
    return titled(title, table)


def _plain(one: Study, luck: Luck) -> float:
    hybrid = next(row for row in one.compared if row.architecture is Architecture.HYBRID)
    return hybrid.outages[luck].availability.plain * 100


def _growth(one: Study) -> Iterator[RenderableType]:
    table = table_of("growth\na month", "next card\nin month", "users then", "cards then")
    for growth in one.growths:
        cells = [NOTHING] * 3
        if growth.due:
            due = growth.due[0]
            cells = [str(due.month) if due.month else "now", f"{due.users:,}", str(due.cards)]
        table.add_row(percent(growth.monthly), *cells)
    yield titled(f"When the next card is due, with {one.scenario.gpus} now (computed)", table)


def _beyond(one: Study) -> RenderableType:
    table = table_of("part", "its limit", "", "full at\nusers", *(f"at {many // 10**6} M" for many in BEYOND))
    for row in one.saturations[one.scenario.users]:
        times = [_times(one, many, row.limit.id) for many in BEYOND]
        table.add_row(row.limit.title, f"{row.most:,.0f}", row.limit.unit, count(row.users), *times)
    return titled(
        "Beyond one box, on paper: where each part is full, and how many times over (computed)", table
    )


def _times(one: Study, users: int, limit: str) -> str:
    found = next(row for row in one.saturations[users] if row.limit.id == limit)
    return f"{found.times:,.1f} x"


def _optimum(found: Optimum[Held], money: Money) -> Iterator[RenderableType]:
    table = table_of("", "model", "cards", "limit\nW", "places x\ninstances", "a month\nall in", "kept\nSLO")
    tried = [("fails", one) for one in found.failed[-_FAILED:]]
    for word, one in (*tried, *([("best", found.best)] if found.best else [])):
        chosen = one.candidate.scenario
        table.add_row(
            word,
            one.candidate.model.rpartition("/")[2],
            str(chosen.gpus),
            f"{chosen.card_loaded_w:,.0f}",
            f"{chosen.container_concurrency} x {chosen.max_instances}",
            money.whole(one.usd),
            percent(one.verdict.attainment),
            style="bold" if word == "best" else "",
        )
    title = "The cheapest that keeps the SLO (simulated), hardware written off included (computed)"
    yield titled(title if found.best else "Nothing in the grid keeps the SLO (simulated)", table)
    yield wrapped(
        Text(
            f"{found.candidates:,} combinations, {found.screened_out:,} of which cannot hold on average; "
            f"{len(found.failed)} cheaper ones fail when simulated.",
            "dim",
        )
    )


def _contradictions(one: Study) -> RenderableType:
    table = Table.grid(padding=(0, 1))
    table.add_column(justify="right")
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for verdict in one.verdicts:
        word = Text("holds", "green") if verdict.holds else Text("contradicted", "red")
        table.add_row(str(verdict.number), word, Text(verdict.sentence))
    return titled("The document's contradictions about cost and capacity (computed)", Padding(table, (0, 1)))


def _stale(one: Study) -> Iterator[RenderableType]:
    if one.stale:
        oldest = min(str(price.date) for price in one.stale)
        names = ", ".join(price.id for price in one.stale)
        count, days = len(one.stale), one.stale_after_days
        said = f"\nStale: {count} prices are older than {days} days ({oldest}): {names}."
        yield wrapped(Text(said, "yellow"))
