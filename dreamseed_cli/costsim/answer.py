"""One call of `cost-sim`: the study of one scenario, a sweep, or both, and whether the targets were met."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal

from dreamseed_cli.costsim.data import CostSim, TargetData
from dreamseed_cli.costsim.decisions.capacity import overloaded
from dreamseed_cli.costsim.decisions.sweep import Row
from dreamseed_cli.costsim.figures import study_data, sweep_data
from dreamseed_cli.costsim.holding import Held
from dreamseed_cli.costsim.question import Question
from dreamseed_cli.costsim.study import STEPS, Effort, Study, Tell, study, swept


@dataclass(frozen=True, slots=True)
class Answer:
    """What was asked for; `study` is None if only a sweep was."""

    question: Question
    study: Study | None
    rows: Sequence[Row[Held]]
    budget: Decimal | None = None
    """US dollars a month."""

    @property
    def keeps_slo(self) -> bool | None:
        """Simulated; from the averages where nothing was; None without a study."""
        if self.study is None:
            return None
        return overloaded(self.study.scenario) is None if self.study.held is None else self.study.held.holds

    @property
    def within_budget(self) -> bool | None:
        """None without a study or a budget."""
        if self.study is None or self.budget is None:
            return None
        return self.study.bill.usd <= self.budget

    @property
    def met(self) -> bool:
        """Whether no target was missed."""
        return self.keeps_slo is not False and self.within_budget is not False

    def to_data(self) -> CostSim:
        """As JSON; `files` are added by who writes them."""
        target: TargetData = {
            "met": self.met,
            "keeps_slo": self.keeps_slo,
            "budget_usd": None if self.budget is None else float(self.budget),
            "within_budget": self.within_budget,
        }
        return {
            "study": None if self.study is None else study_data(self.study),
            "sweep": sweep_data(self.rows, self.question) if self.rows else None,
            "target": target,
            "files": [],
        }


def answer(
    one: Question,
    effort: Effort,
    *,
    sweep: str | None,
    with_study: bool,
    budget: Decimal | None,
    today: dt.date,
    tell: Tell,
) -> Answer:
    """Work it out, telling of each step. UsageError for what the books and tables do not have."""
    rows = swept(one, sweep, effort, tell=tell) if sweep is not None else []
    found = study(one, effort, today=today, tell=tell) if with_study else None
    return Answer(one, found, rows, budget)


def steps(effort: Effort, *, sweep: str | None, with_study: bool) -> int:
    """How many steps `answer` tells of."""
    return STEPS * with_study + (sweep is not None) + with_study * (effort.optimise + effort.whole_day)
