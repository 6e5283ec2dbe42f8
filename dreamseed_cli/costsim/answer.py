"""One call of `cost-sim`: the study of one scenario, a sweep, or both, and whether the targets were met."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal

from dreamseed_cli.costsim.decisions.capacity import overloaded
from dreamseed_cli.costsim.decisions.sweep import Row
from dreamseed_cli.costsim.holding import Held
from dreamseed_cli.costsim.question import Question
from dreamseed_cli.costsim.queueing.validate import HELD_OUT_AIM, Validation
from dreamseed_cli.costsim.replica import validation
from dreamseed_cli.costsim.report.data import CostSim, TargetData
from dreamseed_cli.costsim.report.figures import study_data, sweep_data, validation_data
from dreamseed_cli.costsim.study import STEPS, Effort, Study, Tell, study, swept


@dataclass(frozen=True, slots=True)
class Answer:
    """What was asked for; `study` is None if only a sweep was."""

    question: Question
    study: Study | None
    rows: Sequence[Row[Held]]
    budget: Decimal | None = None
    """US dollars a month."""
    validation: Validation | None = None
    """Of the simulation against the bench result that says how fast a card is."""

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
    def foretells(self) -> bool | None:
        """Whether the loads held out are foretold as well as they should; None without a bench result."""
        return None if self.validation is None else self.validation.mean_error <= HELD_OUT_AIM

    @property
    def met(self) -> bool:
        """Whether no target was missed."""
        return False not in {self.keeps_slo, self.within_budget, self.foretells}

    def to_data(self) -> CostSim:
        """As JSON; `files` are added by who writes them."""
        target: TargetData = {
            "met": self.met,
            "keeps_slo": self.keeps_slo,
            "budget_usd": None if self.budget is None else float(self.budget),
            "within_budget": self.within_budget,
            "foretells": self.foretells,
        }
        return {
            "study": None if self.study is None else study_data(self.study),
            "sweep": sweep_data(self.rows, self.question) if self.rows else None,
            "validation": None if self.validation is None else validation_data(self.validation),
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
    """Work it out, telling of each step.

    UsageError for what the books and tables do not have, and for a bench result with too few loads.
    """
    checked = None
    if one.bench is not None:
        tell("the bench result's loads")
        checked = validation(one.profile, one.bench, seed=effort.seed)
    rows = swept(one, sweep, effort, tell=tell) if sweep is not None else []
    found = study(one, effort, today=today, tell=tell) if with_study else None
    return Answer(one, found, rows, budget, checked)


def steps(one: Question, effort: Effort, *, sweep: str | None, with_study: bool) -> int:
    """How many steps `answer` tells of."""
    studied = STEPS + effort.optimise + effort.whole_day if with_study else 0
    return studied + (sweep is not None) + (one.bench is not None)
