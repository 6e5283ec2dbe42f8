"""Reading an engine's /metrics."""

from __future__ import annotations

from dreamseed_cli.engine.metrics import EngineMetrics, parse_metrics

_VLLM = """\
# HELP vllm:num_requests_running Number of requests in model execution batches.
# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{engine="0",model_name="m"} 3.0
vllm:num_requests_running{engine="1",model_name="m"} 2.0
# TYPE vllm:num_requests_waiting gauge
vllm:num_requests_waiting{engine="0",model_name="m"} 7.0
vllm:num_requests_waiting_by_reason{engine="0",model_name="m",reason="capacity"} 7.0
vllm:kv_cache_usage_perc{engine="0",model_name="m"} 0.25
vllm:kv_cache_usage_perc{engine="1",model_name="m"} 0.5
vllm:generation_tokens_total{engine="0",model_name="m"} 1.5e+06
vllm:generation_tokens_created{engine="0",model_name="m"} 1.7e+09
"""


def test_vllms_names_are_read_and_engine_cores_added_up() -> None:
    """Requests and tokens are summed over the cores; the fullest KV cache counts."""
    assert parse_metrics(_VLLM) == EngineMetrics(5, 7, 0.5, 1_500_000)


def test_the_prefix_cache_is_told_of_where_there_is_one() -> None:
    """An engine without one gives None: it is not taken for one without a hit."""
    text = _VLLM + (
        'vllm:prefix_cache_queries_total{engine="0"} 300\nvllm:prefix_cache_queries_total{engine="1"} 100\n'
        'vllm:prefix_cache_hits_total{engine="0"} 30\nvllm:prefix_cache_hits_total{engine="1"} 0\n'
    )
    told, silent = parse_metrics(text), parse_metrics(_VLLM)
    assert told is not None
    assert silent is not None
    assert (told.prefix_queries_total, told.prefix_hits_total) == (400, 30)
    assert (silent.prefix_queries_total, silent.prefix_hits_total) == (None, None)


def test_a_server_with_other_metrics_has_none() -> None:
    """Another server's metrics are not taken for vLLM's."""
    assert parse_metrics("# TYPE up gauge\nup 1\n") is None
