"""A card from a result of `dreamseed bench`: its steps fitted to what the cells measured.

By Little's law a replica decodes as many sequences at a time as it generates tokens a second times the time
between two tokens of one answer. That time holds the prefills of others, too: they take the share of the time
that their prompts take at the card's prefill speed. What is left is the time of a step at this batch.

How much of the time to the first token is prefill, and how much comes on top (network, tokenising, server),
prompts of two lengths tell. Where all are alike it is the share with which the simulation of the cells comes
nearest to their times to the first token: prompts wait for each other, and for what is on top nobody does.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from dreamseed_cli.core.errors import UsageError
from dreamseed_cli.core.result import Provenance
from dreamseed_cli.costsim.queueing.bench_cells import Cell, read_cells
from dreamseed_cli.costsim.queueing.bench_load import NO_QUEUE, repeat
from dreamseed_cli.costsim.queueing.card import CardModel, fit_steps
from dreamseed_cli.costsim.queueing.outcome import Floats
from dreamseed_cli.profile.schema import Admission, EmulatedCard

_ALONE = 1.5
"""Up to so many sequences at a time a prompt is taken to be prefilled without waiting for others."""
_SAME = 1.2
"""Batches and prompts whose means differ by no more than this factor are taken for the same."""
_APART = 1.5
"""Contexts must differ by this factor: what all cells keep grows with their batch but for chance, and a fit
would give what a sequence takes to its tokens, or the other way round."""
_LONGEST_SHARE = 0.95
"""Of a card's time, the most that prefills can take while it still decodes."""
_SHARES = (1.0, 0.85, 0.7, 0.6, 0.5, 0.42, 0.35, 0.3, 0.25, 0.17, 0.12, 0.08, 0.05, 0.03)
"""Of the time to the first token, those tried for the prefill's."""
_BLURRED = 0.05
"""Times to the first token are not sharper than this: of shares that do as well, the largest is taken."""
_TRIED_REQUESTS = 400


def card_of_bench(
    document: Mapping[str, Any], *, max_num_seqs: int, kv_cache_tokens: int, rules: Admission = NO_QUEUE
) -> CardModel:
    """A replica as measured. max_num_seqs, kv_cache_tokens: the engine's own, which the result does not say.

    rules: of the gateway, if it was measured through one. UsageError if fewer than two cells can be used, or
    all have the same batch.
    """
    provenance = Provenance.MEASURED if document.get("provenance") == "measured" else Provenance.SIMULATED
    fit = Fit(read_cells(document), max_num_seqs, kv_cache_tokens, rules)
    return fit.card(f"bench of {document.get('device', '?')}", provenance)


class Fit:
    """The replica that explains some cells best. UsageError if they are too few or too alike."""

    def __init__(
        self, cells: Sequence[Cell], max_num_seqs: int, kv_cache_tokens: int, rules: Admission
    ) -> None:
        if len(cells) < 2 or cells[-1].batch < _SAME * cells[0].batch:
            raise UsageError(
                f"{len(cells)} usable cells of about the same batch do not tell how a step grows with it",
                place="suites.cells",
                remedy="Run 'dreamseed bench' with at least two different numbers of streams.",
            )
        self._cells = cells
        self._max_num_seqs, self._kv_cache_tokens, self._rules = max_num_seqs, kv_cache_tokens, rules
        alone = [cell for cell in cells if cell.batch <= _ALONE * cells[0].batch]
        self._prompts = np.array([cell.prompt_tokens for cell in alone])
        self._ttft_s = np.array([cell.ttft_ms for cell in alone]) / 1000

    def card(self, source: str, provenance: Provenance) -> CardModel:
        """source: what the cells are of."""
        if self._prompts.max() > _SAME * self._prompts.min():
            slope, on_top_s = np.polyfit(self._prompts, self._ttft_s, 1)
            if slope > 0:
                return self._replica(1 / float(slope), max(float(on_top_s), 0.0), source, provenance)
        replicas = [self._with_share(share, source, provenance) for share in _SHARES]
        errors = [self._ttft_error(replica) for replica in replicas]
        good = min(errors) + len(self._cells) * _BLURRED**2
        return next(replica for replica, error in zip(replicas, errors, strict=True) if error <= good)

    def _with_share(self, share: float, source: str, provenance: Provenance) -> CardModel:
        """The replica whose prefill takes so much of the time to a first token alone."""
        prefill_per_s = float(self._prompts.sum() / self._ttft_s.sum()) / share
        replica = self._replica(prefill_per_s, 0.0, source, provenance)
        # A prompt's own step is as long as a step of one sequence, at least.
        step_s = np.maximum(self._prompts / prefill_per_s, replica.steps_ms()[0] / 1000)
        return replace(replica, on_top_s=max(float((self._ttft_s - step_s).mean()), 0.0))

    def _replica(
        self, prefill_per_s: float, on_top_s: float, source: str, provenance: Provenance
    ) -> CardModel:
        cells = self._cells
        batch = np.array([cell.batch for cell in cells])
        kept = batch * np.array([cell.context for cell in cells])
        step_ms = np.array([_step_ms(cell, prefill_per_s) for cell in cells])
        contexts = [cell.context for cell in cells]
        if max(contexts) <= _APART * min(contexts):
            kept = np.zeros_like(kept)
        (base, each, token), _ = fit_steps(batch, kept, step_ms)
        card = EmulatedCard(
            source=f"{source}, {len(cells)} cells, steps as measured",
            prefill_tokens_per_s=prefill_per_s,
            decode_step_ms=base,
            decode_step_ms_per_seq=each,
            decode_step_ms_per_kv_token=token,
            kv_cache_tokens=self._kv_cache_tokens,
        )
        curve = _curve(batch, step_ms - token * kept)
        return CardModel(card, self._max_num_seqs, provenance=provenance, curve=curve, on_top_s=on_top_s)

    def _ttft_error(self, replica: CardModel) -> float:
        """How far the simulation of the cells is from their times to the first token."""
        return math.fsum(
            math.log(_ttft_ms(cell, replica, self._rules) / cell.ttft_ms) ** 2
            for cell in self._cells
            if cell.load and cell.keeps_up
        )


def _ttft_ms(cell: Cell, replica: CardModel, rules: Admission) -> float:
    """Infinite if this replica is so slow that no request begins in the window."""
    seen = repeat(cell, replica, rules, seed=0, requests=_TRIED_REQUESTS)
    return 1000 * float(np.mean(seen.ttft_s)) if seen.ttft_s else math.inf


def _curve(batch: Floats, step_ms: Floats) -> tuple[tuple[float, float], ...]:
    """The step at each batch, cells of about the same one together; never shorter at a larger one."""
    groups = _groups(batch)
    points = [(float(batch[group].mean()), float(step_ms[group].mean())) for group in groups]
    longest = np.maximum.accumulate([step for _, step in points])
    return tuple((at, float(step)) for (at, _), step in zip(points, longest, strict=True))


def _groups(batch: Floats) -> list[slice]:
    """Runs of about the same batch, of a rising array."""
    starts = [0]
    for index, value in enumerate(batch):
        if value > _SAME * batch[starts[-1]]:
            starts.append(index)
    return [slice(start, end) for start, end in zip(starts, [*starts[1:], len(batch)], strict=True)]


def _step_ms(cell: Cell, prefill_per_s: float) -> float:
    share = cell.requests_per_s * cell.prompt_tokens / prefill_per_s / cell.replicas
    if cell.streams is not None:
        # A stream's own prompts never hold up its answers.
        share *= 1 - min(cell.replicas / cell.streams, 1.0)
    return cell.tpot_ms * (1 - min(share, _LONGEST_SHARE))
