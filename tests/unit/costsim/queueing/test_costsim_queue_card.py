"""Cards from the roofline, a profile and a bench result; and the simulation against held-out cells."""

from __future__ import annotations

from typing import Any

import pytest

from benchmarks._stepped import PROMPT, closed_cell
from dreamseed_cli.core.errors import UsageError
from dreamseed_cli.core.result import Provenance
from dreamseed_cli.costsim.queueing.bench_cells import read_cells
from dreamseed_cli.costsim.queueing.bench_load import NO_QUEUE, repeat
from dreamseed_cli.costsim.queueing.card import CardModel, card_of_profile, card_of_roofline
from dreamseed_cli.costsim.queueing.card_fit import card_of_bench
from dreamseed_cli.costsim.queueing.farm import Farm, Request
from dreamseed_cli.costsim.queueing.validate import Validation, validate_against_bench
from dreamseed_cli.costsim.report.figures import validation_data
from dreamseed_cli.costsim.report.loads import validation_words
from dreamseed_cli.plan.layouts import roofline_engine
from dreamseed_cli.plan.roofline import decode_point, prefill_tok_s
from dreamseed_cli.plan.tables import require_model, shipped
from dreamseed_cli.profile.load import load_profile
from dreamseed_cli.profile.schema import Admission, EmulatedCard, VllmEngine

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


@pytest.fixture(scope="module")
def validated(result: dict[str, Any]) -> Validation:
    """What the simulation foretells of it: as long to compute as all the rest of this file."""
    return validate_against_bench(result)


def test_a_fit_finds_the_card(result: dict[str, Any]) -> None:
    """From what clients see, the step's parts and the prefill speed come out nearly as they are."""
    found = card_of_bench(result, max_num_seqs=256, kv_cache_tokens=1_000_000)
    assert found.card.decode_step_ms == pytest.approx(TRUTH.decode_step_ms, rel=0.05)
    assert found.card.decode_step_ms_per_seq == pytest.approx(TRUTH.decode_step_ms_per_seq, rel=0.1)
    assert found.card.prefill_tokens_per_s == pytest.approx(TRUTH.prefill_tokens_per_s, rel=0.05)
    assert found.provenance is Provenance.SIMULATED


@pytest.mark.no_cover
def test_held_out_cells_are_foretold(validated: Validation) -> None:
    """Cells the fit has not seen: means and throughput within 9 %, and all figures together on average."""
    found = validated
    assert [load.cell.name for load in found.loads if load.held_out] == ["streams-4", "streams-32"]
    quantities = {one.quantity for _, one in found.held_out}
    assert quantities == {
        *("ttft_mean_ms", "ttft_p50_ms", "ttft_p95_ms"),
        *("e2e_mean_ms", "e2e_p50_ms", "e2e_p95_ms", "tokens_per_s"),
    }
    means = [abs(one.error) for _, one in found.held_out if "_p" not in one.quantity]
    assert max(means) <= AIM, found.held_out
    assert found.mean_error <= AIM
    assert abs(found.worst[1].error) >= max(means)


@pytest.mark.no_cover
def test_open_loop_loads_are_never_fitted(result: dict[str, Any]) -> None:
    """A rate is held out however few streams there are; one that was too much for the engine is no load."""
    cells = result["suites"][0]["cells"]
    rate = cells[1] | {"name": "poisson-1", "asked_streams": None, "asked_rate_per_s": 1.0}
    rate["shape"] = {"type": "rate"}
    over = rate | {"name": "poisson-9", "asked_rate_per_s": 9.0, "over_capacity": True}
    found = validate_against_bench({"suites": [{"cells": [*cells[:3], rate, over]}]})
    held_out = {load.cell.name: load.held_out for load in found.loads}
    assert held_out == {"streams-1": False, "streams-4": True, "streams-12": False, "poisson-1": True}


@pytest.mark.no_cover
def test_a_trace_and_sessions_are_no_loads_to_foretell(result: dict[str, Any]) -> None:
    """Their requests come in a way of their own, which the result does not tell."""
    cells = result["suites"][0]["cells"]
    others = [
        cells[1] | {"name": name, "asked_streams": None, "asked_rate_per_s": rate, "shape": {"type": name}}
        for name, rate in (("replay", 2.0), ("users", None))
    ]
    document = {"suites": [{"cells": [*cells[:3], *others]}]}
    assert {load.cell.name for load in validate_against_bench(document).loads} == {
        "streams-1",
        "streams-4",
        "streams-12",
    }
    assert card_of_bench(document, max_num_seqs=256, kv_cache_tokens=1_000_000).card.decode_step_ms > 0


@pytest.mark.no_cover
def test_a_load_that_was_measured_twice_is_one_load(result: dict[str, Any]) -> None:
    """Through the gateway and past it: neither tells the fit about the other."""
    cells = result["suites"][0]["cells"][:3]
    twice = [cell | {"name": cell["name"].replace("streams", "batch")} for cell in cells]
    document = {"suites": [{"name": "engine", "cells": cells}, {"name": "batching", "cells": twice}]}
    found = validate_against_bench(document, rules=Admission())
    held_out = {load.cell.name for load in found.loads if load.held_out}
    assert held_out == {"streams-4", "batch-4"}


@pytest.mark.no_cover
def test_each_suite_has_an_error_of_its_own(result: dict[str, Any]) -> None:
    """A machine that was half as fast in one suite fits no single card; each suite by itself fits well."""
    cells = result["suites"][0]["cells"][:3]
    by_itself = validate_against_bench({"suites": [{"name": "engine", "cells": cells}]})
    card = TRUTH.model_copy(
        update={"prefill_tokens_per_s": 1775.0, "decode_step_ms": 11.2, "decode_step_ms_per_seq": 0.56}
    )
    slow = [closed_cell(card, streams, 160) | {"name": f"batch-{streams}"} for streams in (1, 4, 12)]
    suites = [{"name": "engine", "cells": cells}, {"name": "batching", "cells": slow}]
    one_load = {"name": "small", "cells": [cells[0] | {"name": "small"}]}
    found = validate_against_bench({"suites": [*suites, one_load]})
    assert found.mean_error > AIM
    assert set(found.alone) == {"engine", "batching"}
    assert max(found.alone.values()) <= AIM
    assert found.alone["engine"] == by_itself.mean_error
    assert "Held-out error of each suite by itself" in validation_words(found)
    assert by_itself.alone == {}


@pytest.mark.no_cover
def test_an_engine_that_behaves_otherwise_is_noticed(result: dict[str, Any]) -> None:
    """A held-out cell that took half as long again is off by a third in what it took."""
    cells = [dict(cell) for cell in result["suites"][0]["cells"]]
    slower = {
        name: {"mean": {"value": 1.5 * cells[1][name]["mean"]["value"]}, "quantiles": {}}
        for name in ("ttft", "e2e")
    }
    cells[1] |= slower
    found = validate_against_bench(result | {"suites": [{"cells": cells}]})
    off = {one.quantity: one.error for load, one in found.held_out if load.cell.name == "streams-4"}
    assert off["e2e_mean_ms"] == pytest.approx(-1 / 3, abs=AIM)
    assert "ttft_p95_ms" not in off
    assert abs(found.worst[1].error) > 0.3


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
    assert found.on_top_s == pytest.approx(0.05, abs=0.005)


@pytest.mark.no_cover
def test_what_is_on_top_is_told_from_prompts_that_wait_for_each_other() -> None:
    """Prompts of one length: half a second on every first token holds up no other, as a prefill would."""
    cells = [_cell(streams) for streams in (1, 8, 32)]
    for cell in cells:
        for kind in ("ttft", "e2e"):
            cell[kind]["mean"]["value"] += 500
    found = card_of_bench({"suites": [{"cells": cells}]}, max_num_seqs=256, kv_cache_tokens=1_000_000)
    assert found.on_top_s > 0.35
    assert found.card.prefill_tokens_per_s > 0.5 * TRUTH.prefill_tokens_per_s


def test_lengths_that_differ_by_chance_do_not_straighten_the_steps() -> None:
    """Steps that rise and then hardly do stay as measured. What all cells keep grows with their batch:
    contexts within half of each other tell nothing of what a token kept takes.
    """
    cells = [_cell(1), _cell(4, prompt=round(1.3 * PROMPT)), _cell(12), _cell(32)]
    for cell, bend in zip(cells, (1.0, 1.0, 1.6, 1.3), strict=True):
        cell["tpot"]["mean"]["value"] *= bend
    found = card_of_bench({"suites": [{"cells": cells}]}, max_num_seqs=64, kv_cache_tokens=1_000_000)
    assert found.card.decode_step_ms_per_kv_token == 0
    for read, (_, step_ms) in zip(read_cells({"suites": [{"cells": cells}]}), found.curve, strict=True):
        of_others = read.requests_per_s * (1 - 1 / (read.streams or 1))
        share = of_others * read.prompt_tokens / found.card.prefill_tokens_per_s
        assert step_ms == pytest.approx(read.tpot_ms * (1 - share))


def test_steps_between_measured_ones_lie_on_a_straight_line() -> None:
    """10 ms for one, 30 ms for five: 20 for three, and 40 for seven, with the last slope."""
    card = CardModel(TRUTH, 8, curve=((1.0, 10.0), (5.0, 30.0)))
    assert card.steps_ms()[[0, 2, 4, 6]] == pytest.approx([10, 20, 30, 40])
    assert set(CardModel(TRUTH, 8, curve=((1.0, 10.0),)).steps_ms()) == {10.0}
    assert CardModel(TRUTH, 3).steps_ms() == pytest.approx([5.6, 5.6 + 0.28, 5.6 + 2 * 0.28])


def test_a_short_bench_is_repeated_with_its_drain() -> None:
    """Four streams that get one answer each: as many are simulated, and the drain counts."""
    cell = _cell(4) | {"requests": 4, "window_s": [0.0, 5.0], "duration_s": 5.0, "output_tokens_mean": 100.0}
    (short,) = read_cells({"suites": [{"cells": [cell]}]})
    assert short.courses[0].whole
    card = CardModel(TRUTH, 256)
    seen = repeat(short, card, NO_QUEUE, seed=1, requests=40)
    assert len(seen.e2e_s) == 40
    # 100 answers' tokens in the time that the longest of four takes: 4 x 100 / (TTFT + 99 steps of 6.44 ms)
    assert seen.tokens_per_s == pytest.approx(4 * 100 / max(seen.e2e_s), rel=0.05)


def _rounds(tpot_ms: tuple[float, ...]) -> list[dict[str, Any]]:
    """Rounds of four and more answers, each measured to its last one."""
    return [
        {
            "begin_s": 0.0,
            "duration_s": 5.0,
            "window_s": [0.0, 5.0],
            "requests": 4 + 4 * number,
            "achieved_rate_per_s": 1.0,
            "output_tokens_per_s": 100.0,
            "tpot_mean_ms": each,
        }
        for number, each in enumerate(tpot_ms)
    ]


def test_every_round_is_repeated_as_often_as_the_others() -> None:
    """One of four answers and one of eight: twelve, or a multiple of it; never the one without the other."""
    (cell,) = read_cells({"suites": [{"cells": [_cell(4) | {"rounds": _rounds((10.0, 12.0))}]}]})
    for wanted, found in ((1, 12), (12, 12), (13, 24)):
        seen = repeat(cell, CardModel(TRUTH, 256), NO_QUEUE, seed=1, requests=wanted)
        assert len(seen.e2e_s) == found


@pytest.mark.no_cover
def test_the_drift_between_rounds_stands_beside_the_error(result: dict[str, Any]) -> None:
    """10 and 12 ms a token: a standard deviation of 1.41 around 11. Without rounds nothing is known of it."""
    cells = result["suites"][0]["cells"][:3]
    twice = [cell | {"rounds": _rounds((10.0, 12.0))} for cell in cells]
    found = validate_against_bench({"suites": [{"cells": twice}]})
    assert found.drift == pytest.approx(1.4142 / 11, rel=1e-3)
    assert found.rounds == 2
    assert "differed by 12.9%" in validation_words(found)
    data = validation_data(found)
    assert data["drift"] == {"value": pytest.approx(12.86, abs=0.01), "unit": "%", "provenance": "simulated"}
    once = validate_against_bench({"suites": [{"cells": cells}]})
    assert once.drift is None
    assert "round" not in validation_words(once)


def test_streams_that_are_refused_wait_as_the_bench_does(monkeypatch: pytest.MonkeyPatch) -> None:
    """Twelve for two places and a queue of one: asked again after 0.1, 0.2, 0.4, ... s, not without end."""
    through = {"replicas": {"r0": {}}, "window_s": [0.5, 2.0], "duration_s": 3.0, "requests": 20}
    (full,) = read_cells({"suites": [{"cells": [_cell(12) | through]}]})
    asked: list[float] = []
    submit = Farm.submit

    def counted(farm: Farm, request: Request, now: float) -> None:
        asked.append(now)
        submit(farm, request, now)

    monkeypatch.setattr(Farm, "submit", counted)
    rules = NO_QUEUE.model_copy(update={"max_queued_standard": 1})
    seen = repeat(full, CardModel(TRUTH, 2), rules, seed=1, requests=1)
    assert seen.e2e_s
    # A stream that is never served is refused at 0, 0.1, 0.3, 0.7 and 1.5 s of these two; few are served.
    assert 9 * 3 < len(asked) < 12 * 7


@pytest.mark.no_cover
def test_what_never_begins_in_the_window_has_no_times() -> None:
    """Where the first answers take longer than the whole measurement only tokens count."""
    cells = [_cell(streams) for streams in (1, 4, 12)]
    late = cells[1] | {"window_s": [0.05, 0.1], "duration_s": 2.0, "requests": 4}
    found = validate_against_bench({"suites": [{"cells": [cells[0], late, cells[2]]}]})
    assert [one.quantity for _, one in found.held_out] == ["tokens_per_s"]


def test_a_rate_is_repeated_with_as_many_requests(monkeypatch: pytest.MonkeyPatch) -> None:
    """Twenty in a window of ten seconds; before it as many as came, or at the same rate where nobody tells;
    twenty in a whole measurement.
    """
    cell = _cell(1) | {
        "asked_streams": None,
        "asked_rate_per_s": 2.0,
        "shape": {"type": "rate"},
        "requests": 20,
        "window_s": [10.0, 20.0],
        "duration_s": 30.0,
    }
    whole = cell | {"window_s": [0.0, 30.0], "achieved_rate_per_s": 2.0}
    (rate,), (to_the_end,) = (read_cells({"suites": [{"cells": [one]}]}) for one in (cell, whole))
    assert len(repeat(to_the_end, CardModel(TRUTH, 256), NO_QUEUE, seed=1, requests=1).e2e_s) == 20
    seen = repeat(rate, CardModel(TRUTH, 256), NO_QUEUE, seed=1, requests=1)
    assert (seen.window_s, len(seen.ttft_s)) == (10, 20)
    asked: list[float] = []
    submit = Farm.submit

    def counted(farm: Farm, request: Request, now: float) -> None:
        asked.append(now)
        submit(farm, request, now)

    monkeypatch.setattr(Farm, "submit", counted)
    for before, due in (({}, 20), ({"requests_before": 3}, 3)):
        (told,) = read_cells({"suites": [{"cells": [cell | before]}]})
        asked.clear()
        repeat(told, CardModel(TRUTH, 256), NO_QUEUE, seed=1, requests=1)
        assert (sum(at < 10 for at in asked), len(asked)) == (due, due + 20)
