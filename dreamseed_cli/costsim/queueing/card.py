"""How fast a replica is, as the simulation needs it: from `plan`'s roofline or from an emulated profile.

`card_fit.py` has the third way, from a result of `dreamseed bench`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.optimize import nnls  # type: ignore[import-untyped]

from dreamseed_cli.core.errors import UsageError
from dreamseed_cli.core.result import Provenance
from dreamseed_cli.costsim.queueing.outcome import Floats
from dreamseed_cli.plan.fit import findings, fit, sequences
from dreamseed_cli.plan.layouts import TYPICAL_CONTEXT, roofline_engine
from dreamseed_cli.plan.parts import Card, Model
from dreamseed_cli.plan.roofline import (
    BANDWIDTH_EFFICIENCY,
    COMPUTE_EFFICIENCY,
    Engine,
    batches,
    decode_point,
    prefill_tok_s,
)
from dreamseed_cli.plan.tables import Tables, require_model
from dreamseed_cli.profile.schema import EmulatedCard, EmulatedEngine, Profile, VllmEngine


@dataclass(frozen=True, slots=True)
class CardModel:
    """One replica: what a step takes, and what fits. `card.source` says where the figures come from."""

    card: EmulatedCard
    max_num_seqs: int
    cards_per_replica: int = 1
    provenance: Provenance = Provenance.COMPUTED
    curve: tuple[tuple[float, float], ...] = ()
    """A step's milliseconds at rising numbers of sequences, as measured: between them a straight line, beyond
    the last the last one's slope. Empty: as the card has it.
    """
    on_top_s: float = 0.0
    """Of every time to the first token, what takes none of the card's: network, tokenising, server."""

    def steps_ms(self) -> Floats:
        """Decoding steps of 1, 2, ... `max_num_seqs` sequences, without what each token kept adds."""
        many = np.arange(1, self.max_num_seqs + 1, dtype=np.float64)
        found: Floats = self.card.decode_step_ms + self.card.decode_step_ms_per_seq * (many - 1)
        if not self.curve:
            return found
        batch, step = np.array(self.curve).T
        found = np.interp(many, batch, step)
        if len(batch) > 1:
            slope = (step[-1] - step[-2]) / (batch[-1] - batch[-2])
            found += slope * np.maximum(many - batch[-1], 0)
        return found


def card_of_profile(profile: Profile, tables: Tables) -> CardModel:
    """The profile's replica: stated by an emulated engine, computed of a vLLM's model and card.

    UsageError where neither is known: a remote engine, a processor, a card or model that no table has.
    """
    engine = profile.engine
    if isinstance(engine, EmulatedEngine):
        return CardModel(engine.card, engine.max_num_seqs, provenance=Provenance.SIMULATED)
    card = tables.cards.get(profile.box.gpu_model or "")
    if not isinstance(engine, VllmEngine) or engine.device != "cuda" or card is None:
        raise UsageError(
            "no roofline is known for its engine",
            place="engine",
            remedy="Take a profile with cards of the table or an emulated one, or a bench result.",
        )
    return card_of_roofline(require_model(tables, engine.model), card, engine)


def card_of_roofline(
    model: Model, card: Card, engine: VllmEngine, *, context: int = TYPICAL_CONTEXT
) -> CardModel:
    """A replica by `plan`'s expected figures: 60 % of the bandwidth and 50 % of the compute of the card.

    `plan` takes the longer of both times for a step; a simulated card adds a part for each sequence and each
    token kept. The parts are fitted (least squares of the relative error, none negative) to the steps of
    every batch size that fits, at half the context, at it and at twice of it; `source` says how far off the
    worst of them is. context: tokens of a typical sequence. UsageError if vLLM could not start it.
    """
    size = engine.tensor_parallel_size
    for found in findings(engine, model, card, size):
        raise UsageError(found.cause, place=found.place, remedy=found.remedy)
    roofline = roofline_engine(model, card, engine, size)
    memory = fit(model, card, engine, size)
    tokens = memory.kv_tokens
    if model.window is not None:  # their average is of max_model_len, which short sequences do not reach
        tokens = sequences(model, engine, memory, context) * context
    prefill = prefill_tok_s(roofline, prompt=context)
    if prefill is None:
        raise UsageError(
            f"the table has no compute peak of {card.title}, so its prefill cannot be computed",
            place="box.gpu_model",
            remedy="Add its tflops_fp16 to a file for --cards.",
        )
    step_ms, worst = _linear(roofline, min(engine.max_num_seqs, tokens // context), context)
    source = (
        f"roofline of {card.title}: {BANDWIDTH_EFFICIENCY:.0%} of bandwidth, {COMPUTE_EFFICIENCY:.0%} of "
        f"compute reached; steps within {worst:.0%} of it"
    )
    return CardModel(
        EmulatedCard(
            source=source,
            prefill_tokens_per_s=prefill[1],
            decode_step_ms=step_ms[0],
            decode_step_ms_per_seq=step_ms[1],
            decode_step_ms_per_kv_token=step_ms[2],
            kv_cache_tokens=tokens,
        ),
        engine.max_num_seqs,
        cards_per_replica=size,
    )


def _linear(engine: Engine, most: int, context: int) -> tuple[tuple[float, float, float], float]:
    """A step's milliseconds: at one sequence, for each further one, for each token kept; the worst error."""
    points = [
        (
            batch,
            batch * length,
            1000 * batch / decode_point(engine, batch=batch, context=length).expected_tok_s,
        )
        for batch in batches(max(most, 1))
        for length in (context // 2, context, 2 * context)
    ]
    batch, kept, step = np.array(points).T
    return fit_steps(batch, kept, step)


def fit_steps(batch: Floats, kept: Floats, step_ms: Floats) -> tuple[tuple[float, float, float], float]:
    """Least squares of the relative error, no part negative: ((base, per sequence, per token), worst error).

    batch, kept and step_ms: sequences, tokens in the KV cache and milliseconds of each step, of one length.
    """
    parts = np.column_stack((np.ones_like(batch), batch - 1, kept)) / step_ms[:, None]
    scale = np.maximum(parts.max(axis=0), 1e-12)
    found, _ = nnls(parts / scale, np.ones_like(step_ms))
    worst = float(np.abs(parts / scale @ found - 1).max())
    base, each, token = found / scale
    return (float(base), float(each), float(token)), worst
