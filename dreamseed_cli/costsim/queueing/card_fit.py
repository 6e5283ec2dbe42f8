"""A card from a result of `dreamseed bench`: its steps fitted to what the cells measured.

The result is read as plain JSON (docs/schemas/bench.schema.json). By Little's law a replica decodes as many
sequences at a time as it generates tokens a second times the time between two tokens of one answer. That time
holds the prefills of others, too: they take the share of the time that their prompts take at the card's
prefill speed. What is left is the time of a decoding step at this batch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from dreamseed_cli.core.errors import UsageError
from dreamseed_cli.core.result import Provenance
from dreamseed_cli.costsim.queueing.card import CardModel, fit_steps
from dreamseed_cli.profile.schema import EmulatedCard

_ALONE = 1.5
"""Up to so many sequences at a time a prompt is taken to be prefilled without waiting for others."""
_SAME = 1.2
"""Prompts whose mean lengths differ by no more than this factor tell nothing about what comes on top."""
_LONGEST_SHARE = 0.95
"""Of a card's time, the most that prefills can take while it still decodes."""


@dataclass(frozen=True, slots=True)
class Cell:
    """What the fit and its check need of one measured cell. Milliseconds, tokens, per second."""

    name: str
    replicas: int
    ttft_ms: float
    ttft_p95_ms: float | None
    tpot_ms: float
    e2e_ms: float
    prompt_tokens: float
    output_tokens: float
    tokens_per_s: float
    requests_per_s: float
    rate_per_s: float | None
    """Asked for in open loop."""
    streams: int | None
    """Asked for in closed loop."""

    @property
    def batch(self) -> float:
        """Sequences that one replica decodes at a time, by Little's law."""
        return self.tokens_per_s * self.tpot_ms / 1000 / self.replicas

    @property
    def context(self) -> float:
        """Tokens that one of them has in the KV cache, halfway through its answer."""
        return self.prompt_tokens + self.output_tokens / 2


def read_cells(document: Mapping[str, Any]) -> list[Cell]:
    """The cells that say something: valid, whole, with answers of several tokens; fewest sequences first."""
    cells = [
        _read(cell) for suite in document.get("suites", ()) for cell in suite.get("cells", ()) if _tells(cell)
    ]
    return sorted(cells, key=lambda cell: (cell.batch, cell.name))


def card_of_bench(document: Mapping[str, Any], *, max_num_seqs: int, kv_cache_tokens: int) -> CardModel:
    """A replica as measured. max_num_seqs, kv_cache_tokens: the engine's own, which the result does not say.

    UsageError if fewer than two cells can be used, or all have the same batch.
    """
    measured = document.get("provenance") == "measured"
    card = fitted(read_cells(document), kv_cache_tokens, f"bench of {document.get('device', '?')}")
    return CardModel(card, max_num_seqs, provenance=Provenance.MEASURED if measured else Provenance.SIMULATED)


def fitted(cells: Sequence[Cell], kv_cache_tokens: int, source: str) -> EmulatedCard:
    """The card that explains these cells best; UsageError if they are too few or too alike."""
    if len(cells) < 2 or cells[-1].batch < _SAME * cells[0].batch:
        raise UsageError(
            f"{len(cells)} usable cells of about the same batch do not tell how a step grows with it",
            place="suites.cells",
            remedy="Run 'dreamseed bench' with at least two different numbers of streams.",
        )
    prefill_per_s = _prefill_per_s(cells)
    batch = np.array([cell.batch for cell in cells])
    kept = batch * np.array([cell.context for cell in cells])
    step_ms = np.array([_step_ms(cell, prefill_per_s) for cell in cells])
    contexts = [cell.context for cell in cells]
    if max(contexts) <= _SAME * min(contexts):
        kept = np.zeros_like(kept)  # it grows with the batch alone: nothing tells the two apart
    (base, each, token), worst = fit_steps(batch, kept, step_ms)
    return EmulatedCard(
        source=f"{source}, {len(cells)} cells, steps within {worst:.0%} of the fit",
        prefill_tokens_per_s=prefill_per_s,
        decode_step_ms=base,
        decode_step_ms_per_seq=each,
        decode_step_ms_per_kv_token=token,
        kv_cache_tokens=kv_cache_tokens,
    )


def _prefill_per_s(cells: Sequence[Cell]) -> float:
    """Prompt tokens per second, from the times to first tokens where nobody else is there."""
    alone = [cell for cell in cells if cell.batch <= _ALONE * cells[0].batch]
    prompts = np.array([cell.prompt_tokens for cell in alone])
    ttft_s = np.array([cell.ttft_ms for cell in alone]) / 1000
    if prompts.max() > _SAME * prompts.min():
        slope = float(np.polyfit(prompts, ttft_s, 1)[0])
        if slope > 0:
            return 1 / slope
    return float(prompts.sum() / ttft_s.sum())


def _step_ms(cell: Cell, prefill_per_s: float) -> float:
    share = cell.requests_per_s * cell.prompt_tokens / prefill_per_s / cell.replicas
    if cell.streams is not None:
        share *= 1 - min(
            cell.replicas / cell.streams, 1.0
        )  # a stream's own prompts never hold up its answers
    return cell.tpot_ms * (1 - min(share, _LONGEST_SHARE))


def _tells(cell: Mapping[str, Any]) -> bool:
    times = all(cell.get(name) is not None for name in ("ttft", "tpot", "e2e"))
    tokens = (cell.get("output_tokens_mean") or 0) > 1 and (cell.get("prompt_tokens_mean") or 0) > 0
    return bool(cell.get("valid")) and not cell.get("partial") and times and tokens


def _read(cell: Mapping[str, Any]) -> Cell:
    ttft = cell.get("ttft_from_send") or cell["ttft"]
    tail = ttft["quantiles"].get("p95")
    return Cell(
        name=cell["name"],
        replicas=max(len(cell.get("replicas") or ()), 1),
        ttft_ms=ttft["mean"]["value"],
        ttft_p95_ms=None if tail is None else tail["value"],
        tpot_ms=cell["tpot"]["mean"]["value"],
        e2e_ms=cell["e2e"]["mean"]["value"],
        prompt_tokens=cell["prompt_tokens_mean"],
        output_tokens=cell["output_tokens_mean"],
        tokens_per_s=cell["output_tokens_per_s"]["value"],
        requests_per_s=cell["requests_per_s"]["value"],
        rate_per_s=cell.get("asked_rate_per_s"),
        streams=cell.get("asked_streams"),
    )
