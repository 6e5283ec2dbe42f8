"""The `cache` suite: what it asks for, what it says, how it stops. Its cells are made up here."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from dreamseed_cli.bench.result import CellResult, FactTable, Interval, Latency, Slo, SuiteResult
from dreamseed_cli.bench.shapes import Cell, Rate, Streams, TargetSpec
from dreamseed_cli.bench.suites import cache
from dreamseed_cli.bench.suites.base import Bench, StopEarly
from dreamseed_cli.bench.suites.cache import cache_suite
from dreamseed_cli.bench.suites.cache_model import Skew, filling_s, first_hit_share, settled_hit_share
from dreamseed_cli.bench.workload import load
from dreamseed_cli.core.errors import FailedError, MissingError
from dreamseed_cli.gateway.settings import ServiceAddresses
from dreamseed_cli.profile.load import load_profile
from dreamseed_cli.profile.schema import Profile

WITH_REDIS = ServiceAddresses(redis_nodes=("127.0.0.1:7000",), journal="/nowhere")
STORE = FactTable(title="the store", columns=(), rows=())

Answer = Callable[[Cell], CellResult]


def _latency(p50_ms: float) -> Latency:
    return Latency(
        n=1000, mean=Interval(value=p50_ms), min=1.0, max=99.0, quantiles={"p50": Interval(value=p50_ms)}
    )


def _result(
    cell: Cell, *, hits: float | None = None, partial: bool = False, per_s: float = 20.0
) -> CellResult:
    rate = Interval(value=per_s)
    return CellResult(
        name=cell.name,
        shape={},
        workload=cell.workload,
        valid=True,
        partial=partial,
        duration_s=60.0,
        window_s=(2000.0, 2050.0),
        requests=700,
        endings={"complete": 700},
        achieved_rate_per_s=per_s,
        peak_in_flight=16,
        ttft=_latency(80.0),
        ttft_hits=None if hits is None else _latency(2.0),
        ttft_misses=None if hits is None else _latency(90.0),
        output_tokens_per_s=rate,
        total_tokens_per_s=rate,
        requests_per_s=rate,
        goodput_per_s=rate,
        slo_attainment=Interval(value=1.0),
        cache_hit_percent=hits,
    )


def _as_computed(cell: Cell) -> CellResult:
    """What the skew of the shipped workloads gives at 14 requests/s from 2,000 s on."""
    if cell.nonce:
        return _result(cell)
    skew = cache._skew(cell.workload)
    return _result(cell, hits=100 * first_hit_share(skew, 28_000, 700))


class _Run:
    """A run whose cells are made by `answer`; it remembers them. fills: those that fill the cache, of which
    each gets as many answers as it asked for, at once.
    """

    def __init__(
        self, answer: Answer, monkeypatch: pytest.MonkeyPatch, *, fills_nothing: bool = False
    ) -> None:
        self.fills_nothing = fills_nothing
        self.cells: list[Cell] = []
        self.fills: list[Cell] = []
        self._answer = answer
        monkeypatch.setattr(cache, "measure_store", self._store)

    async def __call__(self, cell: Cell, target: TargetSpec | None = None) -> CellResult:
        if cell.name.startswith("fill-"):
            self.fills.append(cell)
            return _result(cell, per_s=0.0 if self.fills_nothing else cell.requests or 0.0).model_copy(
                update={"window_s": (0.0, 1.0)}
            )
        self.cells.append(cell)
        return self._answer(cell)

    async def suite(
        self, services: ServiceAddresses | None = WITH_REDIS, profile: Profile | None = None
    ) -> SuiteResult:
        return await cache_suite(
            Bench(
                target=TargetSpec(kind="grpc", address="127.0.0.1:1"),
                profile=profile,
                slo=Slo(ttft_ms=1000.0, tpot_ms=100.0, attainment=0.99),
                seed=5,
                run_cell=self,
                say=lambda _line: None,
                state=Path("/nowhere"),
                services=services,
                simulated=True,
            )
        )

    async def _store(self, addresses: ServiceAddresses, seconds: float) -> FactTable:
        assert addresses is WITH_REDIS
        return STORE


async def test_a_warm_up_past_the_cache_then_one_cell_a_workload(monkeypatch: pytest.MonkeyPatch) -> None:
    """Prompts that repeat are those of a cell without a nonce; each asks at 70 % of what the engines do."""
    run = _Run(_as_computed, monkeypatch)

    await run.suite()

    past, *cached = run.cells
    assert past.nonce
    assert past.shape == Streams(16, ramp_s=2.0)
    assert [cell.workload for cell in cached] == ["question", "feedback", "recommendation"]
    assert all(cell.nonce == "" for cell in cached)
    assert all(isinstance(cell.shape, Rate) and cell.shape.per_s == pytest.approx(14.0) for cell in cached)
    assert len({cell.output_tokens for cell in run.cells}) == 1


async def test_the_cache_is_filled_before_each_workload(monkeypatch: pytest.MonkeyPatch) -> None:
    """From the same catalogue, by other draws, until hits are near those of a cache in use; no cell of the
    suite's. What is computed for the cell counts what was asked before.
    """
    run = _Run(_early, monkeypatch)

    result = await run.suite()

    assert [cell.name for cell in run.fills] == ["fill-question", "fill-feedback", "fill-recommendation"]
    for fill, cell in zip(run.fills, run.cells[1:], strict=True):
        assert (fill.seed, fill.workload, fill.nonce) == (cell.seed, cell.workload, "")
        assert fill.drawn > cell.drawn + 1_000_000_000
        skew, asked = cache._skew(cell.workload), fill.requests or 0
        settled = settled_hit_share(skew, 14.0, 3600.0)
        assert settled - first_hit_share(skew, asked, 1) == pytest.approx(0.04, abs=0.001)
    assert not any(one.name.startswith("fill-") for one in result.cells)
    assert [row["before"] for row in result.tables[0].rows] == [fill.requests for fill in run.fills]
    assert len(result.measurements) == 3
    assert "still filling" not in result.headline


def _early(cell: Cell) -> CellResult:
    """A minute's cell on a cache that is filled as far as the suite fills it."""
    if cell.nonce:
        return _result(cell)
    skew = cache._skew(cell.workload)
    before = round(14.0 * filling_s(skew, 14.0, 3600.0, 0.04))
    hits = 100 * first_hit_share(skew, before + 140, 700)
    return _result(cell, hits=hits).model_copy(update={"window_s": (10.0, 60.0)})


async def test_no_two_runs_ask_from_the_same_catalogue(monkeypatch: pytest.MonkeyPatch) -> None:
    """It belongs to the cell's seed: with the run's own, a second run would find the first one's answers."""
    runs = [_Run(_as_computed, monkeypatch) for _ in range(2)]
    for run in runs:
        await run.suite()

    seeds = [cell.seed for run in runs for cell in run.cells if not cell.nonce]

    assert len(set(seeds)) == 6


async def test_hits_stand_beside_the_documents_and_the_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the latency of hits and of misses, and an interval."""
    result = await _Run(_as_computed, monkeypatch, fills_nothing=True).suite()

    hits, skews, store = result.tables
    expected = 100 * first_hit_share(cache._skew("question"), 28_000, 700)
    row = hits.rows[0]
    assert [line["document"] for line in hits.rows] == [90.0, 70.0, 50.0]
    assert row["measured"] == row["computed"] == pytest.approx(expected, abs=0.001)
    assert (row["hit_ms"], row["miss_ms"]) == (2.0, 90.0)
    assert isinstance(row["low"], float)
    assert isinstance(row["high"], float)
    assert row["low"] < expected < row["high"]
    assert (hits.provenance, skews.provenance) == ("simulated", "computed")
    assert store is STORE


async def test_the_figures_have_the_estimates_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    """In percent, and simulated where the engines are."""
    result = await _Run(_as_computed, monkeypatch, fills_nothing=True).suite()

    assert [(one.key, one.unit, one.provenance) for one in result.measurements] == [
        ("cache-hit-questions-percent", "%", "simulated"),
        ("cache-hit-feedback-percent", "%", "simulated"),
        ("cache-hit-recommendations-percent", "%", "simulated"),
    ]
    assert result.problems == ()


async def test_the_sentence_says_that_the_skew_is_assumed(monkeypatch: pytest.MonkeyPatch) -> None:
    """And that the hit rate is not a property of the box."""
    result = await _Run(_as_computed, monkeypatch).suite()
    skew = cache._skew("question")

    assert "skew, which is an assumption" in result.headline
    assert f"Zipf {skew.exponent:g} over {skew.catalogue:,} prompts" in result.headline
    assert result.missed == ()


async def test_a_missed_target_is_put_down_to_the_skew(monkeypatch: pytest.MonkeyPatch) -> None:
    """At 1.4 requests/s the shipped catalogue of questions gives less than 90 %, however fast the box is."""

    def answer(cell: Cell) -> CellResult:
        share = first_hit_share(cache._skew(cell.workload), 1680, 700)
        made = _result(cell, hits=None if cell.nonce else 100 * share, per_s=2.0)
        return made.model_copy(update={"window_s": (1200.0, 1700.0)})

    result = await _Run(answer, monkeypatch, fills_nothing=True).suite()

    assert result.missed[0].startswith("cache hits of exam questions: ")
    assert result.missed[0].endswith("% (by the workload's assumed skew)")


async def test_what_the_document_would_take_is_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    """An exponent, a catalogue or a time to live, beside those assumed."""
    result = await _Run(_as_computed, monkeypatch).suite(profile=load_profile("laptop"))

    row = result.tables[1].rows[0]
    skew = cache._skew("question")
    assert (row["catalogue"], row["exponent"], row["ttl_s"]) == (skew.catalogue, skew.exponent, 3600.0)
    assert row["document"] == 90.0
    assert row["needed_ttl_s"] is not None


@pytest.mark.parametrize(("hits", "word"), [(0.0, "dreamseed status"), (100.0, "held these answers")])
async def test_hits_that_the_skew_does_not_explain_are_not_published(
    monkeypatch: pytest.MonkeyPatch, hits: float, word: str
) -> None:
    """Too few: the cache was away. Too many: it held the answers before."""

    def answer(cell: Cell) -> CellResult:
        # Early in a run the skew gives some hits and some misses.
        return _result(cell, hits=None if cell.nonce else hits).model_copy(update={"window_s": (20.0, 70.0)})

    result = await _Run(answer, monkeypatch, fills_nothing=True).suite()

    assert [problem.rule for problem in result.problems] == ["cache-unexplained"] * 3
    assert all(word in problem.remedy for problem in result.problems)
    assert result.measurements == ()


async def test_a_cache_that_is_still_filling_is_not_judged(monkeypatch: pytest.MonkeyPatch) -> None:
    """§I1 means one in use: the sentence tells what it would come to, and nothing is published or missed."""

    def answer(cell: Cell) -> CellResult:
        share = first_hit_share(cache._skew(cell.workload), 140, 700)
        made = _result(cell, hits=None if cell.nonce else 100 * share)
        return made.model_copy(update={"window_s": (10.0, 60.0)})

    result = await _Run(answer, monkeypatch, fills_nothing=True).suite()

    assert (result.measurements, result.missed, result.problems) == ((), (), ())
    assert "question 96.56 % after 8 min" in result.headline
    for row in result.tables[1].rows:
        assert isinstance(row["filling_s"], float)
        assert row["filling_s"] > 60


async def test_answers_that_do_not_tell_of_the_cache_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever answers is not our gateway: nothing is taken for a hit or a miss."""
    result = await _Run(_result, monkeypatch).suite()

    assert [problem.rule for problem in result.problems] == ["cache-untold"] * 3
    assert result.measurements == ()
    assert result.tables[0].rows[0]["measured"] is None


@pytest.mark.parametrize(
    ("services", "switched_off"),
    [(None, False), (ServiceAddresses(journal="/nowhere"), False), (WITH_REDIS, True)],
    ids=["no stack", "no redis", "switched off"],
)
async def test_without_a_cache_the_remedy_is_told(
    monkeypatch: pytest.MonkeyPatch, services: ServiceAddresses | None, switched_off: bool
) -> None:
    """Exit code 3, before a single request."""
    run = _Run(_as_computed, monkeypatch)
    profile = load_profile("laptop")
    if switched_off:
        off = profile.gateway.cache.model_copy(update={"enabled": False})
        gateway = profile.gateway.model_copy(update={"cache": off})
        profile = profile.model_copy(update={"gateway": gateway})

    with pytest.raises(MissingError, match="dreamseed serve"):
        await run.suite(services, profile)

    assert run.cells == []


async def test_a_gateway_that_answers_nothing_fails_the_suite(monkeypatch: pytest.MonkeyPatch) -> None:
    """There is no rate to ask at."""
    with pytest.raises(FailedError, match="not one request was answered"):
        await _Run(lambda cell: _result(cell, per_s=0.0), monkeypatch).suite()


def _stopped(cell: Cell) -> CellResult:
    raise StopEarly


def _cancelled(cell: Cell) -> CellResult:
    raise asyncio.CancelledError


@pytest.mark.parametrize("interrupt", [_stopped, _cancelled])
async def test_an_interruption_gives_back_what_there_is(
    monkeypatch: pytest.MonkeyPatch, interrupt: Answer
) -> None:
    """Marked partial, with the workloads that were whole by then."""
    run = _Run(
        lambda cell: interrupt(cell) if cell.workload == "feedback" else _as_computed(cell), monkeypatch
    )

    result = await run.suite()

    assert result.partial
    assert [row["workload"] for row in result.tables[0].rows] == ["question"]
    assert len(result.cells) == 2


async def test_a_cell_cut_short_publishes_no_figure(monkeypatch: pytest.MonkeyPatch) -> None:
    """After Ctrl-C its result is partial, and the next call stops."""

    def answer(cell: Cell) -> CellResult:
        if cell.workload == "feedback":
            raise StopEarly
        made = _as_computed(cell)
        return made if cell.nonce else made.model_copy(update={"partial": True})

    result = await _Run(answer, monkeypatch).suite()

    assert result.partial
    assert result.measurements == ()


async def test_an_interruption_before_the_first_workload_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """The store's own figures are kept."""
    result = await _Run(_stopped, monkeypatch).suite()

    assert result.partial
    assert result.headline == "No workload's hit rate could be measured."
    assert result.tables == (STORE,)


def test_the_shipped_workloads_name_their_skew() -> None:
    """One for each of §I1's three."""
    skews: list[Skew] = [cache._skew(workload) for workload in cache.WORKLOADS]

    assert all(skew.catalogue > 1 and skew.exponent > 0 for skew in skews)


@pytest.mark.parametrize("workload", cache.WORKLOADS)
def test_requests_repeat_as_computed(workload: str) -> None:
    """The real generator's, by all that the gateway's key is made of: 600 after 200, of four catalogues."""
    source, shares = load(workload), []
    for seed in range(4):
        cell = Cell(name="x", shape=Rate(1.0), duration_s=1.0, seed=seed, workload=workload, output_tokens=8)
        jobs = [source.job(cell, number) for number in range(800)]
        assert not any(job.bypass_cache for job in jobs)
        keys = [(job.system_prompt, job.prompt, job.wanted_tokens, job.temperature, job.seed) for job in jobs]
        known, hits = set(keys[:200]), 0
        for key in keys[200:]:
            hits += key in known
            known.add(key)
        shares.append(hits / 600)

    assert first_hit_share(cache._skew(workload), 200, 600) == pytest.approx(sum(shares) / 4, abs=0.02)
