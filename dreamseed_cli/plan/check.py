"""A whole profile against the tables of cards and models."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from dreamseed_cli.core.errors import ErrorGroup, UsageError
from dreamseed_cli.plan.fit import Finding, Fit, findings, fit
from dreamseed_cli.plan.parts import Model
from dreamseed_cli.plan.tables import Tables, find_model, shipped
from dreamseed_cli.profile.load import load_profile, shipped_names
from dreamseed_cli.profile.schema import Profile, VllmEngine


@dataclass(frozen=True, slots=True)
class Check:
    """What was computed for a profile. fit is None where no card or no known model is involved."""

    findings: tuple[Finding, ...]
    fit: Fit | None
    unchecked: str | None
    """Why nothing could be computed, if so."""


def check_profile(profile: Profile, tables: Tables | None = None) -> Check:
    """Compute whether the profile's engine can start on its box. Reads tables and `config.json` only."""
    engine = profile.engine
    if not isinstance(engine, VllmEngine):
        return Check((), None, None)
    tables = tables or shipped()
    model, unknown = _model(engine, tables)
    if model is None:
        return Check((), None, unknown)
    if engine.device == "cuda" and profile.box.gpu_model not in tables.cards:
        unknown = f"the table of cards does not know '{profile.box.gpu_model}': memory is not checked"
        return Check((), None, unknown)
    card = tables.cards[profile.box.gpu_model] if engine.device == "cuda" and profile.box.gpu_model else None
    found = tuple(findings(engine, model, card, profile.box.gpus))
    return Check(found, fit(model, card, engine, engine.tensor_parallel_size) if card else None, None)


def start_errors(profile: Profile) -> list[UsageError]:
    """Every finding, each naming its place in the profile."""
    found = check_profile(profile).findings
    if not found:
        return []
    advice = _alternatives(profile)
    return [
        UsageError(f.cause, place=f"{profile.name}: {f.place}", remedy=f"{f.remedy}{advice}") for f in found
    ]


def require_none(errors: Sequence[UsageError]) -> None:
    """Raise them all as one ErrorGroup, if there are any."""
    if errors:
        raise ErrorGroup(errors)


def startable_profiles(profile: Profile, tables: Tables | None = None) -> list[str]:
    """Shipped profiles that start on the same cards, those that use most of them first."""
    shipped = [load_profile(name) for name in shipped_names()]
    fitting = [
        other
        for other in shipped
        if isinstance(other.engine, VllmEngine)
        and other.box.gpu_model == profile.box.gpu_model
        and 0 < other.box.gpus <= profile.box.gpus
        and not check_profile(other, tables).findings
    ]
    return [other.name for other in sorted(fitting, key=lambda other: -other.box.gpus)]


def _alternatives(profile: Profile) -> str:
    fitting = startable_profiles(profile)
    return f" Shipped profiles that can start on these cards: {', '.join(fitting)}." if fitting else ""


def _model(engine: VllmEngine, tables: Tables) -> tuple[Model | None, str | None]:
    """The engine's model, or why there are no figures of it."""
    try:
        model = find_model(tables, engine.model)
    except UsageError as error:
        return None, f"{error.place}: {error.cause}"
    if model is None:
        return None, f"the table of models does not know '{engine.model}': its memory is not checked"
    return model, None
