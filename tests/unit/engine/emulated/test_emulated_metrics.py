"""The histogram that takes many values at once, and the names that vLLM's users look for."""

from __future__ import annotations

import bisect
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from dreamseed_cli.engine.emulated.metrics import Histogram, Metrics
from dreamseed_cli.engine.emulated.scheduler import Scheduler
from dreamseed_cli.profile.schema import EmulatedCard

BOUNDS = (0.001, 0.01, 0.1)
LABELS = ("m", "0")


def cumulated(histogram: Histogram) -> dict[str, float]:
    """The buckets as exposed."""
    samples = histogram.family("h", "", LABELS).samples
    return {s.labels["le"]: s.value for s in samples if s.name == "h_bucket"}


@given(st.lists(st.floats(-0.01, 0.2), max_size=50))
def test_sorted_values_count_as_single_ones(values: list[float]) -> None:
    """Adding a step's ascending times at once counts them as adding each alone does."""
    values.sort()
    histogram = Histogram(BOUNDS)
    histogram.add_sorted(values, origin=0.0)
    expected = {str(bound): bisect.bisect_right(values, bound) for bound in BOUNDS}
    assert cumulated(histogram) == expected | {"+Inf": len(values)}


def test_repeated_value() -> None:
    """A value may be added many times at once, into the bucket whose bound it reaches."""
    histogram = Histogram(BOUNDS)
    histogram.add(0.01, 5)
    histogram.add(9.0)
    assert cumulated(histogram) == {"0.001": 0, "0.01": 5, "0.1": 5, "+Inf": 6}
    total = [s.value for s in histogram.family("h", "", LABELS).samples if s.name == "h_sum"]
    assert math.isclose(total[0], 9.05)


@pytest.mark.parametrize(
    "name",
    [
        "vllm:num_requests_running",
        "vllm:num_requests_waiting",
        "vllm:kv_cache_usage_perc",
        "vllm:generation_tokens_total",
        "vllm:prompt_tokens_total",
        "vllm:prefix_cache_queries_total",
        "vllm:prefix_cache_hits_total",
        "vllm:num_preemptions_total",
        "vllm:request_success_total",
        "vllm:time_to_first_token_seconds_bucket",
        "vllm:inter_token_latency_seconds_bucket",
        "vllm:e2e_request_latency_seconds_bucket",
        "dreamseed:emulated_token_lateness_seconds_sum",
    ],
)
def test_exposition_has_vllms_names_and_labels(name: str) -> None:
    """Each metric is there from the start, with vLLM's name and its labels model_name and engine."""
    card = EmulatedCard(
        source="test",
        prefill_tokens_per_s=1.0,
        decode_step_ms=1.0,
        decode_step_ms_per_seq=0.0,
        kv_cache_tokens=10,
    )
    text = Metrics(Scheduler(card, 1), "emu").text().decode()
    samples = [s for family in text_string_to_metric_families(text) for s in family.samples]
    found = [s for s in samples if s.name == name]
    assert found
    assert all(s.labels["model_name"] == "emu" and s.labels["engine"] == "0" for s in found)
