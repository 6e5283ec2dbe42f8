"""What an engine tells of itself on `/metrics`, under vLLM's names."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from prometheus_client.parser import text_string_to_metric_families

RUNNING = "vllm:num_requests_running"
WAITING = "vllm:num_requests_waiting"
KV_USAGE = "vllm:kv_cache_usage_perc"
GENERATION_TOKENS = "vllm:generation_tokens_total"
PROMPT_TOKENS = "vllm:prompt_tokens_total"
PREFIX_QUERIES = "vllm:prefix_cache_queries_total"
PREFIX_HITS = "vllm:prefix_cache_hits_total"
_NAMES = (RUNNING, WAITING, KV_USAGE, GENERATION_TOKENS, PROMPT_TOKENS, PREFIX_QUERIES, PREFIX_HITS)
_WANTED = tuple(f"{name}{end}" for name in _NAMES for end in "{ ")


@dataclass(frozen=True, slots=True)
class EngineMetrics:
    """One look at an engine.

    running, waiting: requests. kv_usage: share of the KV cache in use, 0 to 1.
    generation_tokens_total, prompt_tokens_total: tokens generated and read since the engine started.
    prefix_queries_total, prefix_hits_total: tokens of prompts looked up and found in its prefix cache; None
    for an engine without one.
    """

    running: int
    waiting: int
    kv_usage: float
    generation_tokens_total: int
    prompt_tokens_total: int = 0
    prefix_queries_total: int | None = None
    prefix_hits_total: int | None = None


def parse_metrics(text: str) -> EngineMetrics | None:
    """These figures in a Prometheus text; None if the server is not one with vLLM's names.

    Several engine cores behind one server are added up; of their KV caches the fullest counts.
    """
    values: dict[str, list[float]] = {}
    for name, value in _samples(text):
        values.setdefault(name, []).append(value)
    if RUNNING not in values or WAITING not in values:
        return None
    return EngineMetrics(
        running=int(sum(values[RUNNING])),
        waiting=int(sum(values[WAITING])),
        kv_usage=max(values.get(KV_USAGE, [0.0])),
        generation_tokens_total=int(sum(values.get(GENERATION_TOKENS, []))),
        prompt_tokens_total=int(sum(values.get(PROMPT_TOKENS, []))),
        prefix_queries_total=_total(values.get(PREFIX_QUERIES)),
        prefix_hits_total=_total(values.get(PREFIX_HITS)),
    )


def _total(values: list[float] | None) -> int | None:
    return None if values is None else int(sum(values))


def _samples(text: str) -> Iterator[tuple[str, float]]:
    # vLLM has some hundred histograms; parsing only the wanted lines is 50 times less work.
    wanted = "\n".join(line for line in text.splitlines() if line.startswith(_WANTED))
    for family in text_string_to_metric_families(wanted + "\n"):
        for sample in family.samples:
            yield sample.name, sample.value
