"""Everything `plan` computes of a profile, as plain data: reads tables, touches nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from dreamseed_cli.plan import heads
from dreamseed_cli.plan.alternatives import Alternative, fitting_models
from dreamseed_cli.plan.check import check_profile, startable_profiles
from dreamseed_cli.plan.fit import (
    GIB,
    Finding,
    findings,
    kv_bytes_kept,
    kv_bytes_per_token,
    kv_dtype,
    weight_bytes,
)
from dreamseed_cli.plan.layouts import Layout, best_layout, layout, legal_layouts, roofline_engine
from dreamseed_cli.plan.parts import Card, Model
from dreamseed_cli.plan.power import Power, box_power
from dreamseed_cli.plan.roofline import (
    DecodePoint,
    Engine,
    compute_bound_from,
    decode_table,
    prefill_tok_s,
    single_stream_tok_s,
)
from dreamseed_cli.plan.tables import Tables, require_model
from dreamseed_cli.plan.wishes import Wishes, apply
from dreamseed_cli.profile.schema import Profile, VllmEngine


@dataclass(frozen=True, slots=True)
class Memory:
    """What the model takes, whatever it runs on."""

    weights_bytes: float
    kv_bytes_per_token: int
    active_parameters: int
    """Weights that work on one token: fewer than all in a mixture of experts."""
    cpu_kv_tokens: int | None
    """Tokens in the KV cache of a processor; None on cards, where it follows from the layout."""


@dataclass(frozen=True, slots=True)
class Speed:
    """The roofline of one replica of a layout."""

    single_stream_tok_s: float
    """The most one sequence gets from the cards that work on it at once."""
    decode: Sequence[DecodePoint]
    compute_from: int | None
    """The batch size from which compute bounds."""
    prefill: tuple[float, float] | None
    """Prompt tokens per second (bound, expected) at the stated context."""


@dataclass(frozen=True, slots=True)
class Plan:
    """The answer. None or empty where nothing could be computed: `notes` says why."""

    profile: Profile
    context: int
    reasons: Sequence[Finding]
    """Why it cannot start; empty if it can as far as is known."""
    notes: Sequence[str] = ()
    model: Model | None = None
    card: Card | None = None
    memory: Memory | None = None
    layouts: Sequence[Layout] = ()
    best: Layout | None = None
    chosen: Layout | None = None
    """The profile's own layout where it starts, else the best."""
    single_card_tok_s: float | None = None
    """The single-stream bound of one card, whether or not the model fits it."""
    speed: Speed | None = None
    power: Power | None = None
    profiles: Sequence[str] = ()
    alternatives: Sequence[Alternative] = ()

    @property
    def can_start(self) -> bool:
        return not self.reasons


def make_plan(profile: Profile, wishes: Wishes, tables: Tables, *, context: int) -> Plan:
    """Compute the plan. Raises UsageError for a wish that no table knows."""
    profile = apply(profile, wishes, tables)
    engine = profile.engine
    card = tables.cards.get(profile.box.gpu_model or "")
    power = box_power(profile.box, card) if card and profile.box.gpus else None
    if not isinstance(engine, VllmEngine):
        return Plan(profile, context, (), (_no_model(engine.kind),), card=card, power=power)
    context = min(context, engine.max_model_len)
    check = check_profile(profile, tables)
    if check.unchecked:
        return Plan(profile, context, (), (check.unchecked,), card=card, power=power)
    model = require_model(tables, engine.model)
    if engine.device == "cpu" or card is None:
        return _on_processor(profile, engine, model, check.findings, context)
    subject = _Subject(profile, engine, model, card, context, free=bool(wishes))
    return _on_cards(subject, power, tables)


def _no_model(kind: str) -> str:
    if kind == "emulated":
        return "the engine is emulated: its speed is what the profile states, there is no model to compute"
    return "the engine runs elsewhere: its cards and its memory are not known here"


def _on_processor(
    profile: Profile, engine: VllmEngine, model: Model, reasons: Sequence[Finding], context: int
) -> Plan:
    note = (
        "no roofline is known for processors: memory only. `dreamseed plan --card NAME` computes the same "
        "for a card"
    )
    per_token = kv_bytes_per_token(model, kv_dtype(engine))
    longest = engine.max_model_len
    kept = kv_bytes_kept(model, kv_dtype(engine), longest) / longest
    tokens = int(engine.cpu_kv_cache_gib * GIB / kept)
    memory = Memory(weight_bytes(model, engine), per_token, model.active_parameters, tokens)
    notes = (note, *_left_out(model))
    return Plan(profile, context, tuple(reasons), notes, model=model, memory=memory)


def _left_out(model: Model) -> tuple[str, ...]:
    return (f"not counted: {model.uncounted}; the engine needs more memory",) if model.uncounted else ()


@dataclass(frozen=True, slots=True)
class _Subject:
    """A model on cards; `free`: the layout is not the profile's but the best."""

    profile: Profile
    engine: VllmEngine
    model: Model
    card: Card
    context: int
    free: bool

    @property
    def gpus(self) -> int:
        return self.profile.box.gpus


def _on_cards(on: _Subject, power: Power | None, tables: Tables) -> Plan:
    layouts = legal_layouts(on.model, on.card, on.engine, on.gpus, context=on.context)
    best = best_layout(layouts)
    reasons = _reasons(on, best)
    chosen = best if reasons or on.free else _own(on)
    weights = weight_bytes(on.model, on.engine)
    return Plan(
        on.profile,
        on.context,
        reasons,
        _left_out(on.model),
        model=on.model,
        card=on.card,
        memory=Memory(
            weights, kv_bytes_per_token(on.model, kv_dtype(on.engine)), on.model.active_parameters, None
        ),
        layouts=layouts,
        best=best,
        chosen=chosen,
        single_card_tok_s=_alone(roofline_engine(on.model, on.card, on.engine)),
        speed=_speed(on, chosen) if chosen else None,
        power=power,
        profiles=startable_profiles(on.profile, tables) if reasons else (),
        alternatives=_alternatives(on, tables) if reasons else (),
    )


def _reasons(on: _Subject, best: Layout | None) -> tuple[Finding, ...]:
    if not on.free:
        return tuple(findings(on.engine, on.model, on.card, on.gpus))
    if best is not None and on.engine.max_model_len <= on.model.max_positions:
        return ()
    # With every layout open, what the largest group lacks is what keeps all of them from starting.
    size = heads.legal_sizes(on.model, on.gpus)[-1]
    largest = on.engine.model_copy(update={"tensor_parallel_size": size})
    return tuple(findings(largest, on.model, on.card, on.gpus))


def _alternatives(on: _Subject, tables: Tables) -> list[Alternative]:
    return fitting_models(tables, on.card, on.engine, on.gpus, context=on.context)


def _own(on: _Subject) -> Layout:
    shape = (on.engine.tensor_parallel_size, 1, on.engine.replicas)
    return layout(on.model, on.card, on.engine, shape, context=on.context)


def _speed(on: _Subject, chosen: Layout) -> Speed:
    speed = roofline_engine(on.model, on.card, on.engine, chosen.tensor, chosen.pipeline)
    return Speed(
        _alone(speed),
        decode_table(speed, most=chosen.batch, context=on.context),
        compute_bound_from(speed, context=on.context),
        prefill_tok_s(speed, prompt=on.context),
    )


def _alone(speed: Engine) -> float:
    """The most one sequence gets."""
    return single_stream_tok_s(speed.read_bytes(1), speed.stage_bandwidth)
