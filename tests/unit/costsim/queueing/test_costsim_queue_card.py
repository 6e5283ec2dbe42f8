"""Cards from the roofline, a profile and a bench result; and the simulation against held-out cells."""

from __future__ import annotations

from typing import Any

import pytest

from benchmarks._stepped import PROMPT, closed_cell
from dreamseed_cli.core.errors import UsageError
from dreamseed_cli.core.result import Provenance
from dreamseed_cli.costsim.queueing.card import card_of_profile, card_of_roofline
from dreamseed_cli.costsim.queueing.card_fit import card_of_bench, read_cells
from dreamseed_cli.costsim.queueing.validate import validate_against_bench
from dreamseed_cli.plan.layouts import roofline_engine
from dreamseed_cli.plan.roofline import decode_point, prefill_tok_s
from dreamseed_cli.plan.tables import require_model, shipped
from dreamseed_cli.profile.load import load_profile
from dreamseed_cli.profile.schema import EmulatedCard, VllmEngine

TRUTH = EmulatedCard(
    source="test",
    prefill_tokens_per_s=3550.0,
    decode_step_ms=5.6,
    decode_step_ms_per_seq=0.28,
    kv_cache_tokens=1_000_000,
)
AIM = 0.09


def _vllm() -> VllmEngine:
    engine = load_profile("rtx5090x3").engine
    assert isinstance(engine, VllmEngine)
    return engine


def test_a_roofline_card_takes_what_plan_expects() -> None:
    """Steps of the simulated card stay within the error it states of `plan`'s expected figures, and prompts
    and KV cache are `plan`'s own.
    """
    model, card = require_model(shipped(), _vllm().model), shipped().cards["rtx5090"]
    found = card_of_roofline(model, card, _vllm(), context=512)
    plan = roofline_engine(model, card, _vllm())
    for batch in (1, 8, 64, 128):
        step_ms = found.card.decode_step_ms + found.card.decode_step_ms_per_seq * (batch - 1)
        step_ms += found.card.decode_step_ms_per_kv_token * batch * 512
        expected_ms = 1000 * batch / decode_point(plan, batch=batch, context=512).expected_tok_s
        assert step_ms == pytest.approx(expected_ms, rel=0.26), batch
    prefill = prefill_tok_s(plan, prompt=512)
    assert prefill is not None
    assert found.card.prefill_tokens_per_s == prefill[1]
    assert 90_000 < found.card.kv_cache_tokens < 100_000
    assert "60% of bandwidth" in found.card.source
    assert found.provenance is Provenance.COMPUTED


def test_two_cards_at_once_step_faster() -> None:
    """Tensor parallelism reads the weights with the bandwidth of both, and takes two cards a replica."""
    model, card = require_model(shipped(), _vllm().model), shipped().cards["rtx5090"]
    one = card_of_roofline(model, card, _vllm())
    two = card_of_roofline(model, card, _vllm().model_copy(update={"tensor_parallel_size": 2}))
    assert two.cards_per_replica == 2
    assert two.card.decode_step_ms < 0.6 * one.card.decode_step_ms
    assert two.card.kv_cache_tokens > 2 * one.card.kv_cache_tokens


def test_a_box_that_cannot_start_is_an_error() -> None:
    """The document's own profile over three cards: three does not divide the heads (§B3)."""
    with pytest.raises(UsageError, match="heads"):
        card_of_profile(load_profile("rtx5090x3-document"), shipped())


def test_profiles_give_their_cards() -> None:
    """An emulated engine states its card, a vLLM's is computed, a processor's is not known."""
    emulated = card_of_profile(load_profile("emulated-rtx5090x3"), shipped())
    assert (emulated.provenance, emulated.card.decode_step_ms) == (Provenance.SIMULATED, 5.6)
    assert card_of_profile(load_profile("rtx5090x1"), shipped()).provenance is Provenance.COMPUTED
    with pytest.raises(UsageError, match="no roofline"):
        card_of_profile(load_profile("laptop"), shipped())


def _cell(streams: int, *, prompt: int = PROMPT) -> dict[str, Any]:
    """A cell of a bench result: so many streams at the emulated engine, step by step."""
    return closed_cell(TRUTH, streams, 160, prompt=prompt)


@pytest.fixture(scope="module")
def result() -> dict[str, Any]:
    """Five loads of an emulated engine as a bench result."""
    cells = [_cell(streams) for streams in (1, 4, 12, 32, 64)]
    return {"provenance": "simulated", "device": "emulated", "suites": [{"cells": cells}]}


def test_a_fit_finds_the_card(result: dict[str, Any]) -> None:
    """From what clients see, the step's parts and the prefill speed come out nearly as they are."""
    found = card_of_bench(result, max_num_seqs=256, kv_cache_tokens=1_000_000)
    assert found.card.decode_step_ms == pytest.approx(TRUTH.decode_step_ms, rel=0.05)
    assert found.card.decode_step_ms_per_seq == pytest.approx(TRUTH.decode_step_ms_per_seq, rel=0.1)
    assert found.card.prefill_tokens_per_s == pytest.approx(TRUTH.prefill_tokens_per_s, rel=0.05)
    assert found.provenance is Provenance.SIMULATED


def test_held_out_cells_are_foretold(result: dict[str, Any]) -> None:
    """Cells the fit has not seen: TTFT, latency and throughput within 9 %."""
    errors = validate_against_bench(result, spreads=(0.0, 0.5))
    assert {one.cell for one in errors} == {"streams-4", "streams-32"}
    assert {one.quantity for one in errors} >= {"ttft_mean_ms", "e2e_mean_ms", "tokens_per_s"}
    assert max(abs(one.error) for one in errors) <= AIM, errors


def test_an_engine_that_behaves_otherwise_is_noticed(result: dict[str, Any]) -> None:
    """A held-out cell that took half as long again is off by a third in what it took."""
    cells = [dict(cell) for cell in result["suites"][0]["cells"]]
    slower = {
        name: {"mean": {"value": 1.5 * cells[1][name]["mean"]["value"]}, "quantiles": {}}
        for name in ("ttft", "e2e")
    }
    cells[1] |= slower
    errors = validate_against_bench(result | {"suites": [{"cells": cells}]}, spreads=(0.0, 0.5))
    off = {one.quantity: one.error for one in errors if one.cell == "streams-4"}
    assert off["e2e_mean_ms"] == pytest.approx(-1 / 3, abs=AIM)
    assert "ttft_p95_ms" not in off


def test_cells_that_say_nothing_are_left_out(result: dict[str, Any]) -> None:
    """Invalid and partial cells, those without answers: too few left is an error with a remedy."""
    cells = [dict(cell) for cell in result["suites"][0]["cells"]]
    cells[0]["valid"], cells[1]["partial"], cells[2]["tpot"] = False, True, None
    few = {"suites": [{"cells": cells[:4]}, {"name": "without cells"}]}
    assert [cell.name for cell in read_cells(few)] == ["streams-32"]
    with pytest.raises(UsageError, match="hold out"):
        validate_against_bench(few)
    with pytest.raises(UsageError, match="grows with it"):
        card_of_bench(few, max_num_seqs=8, kv_cache_tokens=1000)


def test_prompts_of_two_lengths_tell_what_comes_on_top() -> None:
    """50 ms on every first token do not count as prefill where two lengths show the difference."""
    document = {"suites": [{"cells": [_cell(1, prompt=200), _cell(1, prompt=800), _cell(8)]}]}
    for cell in document["suites"][0]["cells"]:
        cell["ttft"]["mean"]["value"] += 50
    found = card_of_bench(document, max_num_seqs=8, kv_cache_tokens=100_000)
    assert found.card.prefill_tokens_per_s == pytest.approx(TRUTH.prefill_tokens_per_s, rel=0.05)
