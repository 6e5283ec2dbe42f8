"""The page: verdicts, tables and plots beside the document's figures; no network, no script, no font."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from dreamseed_cli.costsim.answer import Answer
from dreamseed_cli.costsim.decisions.architectures import Luck
from dreamseed_cli.costsim.figures import printed
from dreamseed_cli.costsim.report.cost_plots import band_plot, stack_plot, tornado_plot
from dreamseed_cli.costsim.report.time_plots import day_plot, money_plot
from dreamseed_cli.costsim.study import BEYOND, Study
from dreamseed_cli.costsim.words import Money, count, holds_words, months, percent, seconds
from dreamseed_cli.report.page import environment
from dreamseed_cli.report.plots import Plots


@dataclass(frozen=True, slots=True)
class BillRow:
    """A line of the bill as the page shows it."""

    title: str
    document: str
    recomputed: str
    ours: str
    p5: str
    p95: str
    how: str


def html_page(found: Answer, money: Money, date: str, command: str, tool: str) -> str:
    """The report as HTML; a profile's or a card's own words are escaped."""
    page = environment("dreamseed_cli.costsim.report")
    page.filters |= {
        "count": count,
        "months": months,
        "percent": percent,
        "money": money,
        "whole": money.whole,
    }
    study = found.study
    return page.get_template("cost_sim.html.j2").render(
        found=found,
        study=study,
        question=found.question,
        figures=found.question.figures,
        rows=found.rows,
        money=money,
        date=date,
        command=command,
        tool=tool,
        bill=[] if study is None else bill_rows(study, money),
        luck=Luck,
        beyond=BEYOND,
        holds=None if study is None or study.held is None else holds_words(study.held),
        seconds=seconds,
        over_rows=_over_rows(found, money),
        over_time=_over_time(study, money),
    )


def bill_rows(one: Study, money: Money) -> list[BillRow]:
    """Every line, the total, and what stands aside."""
    figures, document = one.question.figures, {line.key: line.usd for line in one.document.lines}
    rows = []
    for line in one.bill.lines:
        said, band = printed(line, figures), one.bands.lines[line.key]
        amounts = (money(document.get(line.key)), money(line.usd), money(band.p5), money(band.p95))
        rows.append(BillRow(line.title, "-" if said is None else money.span(*said), *amounts, line.how))
    said_total, total = figures.get("f1-total-usd"), one.bands.total
    amounts = (money(one.document.usd), money(one.bill.usd), money(total.p5), money(total.p95))
    rows.append(BillRow("Total", money.span(said_total.low, said_total.high), *amounts, ""))
    rows += [
        BillRow(f"beside it: {one.title}", "", "", money(one.usd), "", "", one.how) for one in one.bill.aside
    ]
    return rows


def _over_rows(found: Answer, money: Money) -> Sequence[Plots]:
    if not found.rows:
        return []
    return [stack_plot(found.rows, money), band_plot(found.rows, found.question.figures, money)]


def _over_time(study: Study | None, money: Money) -> dict[str, Plots]:
    if study is None:
        return {}
    plots = {"tornado": tornado_plot(study, money), "money": money_plot(study.returns, money)}
    return {**plots, "day": day_plot(study)} if study.hours else plots
