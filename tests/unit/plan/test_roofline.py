"""The roofline, against figures worked by hand."""

from dataclasses import replace
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dreamseed_cli.plan.layouts import roofline_engine
from dreamseed_cli.plan.roofline import (
    BANDWIDTH_EFFICIENCY,
    Engine,
    batches,
    compute_bound_from,
    decode_point,
    decode_seconds,
    decode_table,
    decode_tok_s,
    prefill_tok_s,
    single_stream_tok_s,
)
from dreamseed_cli.plan.tables import cards, models
from dreamseed_cli.profile.schema import VllmEngine

# A made-up engine with round figures: 10 GB of weights, 1 MB a token, 1 TB/s, 100 TFLOPS.
_ROUND = Engine(1e10, 1e6, 5_000_000_000, 1e12, 1e14)

_ENGINES = st.builds(
    Engine,
    weights_bytes=st.floats(1e8, 2e11),
    kv_bytes_per_token=st.floats(1e3, 1e6),
    parameters=st.integers(10**8, 10**11),
    bandwidth_bytes_s=st.floats(1e11, 1e13),
    peak_flops=st.floats(1e13, 1e15) | st.none(),
    attention_flops_per_token=st.floats(0, 1e7),
    tensor_parallel_size=st.integers(1, 8),
    pipeline_parallel_size=st.integers(1, 8),
    expert_bytes=st.floats(0, 1),
    active_share=st.floats(0.01, 1.0),
    window_share=st.floats(0.0, 1.0),
    window_tokens=st.integers(1, 4096),
).map(lambda one: replace(one, expert_bytes=one.expert_bytes * one.weights_bytes))


def test_the_documents_single_stream_bounds() -> None:
    """§B1, contradiction 4: 1,792 GB/s over 13.477 GB is 133.0, over a round 14 GB 128, over 26.03 68.8."""
    assert single_stream_tok_s(13.476831232e9, 1792e9) == pytest.approx(132.97, abs=0.01)
    assert single_stream_tok_s(14e9, 1792e9) == 128
    assert single_stream_tok_s(26.03172864e9, 1792e9) == pytest.approx(68.84, abs=0.01)


@pytest.mark.parametrize(("name", "bound"), [("7b", 132.97), ("13b", 68.84)])
def test_the_same_from_the_tables(name: str, bound: float) -> None:
    """The weights of the table in float16; with no context the first step of decoding is that bound."""
    engine = VllmEngine(kind="vllm", device="cuda", model="m", dtype="float16")
    speed = roofline_engine(models()[f"meta-llama/Llama-2-{name}-chat-hf"], cards()["rtx5090"], engine)
    assert decode_tok_s(speed, batch=1, context=0) == pytest.approx(bound, abs=0.01)


@pytest.mark.parametrize(("held", "asked"), [("fp8", None), (None, "fp8")])
def test_weights_in_fp8_are_multiplied_in_fp8(
    held: Literal["fp8"] | None, asked: Literal["fp8"] | None
) -> None:
    """Whether they come so or vLLM makes them so: 419 TFLOPS, not 209.5; 4 bits are widened."""
    eight = models()["meta-llama/Llama-3.1-8B-Instruct"].model_copy(update={"quantization": held})
    engine = VllmEngine(kind="vllm", device="cuda", model="m", quantization=asked)
    assert roofline_engine(eight, cards()["rtx5090"], engine).peak_flops == 419e12
    awq, plain = models()["Qwen/Qwen3-14B-AWQ"], VllmEngine(kind="vllm", device="cuda", model="m")
    assert roofline_engine(awq, cards()["rtx5090"], plain).peak_flops == 209.5e12


def test_decode_by_hand() -> None:
    """Batch 10, 1,000 tokens: (10 GB + 10 GB) / 1 TB/s = 20 ms against 10 x 10 GFLOP / 100 TFLOPS = 1 ms."""
    assert decode_seconds(_ROUND, batch=10, context=1000) == pytest.approx((0.020, 0.001))
    point = decode_point(_ROUND, batch=10, context=1000)
    assert point.bound_tok_s == pytest.approx(500)
    assert point.bound_per_sequence_tok_s == pytest.approx(50)
    assert point.expected_tok_s == pytest.approx(500 * BANDWIDTH_EFFICIENCY)
    assert point.limited_by == "bandwidth"


def test_compute_takes_over_where_it_is_said_to() -> None:
    """Without context: 10 ms for the weights, 0.1 ms a sequence: from the 101st on compute bounds."""
    assert compute_bound_from(_ROUND, context=0) == 101
    assert decode_point(_ROUND, batch=100, context=0).limited_by == "bandwidth"
    assert decode_point(_ROUND, batch=101, context=0).limited_by == "compute"
    assert decode_tok_s(_ROUND, batch=1000, context=0) == pytest.approx(10_000)


def test_compute_never_takes_over_from_long_keys_and_values() -> None:
    """1,000 tokens of 1 MB take 1 ms a sequence to read, and 0.1 ms to work on."""
    assert compute_bound_from(_ROUND, context=1000) is None


def test_a_card_without_known_compute_is_bound_by_bandwidth() -> None:
    """And has no prefill figure."""
    unknown = replace(_ROUND, peak_flops=None)
    assert decode_point(unknown, batch=10_000, context=0).limited_by == "bandwidth"
    assert prefill_tok_s(unknown, prompt=512) is None


def test_two_cards_share_every_step_a_pipeline_only_keys_and_values() -> None:
    """Tensor 2: 10 + 10 GB at 2 TB/s, 10 ms. Pipeline 2: 10 GB twice at half each, 5 GB: 15 ms."""
    tensor, pipeline = (
        replace(_ROUND, tensor_parallel_size=2),
        replace(_ROUND, pipeline_parallel_size=2),
    )
    assert decode_tok_s(tensor, batch=10, context=1000) == pytest.approx(1000)
    assert decode_tok_s(pipeline, batch=10, context=1000) == pytest.approx(10 / 0.015)


def test_a_sequence_alone_goes_through_the_whole_pipeline() -> None:
    """2 GB, a quarter of 8 GB of experts, and 1 GB of keys and values: 5 ms, however many stages there are.

    Four at a time are in four stages, each as fast as alone.
    """
    four = replace(_ROUND, pipeline_parallel_size=4, expert_bytes=8e9, active_share=0.25)
    for batch in range(1, 5):
        assert decode_tok_s(four, batch=batch, context=1000) == pytest.approx(batch / 0.005)
    assert decode_tok_s(four, batch=5, context=1000) < 5 / 0.005
    assert decode_seconds(four, batch=1, context=0)[1] == pytest.approx(1e10 / 1e14)


def test_prefill_by_hand() -> None:
    """1,000 tokens x 10 GFLOP = 10 TFLOP, 0.1 s at 100 TFLOPS; ten tokens wait for the weights, 10 ms."""
    long, short = prefill_tok_s(_ROUND, prompt=1000), prefill_tok_s(_ROUND, prompt=10)
    assert long is not None
    assert short is not None
    assert long == pytest.approx((10_000, 5_000))
    assert short[0] == pytest.approx(1000)


def test_batches_double_and_end_with_what_fits() -> None:
    """None if nothing fits."""
    assert batches(0) == []
    assert batches(1) == [1]
    assert batches(8) == [1, 2, 4, 8]
    assert batches(58) == [1, 2, 4, 8, 16, 32, 58]
    assert [one.batch for one in decode_table(_ROUND, most=3, context=1)] == [1, 2, 3]


@given(engine=_ENGINES, batch=st.integers(1, 512), context=st.integers(0, 8192))
def test_a_larger_batch_never_lowers_the_throughput_nor_raises_a_sequences_share(
    engine: Engine, batch: int, context: int
) -> None:
    """What batching is for, and what it costs (§I2)."""
    less, more = (decode_point(engine, batch=b, context=context) for b in (batch, batch + 1))
    assert more.bound_tok_s >= less.bound_tok_s * (1 - 1e-9)
    assert more.bound_per_sequence_tok_s <= less.bound_per_sequence_tok_s * (1 + 1e-9)
    assert less.expected_tok_s <= less.bound_tok_s


@given(engine=_ENGINES, batch=st.integers(1, 4096), context=st.integers(0, 8192))
def test_compute_bounds_exactly_from_the_batch_that_is_named(
    engine: Engine, batch: int, context: int
) -> None:
    """Below it bandwidth, from it on compute (but for rounding next to it)."""
    start = compute_bound_from(engine, context=context)
    limited_by = decode_point(engine, batch=batch, context=context).limited_by
    if start is None or batch < start - 1:
        assert limited_by == "bandwidth"
    elif batch > start:
        assert limited_by == "compute"
