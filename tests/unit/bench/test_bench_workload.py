"""Which requests a workload makes: their lengths, that they can be made again, that none is like another."""

from __future__ import annotations

import random
from collections import Counter
from itertools import pairwise
from os.path import commonprefix
from pathlib import Path
from statistics import fmean
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dreamseed_cli.bench.records import Job
from dreamseed_cli.bench.shapes import Cell, Rate
from dreamseed_cli.bench.workload import DEFAULT_MIX, Workload, load
from dreamseed_cli.bench.workload.files import shipped_names
from dreamseed_cli.bench.workload.kind import Lengths
from dreamseed_cli.bench.workload.text import count_tokens, write_prompt
from dreamseed_cli.bench.workload.trace import TraceEntry
from dreamseed_cli.core.errors import ErrorGroup, UsageError

_MANY = 4000
_TEMPLATE_BLOCK = 16
"""vLLM's block: a shorter prefix in common is never found in its cache."""


def _cell(**changes: Any) -> Cell:
    values: dict[str, Any] = {
        "name": "c",
        "shape": Rate(1.0),
        "duration_s": 1.0,
        "seed": 7,
        "nonce": "a1b2c3d4",
    }
    return Cell(**(values | changes))


def _jobs(workload: Workload, count: int = _MANY, **cell: Any) -> list[Job]:
    made = _cell(**cell)
    return [workload.job(made, number) for number in range(count)]


def _dice(seed: int) -> random.Random:
    return random.Random(seed)  # noqa: S311 - lengths, not secrets


def _all_text(job: Job) -> str:
    """As a chat template puts it: the system prompt first."""
    return (job.system_prompt or "") + job.prompt


def _in_common(one: str, other: str) -> int:
    """How many characters both begin with."""
    return len(commonprefix([one, other]))  # noqa: RUF071 - texts, not paths


def test_the_default_mix_answers_with_the_documents_average() -> None:
    """§B1 counts with 200 tokens; what is drawn keeps to what is computed."""
    mix = load(DEFAULT_MIX)
    assert mix.mean_output_tokens == pytest.approx(200, rel=0.002)
    assert fmean(job.wanted_tokens for job in _jobs(mix)) == pytest.approx(200, rel=0.05)


@pytest.mark.parametrize("name", shipped_names())
def test_shipped_workloads_have_the_lengths_they_state(name: str) -> None:
    """Median and 95th percentile of the answers, and every length within its bounds."""
    workload = load(name)
    lengths = workload.kinds[0].output_tokens
    drawn = sorted(job.wanted_tokens for job in _jobs(workload))
    assert drawn[_MANY // 2] == pytest.approx(lengths.median, rel=0.06)
    assert drawn[_MANY * 95 // 100] == pytest.approx(lengths.p95, rel=0.1)
    assert lengths.min <= drawn[0] < drawn[-1] <= lengths.max
    assert workload.kinds[0].name == name


def test_the_document_names_what_is_shipped() -> None:
    """Exam questions, feedback and recommendations, by the names that the gateway's metrics know."""
    assert shipped_names() == ["feedback", "question", "recommendation"]


@given(
    st.floats(1, 500), st.floats(1.0, 5.0), st.integers(1, 400), st.integers(0, 2000), st.integers(0, 2**32)
)
def test_a_length_stays_within_its_bounds(
    median: float, spread: float, low: int, more: int, seed: int
) -> None:
    """Whatever the distribution; and its mean lies between them, too."""
    low = min(low, int(median))
    lengths = Lengths(median=median, p95=median * spread, min=low, max=max(low + more, int(median) + 1))
    assert lengths.min <= lengths.draw(_dice(seed)) <= lengths.max
    assert lengths.min <= lengths.mean <= lengths.max + 1e-9


def test_the_mean_is_that_of_what_is_drawn() -> None:
    """Rounded and cut off at both ends, which moves it away from the lognormal's own."""
    lengths = Lengths(median=100.0, p95=400.0, min=60, max=250)
    rng = _dice(3)
    assert fmean(lengths.draw(rng) for _ in range(20_000)) == pytest.approx(lengths.mean, rel=0.01)
    assert Lengths(median=9.0, p95=9.0, min=1, max=20).mean == pytest.approx(9.0)


def test_the_same_seed_and_number_make_the_same_request() -> None:
    """In any process and in any order; another seed makes others."""
    again = load(DEFAULT_MIX)
    jobs = _jobs(load(DEFAULT_MIX), 50)
    assert [again.job(_cell(), number) for number in reversed(range(50))] == jobs[::-1]
    others = _jobs(again, 50, seed=8)
    assert [job.wanted_tokens for job in others] != [job.wanted_tokens for job in jobs]


@pytest.mark.parametrize("prompt_tokens", [None, 8, 1000])
def test_no_two_prompts_share_a_block_of_their_beginning(prompt_tokens: int | None) -> None:
    """Neither in a cell nor across cells with other nonces; the system prompt is no exception."""
    mix = load(DEFAULT_MIX)
    cells = [_jobs(mix, 1200, nonce=nonce, prompt_tokens=prompt_tokens) for nonce in ("a1b2c3d4", "a1b2c3d5")]
    texts = sorted(_all_text(job) for jobs in cells for job in jobs)
    assert max(_in_common(one, other) for one, other in pairwise(texts)) < _TEMPLATE_BLOCK
    assert all(job.system_prompt and job.bypass_cache for jobs in cells for job in jobs)


def test_prompts_have_about_the_wanted_length() -> None:
    """System prompt included; one that is too short for the task keeps its mark."""
    for wanted in (40, 60, 400, 3000):
        for job in _jobs(load("question"), 50, prompt_tokens=wanted):
            assert count_tokens(_all_text(job)) == pytest.approx(wanted, abs=10)
    short = load("question").job(_cell(prompt_tokens=1, output_tokens=3), 5)
    assert (short.prompt, short.wanted_tokens) == ("5-a1b2c3d4", 3)


@given(st.integers(-5, 3000), st.text(max_size=40), st.integers())
def test_a_prompt_is_never_longer_than_asked_nor_without_its_opening(
    tokens: int, opening: str, seed: int
) -> None:
    """Only the opening may be."""
    prompt = write_prompt(_dice(seed), opening, tokens)
    assert prompt.startswith(opening)
    assert prompt == opening or len(prompt) <= tokens * 4 + 1


def test_prompts_without_a_nonce_repeat_by_their_popularity() -> None:
    """A finite catalogue; the first of it comes twice as often as the second; what repeats is the same
    request but for its number, so that a cache can answer it.
    """
    jobs = _jobs(load("question"), nonce="")
    counts = Counter(job.prompt for job in jobs)
    (first, most), (second, next_most) = counts.most_common(2)
    assert (first[:11], second[:11]) == ("Exercise 1.", "Exercise 2.")
    assert most / next_most == pytest.approx(2.0, rel=0.25)
    assert len({msgspec.structs.replace(job, number=0) for job in jobs}) == len(counts)
    assert len(counts) < 2000
    assert not any(job.bypass_cache for job in jobs)


def test_a_mix_keeps_its_shares() -> None:
    """In proportion to their sum, each request by its own file."""
    counts = Counter(job.workload for job in _jobs(load("question=3, feedback=1")))
    assert counts["question"] / _MANY == pytest.approx(0.75, abs=0.03)
    assert set(counts) == {"question", "feedback"}
    kinds = load("question=3,feedback=1").kinds
    assert load("question=3,feedback=1").mean_output_tokens == pytest.approx(
        0.75 * kinds[0].output_tokens.mean + 0.25 * kinds[1].output_tokens.mean
    )


def test_a_traces_request_has_its_lengths() -> None:
    """Its kind is the trace's where it is one of the mix, and a prompt of its own is sent as it is."""
    mix = load(DEFAULT_MIX)
    plain = [mix.job(_cell(), number, TraceEntry(0.0, 500, 33, "feedback")) for number in range(20)]
    assert {(job.workload, job.wanted_tokens) for job in plain} == {("feedback", 33)}
    assert all("Give feedback" in job.prompt for job in plain)
    assert all(count_tokens(_all_text(job)) == pytest.approx(500, abs=10) for job in plain)
    own = mix.job(_cell(), 0, TraceEntry(0.0, 5, 33, "essay", "Why?"))
    assert (own.prompt, own.system_prompt, own.workload) == ("Why?", None, "essay")


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("essay", "at 'essay': no workload has this name. Shipped are: feedback, question"),
        ("question=x", "the share of 'question' is 'x'"),
        ("question=0", "the share of 'question' is '0'"),
        ("question=-1", "the share of 'question' is '-1'"),
        ("question=nan", "the share of 'question' is 'nan'"),
        ("question=inf", "the share of 'question' is 'inf'"),
        ("question=0.5,question=0.5", "names a workload twice"),
        ("", "no workload has this name"),
        ("./none.toml", "cannot be read"),
    ],
)
def test_a_wrong_name_or_share_is_told(spec: str, said: str) -> None:
    """With what there is to choose from."""
    with pytest.raises(UsageError) as caught:
        load(spec)
    assert said in str(caught.value)


_OWN = """
name = "essay"
description = "d"
source = "s"
opening = "Read this."
[prompt_tokens]
median = 50
p95 = 90
min = 10
max = 200
[output_tokens]
median = 20
p95 = 20
min = 20
max = 20
"""


def test_a_file_of_ones_own(tmp_path: Path) -> None:
    """By its path, alone or in a mix; without a system prompt the mark stands in its place."""
    path = tmp_path / "essay.toml"
    path.write_text(f"temperature = 0.2\ntop_p = 0.5\n{_OWN}")
    job = load(str(path)).job(_cell(), 1)
    assert (job.temperature, job.top_p) == (0.2, 0.5)
    assert (job.workload, job.wanted_tokens, job.system_prompt) == ("essay", 20, "1-a1b2c3d4")
    assert job.prompt.startswith("1-a1b2c3d4 Read this. ")
    assert load(str(path)).job(_cell(nonce=""), 1).system_prompt is None
    assert [kind.name for kind in load(f"{path}=0.5,question=0.5").kinds] == ["essay", "question"]


@pytest.mark.parametrize(
    ("old", "new", "places"),
    [
        ('opening = "Read this."', "", ["opening"]),
        ("median = 50", "median = 5", ["prompt_tokens"]),
        ("p95 = 90", "p95 = 49", ["prompt_tokens"]),
        ("median = 20", "median = 20\nmodus = 3", ["output_tokens.modus"]),
        ('source = "s"', "source = 3\ntemperature = 9.0", ["source", "temperature"]),
        ('name = "essay"', 'name = "An essay"', ["name"]),
    ],
)
def test_all_mistakes_of_a_file_are_named_at_once(
    tmp_path: Path, old: str, new: str, places: list[str]
) -> None:
    """With file and field."""
    path = tmp_path / "w.toml"
    assert old in _OWN
    path.write_text(_OWN.replace(old, new, 1))
    with pytest.raises(ErrorGroup) as caught:
        load(str(path))
    assert sorted(error.place for error in caught.value.errors) == [f"{path}: {place}" for place in places]


def test_a_cell_goes_on_behind_what_was_drawn_before() -> None:
    """From the same catalogue, but other prompts than those it would begin with: they would all be cached."""
    workload = load("question")
    first, behind = (_jobs(workload, 300, nonce="", drawn=drawn) for drawn in (0, 1 << 32))
    assert [job.prompt for job in first] != [job.prompt for job in behind]
    by_mark = {job.prompt.split(".")[0]: job.prompt for job in first}
    shared = [job.prompt for job in behind if job.prompt.split(".")[0] in by_mark]
    assert shared
    assert all(prompt == by_mark[prompt.split(".")[0]] for prompt in shared)
