"""Ten and a hundred million users on paper: which part of one box and its cloud saturates, and where.

Each demand of the busiest hour is a straight line in the users (those online stay the same share of all), so
where it meets a limit follows from two points.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import Field, model_validator

from dreamseed_cli.core.data_file import read_data
from dreamseed_cli.core.errors import MissingError
from dreamseed_cli.costsim.decisions.capacity import BUSY_SHARE
from dreamseed_cli.costsim.scenario import Scenario
from dreamseed_cli.costsim.usage.box import wall_w
from dreamseed_cli.costsim.usage.traffic import BYTES_PER_TOKEN, traffic
from dreamseed_cli.estimates.schema import Book as Figures
from dreamseed_cli.profile.part import Part, Positive

_HERE = Path(__file__).resolve().parent


@dataclass(frozen=True, slots=True)
class Demands:
    """The busiest hour's demands. Cards and instances are not rounded up."""

    uplink_mbit_s: float
    """Out of the house: what the database and the cards answer to Cloud Run."""
    ai_rps: float
    """Calls of the gateway a second, those that its cache answers included."""
    tok_s: float
    cards: float
    wall_w: float
    """Of that many cards, and of as much of the rest of a box as each of the scenario's cards has."""
    db_reads_s: float
    db_writes_s: float
    redis_ops_s: float
    instances: float


class Habits(Part):
    """How often a request asks database and cache."""

    reads_per_request: Positive
    write_share: Annotated[float, Field(ge=0, le=1)]
    redis_ops_per_request: Positive
    redis_ops_per_ai_request: Positive


class Limit(Part):
    """Where one part ends."""

    id: str
    title: Annotated[str, Field(min_length=1)]
    demand: str
    unit: str
    source: Annotated[str, Field(min_length=1)]
    beyond: Annotated[str, Field(min_length=1)]
    limit: Positive | None = None
    result: str | None = None
    path: str | None = None
    """Of the number in the result's JSON, its steps joined by points."""
    per_second_of: Positive | None = None
    """The result is a time of one; this many of its units make a second."""
    estimate: str | None = None
    scenario: str | None = None
    """A field of the scenario."""

    @model_validator(mode="after")
    def _has_one(self) -> Self:
        given = [one for one in (self.limit, self.result, self.estimate, self.scenario) if one is not None]
        if len(given) != 1 or (self.result is None) != (self.path is None):
            raise ValueError("it needs just one of limit, result with path, estimate, scenario")
        if self.demand not in Demands.__dataclass_fields__:
            raise ValueError(f"no demand is called '{self.demand}'")
        return self


class Limits(Part):
    """All of one file."""

    limit: tuple[Limit, ...]
    demand: Habits


@dataclass(frozen=True, slots=True)
class Saturation:
    """One part at so many users. Computed."""

    limit: Limit
    demand: float
    most: float
    """The limit as a number."""
    users: float
    """Users at which the demand meets it; infinite if it does not grow with them."""

    @property
    def times(self) -> float:
        """The demand over the limit: above 1 it does not go, and so many are needed."""
        return self.demand / self.most


@cache
def shipped_limits() -> Limits:
    """The limits that come with the package."""
    return load_limits(_HERE / "limits.toml")


def load_limits(path: Path) -> Limits:
    """Read a file of limits. UsageError or ErrorGroup with every mistake at its path."""
    return read_data(path, Limits)


def at_users(scenario: Scenario, users: int) -> Scenario:
    """The same service with so many users, the same share of them online."""
    share = scenario.concurrent / scenario.users if scenario.users else 0.0
    return replace(scenario, users=users, concurrent=min(users, round(users * share)))


def demands(scenario: Scenario, habits: Habits) -> Demands:
    """What the busiest hour asks of every part."""
    load = traffic(scenario)
    plain = load.busiest_rps * load.plain_share
    ai = load.busiest_rps * scenario.ai_share
    tok_s = load.busiest_answers_s * scenario.answer_tokens
    cards = tok_s / (scenario.card_tok_s * BUSY_SHARE)
    bits = 8e3 * plain * scenario.api_kb + 8 * BYTES_PER_TOKEN * ai * scenario.answer_tokens
    places = plain * scenario.plain_request_s + load.busiest_answers_s * scenario.ai_request_s
    return Demands(
        uplink_mbit_s=bits / 1e6,
        ai_rps=ai,
        tok_s=tok_s,
        cards=cards,
        wall_w=wall_w(scenario, 1.0) * cards / scenario.gpus if scenario.gpus else 0.0,
        db_reads_s=plain * habits.reads_per_request,
        db_writes_s=plain * habits.write_share,
        redis_ops_s=plain * habits.redis_ops_per_request + ai * habits.redis_ops_per_ai_request,
        instances=places / (scenario.container_concurrency * scenario.scaling_target),
    )


def saturations(scenario: Scenario, limits: Limits, *, figures: Figures, results: Path) -> list[Saturation]:
    """Every part at the scenario's users, the first to saturate first.

    results: the folder of benchmark results. MissingError if it lacks one that a limit names.
    """
    asked = asdict(demands(scenario, limits.demand))
    found = []
    for one in limits.limit:
        most, demand = _most(one, scenario, figures, results), asked[one.demand]
        users = scenario.users * most / demand if demand else math.inf
        found.append(Saturation(one, demand, most, users))
    return sorted(found, key=lambda row: row.users)


def on_paper(
    scenario: Scenario, users: Sequence[int], limits: Limits, *, figures: Figures, results: Path
) -> dict[int, list[Saturation]]:
    """The same at each of several numbers of users: 10 and 100 million."""
    return {
        many: saturations(at_users(scenario, many), limits, figures=figures, results=results)
        for many in users
    }


def _most(one: Limit, scenario: Scenario, figures: Figures, results: Path) -> float:
    if one.limit is not None:
        return one.limit
    if one.scenario is not None:
        return float(getattr(scenario, one.scenario))
    if one.estimate is not None:
        return figures.get(one.estimate).high
    value = _measured(results / str(one.result), str(one.path))
    return value if one.per_second_of is None else one.per_second_of / value


def _measured(path: Path, steps: str) -> float:
    """A number in a benchmark's result. MissingError if it is not there."""
    try:
        value: Any = json.loads(path.read_text(encoding="utf-8"))
        for step in steps.split("."):
            value = value[step]
        return float(value)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise MissingError(
            f"no figure at {steps}",
            place=str(path),
            remedy="Run the benchmark, or state the limit as a number.",
        ) from error
