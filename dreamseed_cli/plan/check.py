"""A whole profile against the tables of cards and models."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from dreamseed_cli.core.errors import ErrorGroup, UsageError
from dreamseed_cli.plan.fit import Finding, Fit, findings, fit
from dreamseed_cli.plan.tables import cards, models
from dreamseed_cli.profile.load import load_profile, shipped_names
from dreamseed_cli.profile.schema import Profile, VllmEngine


@dataclass(frozen=True, slots=True)
class Check:
    """What was computed for a profile. fit is None where no card or no known model is involved."""

    findings: tuple[Finding, ...]
    fit: Fit | None
    unchecked: str | None
    """Why nothing could be computed, if so."""


def check_profile(profile: Profile) -> Check:
    """Compute whether the profile's engine can start on its box. Reads tables only."""
    engine = profile.engine
    if not isinstance(engine, VllmEngine):
        return Check((), None, None)
    unknown = _unknown(profile, engine)
    if unknown:
        return Check((), None, unknown)
    model = models()[engine.model]
    card = cards()[profile.box.gpu_model] if engine.device == "cuda" and profile.box.gpu_model else None
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


def _alternatives(profile: Profile) -> str:
    """The shipped profiles that can start on the same cards, as a sentence."""
    shipped = [load_profile(name) for name in shipped_names()]
    fitting = [
        other.name
        for other in shipped
        if isinstance(other.engine, VllmEngine)
        and other.box.gpu_model == profile.box.gpu_model
        and 0 < other.box.gpus <= profile.box.gpus
        and not check_profile(other).findings
    ]
    return f" Shipped profiles that can start on these cards: {', '.join(fitting)}." if fitting else ""


def _unknown(profile: Profile, engine: VllmEngine) -> str | None:
    if engine.model not in models():
        return f"the table of models does not know '{engine.model}': its memory is not checked"
    if engine.device == "cuda" and profile.box.gpu_model not in cards():
        return f"the table of cards does not know '{profile.box.gpu_model}': memory is not checked"
    return None
