"""The search for capacity on an emulated card in virtual time whose most is known; its batch fills slowly."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest
from virtual_bench import VirtualFarm

from dreamseed_cli.bench.measure.summary import summarise
from dreamseed_cli.bench.result import CellResult, Slo
from dreamseed_cli.bench.shapes import Cell, TargetSpec
from dreamseed_cli.bench.suites.base import Bench
from dreamseed_cli.bench.suites.capacity import capacity_suite
from dreamseed_cli.bench.suites.cells import ANSWER_TOKENS
from dreamseed_cli.bench.suites.trials import cycle_s, rate_trials, sustained
from dreamseed_cli.profile.schema import EmulatedCard

PLACES = 256
STEP_MS, STEP_MS_PER_SEQ = 20.0, 0.5
CARD = EmulatedCard(
    source="chosen for this test",
    prefill_tokens_per_s=1e6,
    decode_step_ms=STEP_MS,
    decode_step_ms_per_seq=STEP_MS_PER_SEQ,
    kv_cache_tokens=200_000,
)
FARM = VirtualFarm(CARD, PLACES)
SLO = Slo(ttft_ms=1000.0, tpot_ms=200.0, attainment=0.99)
"""Its tokens are good however full the card is: what fails is the first one, once requests queue."""
FULL_S = (STEP_MS + STEP_MS_PER_SEQ * (PLACES - 1)) * ANSWER_TOKENS / 1000
MOST_PER_S = PLACES / FULL_S
"""With every place taken; requests faster than these queue sooner or later."""


@dataclass(frozen=True)
class _Card(Bench):
    @property
    def places(self) -> int:
        return PLACES


async def _run(cell: Cell, target: TargetSpec | None = None) -> CellResult:
    return summarise(FARM.run(cell), SLO)


def _bench(seed: int) -> Bench:
    return _Card(
        target=TargetSpec(kind="grpc", address="127.0.0.1:1"),
        profile=None,
        slo=SLO,
        seed=seed,
        run_cell=_run,
        say=lambda _line: None,
        state=Path("/nowhere"),
    )


async def _judged(per_s: float, seed: int) -> tuple[bool, list[bool]]:
    """Whether the search would keep a rate, and which of the cells that it took were over capacity."""
    trials = rate_trials(_bench(seed), MOST_PER_S, FULL_S)
    over: list[bool] = []
    while True:
        result = await _run(trials.cell(per_s))
        over.append(result.over_capacity)
        if trials.told(per_s, result):
            return sustained(result, SLO.attainment), over


async def test_a_batch_that_fills_is_no_queue_that_grows() -> None:
    """Below the most, the first trials often see more and more under way: longer ones keep the rate."""
    judged = [await _judged(0.93 * MOST_PER_S, seed) for seed in range(8)]
    assert sum(kept for kept, _ in judged) >= 7
    assert sum(over[0] for _, over in judged) >= 2
    assert all(len(over) <= 3 for _, over in judged)


async def test_more_than_the_card_can_generate_is_not_kept() -> None:
    """While its places fill, every answer is good; prolonged, the trial shows the queue."""
    judged = [await _judged(1.05 * MOST_PER_S, seed) for seed in range(8)]
    assert not any(kept for kept, _ in judged)


async def test_the_search_finds_what_the_card_can_take() -> None:
    """Rate and users, who ask once a minute though their answers take longer the more of them there are."""
    result = await capacity_suite(_bench(1))
    rates = [cell for cell in result.cells if cell.name.startswith("rate-")]
    users = [cell for cell in result.cells if cell.name.startswith("users-")]
    assert 0.9 <= (rates[-1].asked_rate_per_s or 0.0) / MOST_PER_S <= 1.02
    assert sustained(users[-1], SLO.attainment)
    assert cycle_s(users[-1]) == pytest.approx(60.0, rel=0.03)
    assert f"(every {cycle_s(users[-1]):.1f} s in the last trial)" in result.headline
    assert 0.9 <= users[-1].shape["count"] / 60 / MOST_PER_S <= 1.02
