"""The page: verdicts, tables and plots beside the document's figures; no network, no script, no font."""

from __future__ import annotations

from collections.abc import Sequence

from dreamseed_cli.costsim.answer import Answer
from dreamseed_cli.costsim.decisions.architectures import Luck
from dreamseed_cli.costsim.report.bill_rows import bill_rows
from dreamseed_cli.costsim.report.cost_plots import band_plot, stack_plot, tornado_plot
from dreamseed_cli.costsim.report.loads import validation_words
from dreamseed_cli.costsim.report.time_plots import day_plot, money_plot
from dreamseed_cli.costsim.report.words import (
    Money,
    count,
    holds_words,
    months,
    percent,
    seconds,
    traffic_words,
)
from dreamseed_cli.costsim.study import BEYOND, Study
from dreamseed_cli.report.page import environment
from dreamseed_cli.report.plots import Plots


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
        bill=[] if study is None else list(bill_rows(study)),
        foretold=None if found.validation is None else validation_words(found.validation),
        traffic=None if study is None else traffic_words(study.month.traffic),
        luck=Luck,
        beyond=BEYOND,
        holds=None if study is None or study.held is None else holds_words(study.held),
        seconds=seconds,
        over_rows=_over_rows(found, money),
        over_time=_over_time(study, money),
    )


def _over_rows(found: Answer, money: Money) -> Sequence[Plots]:
    if not found.rows:
        return []
    return [stack_plot(found.rows, money), band_plot(found.rows, found.question.figures, money)]


def _over_time(study: Study | None, money: Money) -> dict[str, Plots]:
    if study is None:
        return {}
    plots = {"tornado": tornado_plot(study, money), "money": money_plot(study.returns, money)}
    return {**plots, "day": day_plot(study)} if study.hours else plots
