"""One replica, as the bill and the simulation both have it: neither may be faster than the other."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import replace
from pathlib import Path

from dreamseed_cli.core.errors import UsageError
from dreamseed_cli.costsim.decisions.power_limit import limited
from dreamseed_cli.costsim.queueing.card import CardModel, card_of_profile
from dreamseed_cli.costsim.queueing.card_fit import card_of_bench
from dreamseed_cli.costsim.queueing.validate import Validation, validate_against_bench
from dreamseed_cli.costsim.scenario import Scenario
from dreamseed_cli.plan.tables import Tables
from dreamseed_cli.profile.load import load_profile, shipped_names
from dreamseed_cli.profile.schema import EmulatedCard, Profile, RemoteEngine, VllmEngine

STATED = frozenset({"card_tok_s", "card_sequences"})
"""Fields of the scenario that say how fast a card is."""
_AMPLE_TOKENS = 1_000_000
"""A KV cache that never binds, where nobody says how large it is."""
_AT_ONCE = 1e9
"""Prompt tokens a second where the stated speed holds their prefill already."""


def replica_of(
    profile: Profile, scenario: Scenario, tables: Tables, *, known: Collection[str], bench: Path | None
) -> CardModel:
    """A bench result's, if one is given; else as stated by the scenario, if it does; else the profile's own.

    UsageError where none of them says how fast a replica is.
    """
    if bench is not None:
        return _of_bench(profile, bench)
    if not STATED.isdisjoint(known):
        return card_of_statement(scenario)
    return card_of_profile(profile, _under_limit(profile, scenario, tables))


def card_of_statement(scenario: Scenario) -> CardModel:
    """The scenario's card_sequences answers share its card_tok_s, and fewer are no faster (§B1, §I2)."""
    sequences = max(1, round(scenario.card_sequences))
    card = EmulatedCard(
        source=f"stated: {scenario.card_tok_s:g} tok/s with {sequences} answers at a time",
        prefill_tokens_per_s=_AT_ONCE,
        decode_step_ms=1000 * sequences / scenario.card_tok_s,
        decode_step_ms_per_seq=0.0,
        kv_cache_tokens=_AMPLE_TOKENS,
    )
    return CardModel(card, sequences)


def stated(scenario: Scenario, cards: CardModel, *, tpot_ms: float) -> Scenario:
    """The scenario with this replica's speed, prefill included.

    card_tok_s is the most a card generates with no token later than `tpot_ms` on average; card_sequences so
    many answers that one alone takes answer_s. What it takes longer in company is `ai_wait_s`.
    """
    card, one, steps_ms = cards.card, scenario, cards.steps_ms()
    context = one.prompt_tokens + one.answer_tokens / 2
    prefill_s = one.prompt_tokens / card.prefill_tokens_per_s
    fit = max(1, min(cards.max_num_seqs, int(card.kv_cache_tokens / (one.prompt_tokens + one.answer_tokens))))

    def answer_s(batch: int) -> float:
        """Of the card's own time, in a batch that stays so large."""
        step_ms = float(steps_ms[batch - 1]) + card.decode_step_ms_per_kv_token * batch * context
        return prefill_s + one.answer_tokens * step_ms / 1000 / batch

    slowest_s = tpot_ms / 1000 * one.answer_tokens
    batch = next((many for many in range(fit, 1, -1) if many * answer_s(many) <= slowest_s), 1)
    per_s = 1 / (answer_s(batch) * cards.cards_per_replica)
    return replace(one, card_tok_s=one.answer_tokens * per_s, card_sequences=per_s * answer_s(1))


def _of_bench(profile: Profile, path: Path) -> CardModel:
    document = read_bench(path)
    measured = measured_profile(document, profile)
    sequences, tokens = places(measured)
    return card_of_bench(
        document, max_num_seqs=sequences, kv_cache_tokens=tokens, rules=measured.gateway.admission
    )


def validation(profile: Profile, path: Path, *, seed: int) -> Validation:
    """How near the simulation comes to loads of a bench result that it was not fitted to.

    UsageError for a result with too few loads, or an engine whose places nobody knows.
    """
    document = read_bench(path)
    measured = measured_profile(document, profile)
    sequences, tokens = places(measured)
    return validate_against_bench(
        document,
        max_num_seqs=sequences,
        kv_cache_tokens=tokens,
        rules=measured.gateway.admission,
        seed=seed,
    )


def measured_profile(document: Mapping[str, object], profile: Profile) -> Profile:
    """The shipped profile that a bench result names; the one that was asked about, if it names none."""
    name = document.get("profile")
    return load_profile(name) if isinstance(name, str) and name in shipped_names() else profile


def places(profile: Profile) -> tuple[int, int]:
    """Sequences that an engine of the profile takes, and tokens in its KV cache (ample where nobody says).

    UsageError for a remote engine.
    """
    engine = profile.engine
    if isinstance(engine, RemoteEngine):
        raise UsageError(
            f"profile '{profile.name}' does not say how many sequences its engine takes",
            place="engine",
            remedy="Take the profile of the machine that was measured.",
        )
    tokens = _AMPLE_TOKENS if isinstance(engine, VllmEngine) else engine.card.kv_cache_tokens
    return engine.max_num_seqs, tokens


def read_bench(path: Path) -> dict[str, object]:
    """A result of `dreamseed bench`, its folder or its file. UsageError if it is none."""
    file = path / "result.json" if path.is_dir() else path
    try:
        document = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UsageError(
            "there is no result of 'dreamseed bench'", place=str(file), remedy="Check --bench."
        ) from error
    if not isinstance(document, dict):
        raise UsageError("this is no result of 'dreamseed bench'", place=str(file), remedy="Check --bench.")
    return document


def _under_limit(profile: Profile, scenario: Scenario, tables: Tables) -> Tables:
    """The tables with the profile's card as slow as its power limit makes it."""
    name = profile.box.gpu_model or ""
    card = tables.cards.get(name)
    if card is None or not isinstance(profile.engine, VllmEngine):
        return tables
    if scenario.card_loaded_w >= card.board_power_w:
        return tables
    return Tables({**tables.cards, name: limited(card, scenario.card_loaded_w)}, tables.models)
