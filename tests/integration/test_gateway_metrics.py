"""What Prometheus reads off the gateway, and the spans it sends."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp
import grpc
import pytest
from free_ports import free_port
from gateway_harness import emulated_engine, gateway_here, gateway_process, settings, socket_folder, target
from prometheus_client.parser import text_string_to_metric_families
from trace_collector import trace_collector

from dreamseed_cli.gateway.proto import GENERATE
from dreamseed_cli.gateway.proto.llm_pb2 import PREMIUM, GenerateRequest
from dreamseed_cli.profile.schema import Cache


@pytest.fixture(scope="module")
def engine_socket() -> Iterator[Path]:
    """One emulated engine."""
    with socket_folder() as folder, emulated_engine(folder, "e0") as engine:
        yield engine.socket


def _samples(text: str) -> dict[tuple[str, tuple[str, ...]], float]:
    return {
        (sample.name, tuple(sorted(sample.labels.values()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if not sample.name.endswith("_created")
    }


def _sorted(*labels: str) -> tuple[str, ...]:
    return tuple(sorted(labels))


async def test_every_request_is_in_the_metrics(engine_socket: Path) -> None:
    """GenAI names; TTFT, duration, TPOT and tokens by class and replica; refusals by reason."""
    with socket_folder() as folder:
        async with (
            gateway_here(settings(folder, target("r0", engine_socket))) as server,
            grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel,
        ):
            generate: Any = channel.unary_unary(GENERATE)
            for _ in range(3):
                await generate(
                    GenerateRequest(prompt="x", max_tokens=5, priority=PREMIUM).SerializeToString()
                )
            with pytest.raises(grpc.aio.AioRpcError):
                await generate(GenerateRequest(prompt="").SerializeToString())
            found = _samples(server.metrics_text().decode())
    labels = ("chat", "dreamseed", "premium", "r0", "served")
    assert found["gen_ai_server_request_duration_seconds_count", _sorted("finished", "", *labels)] == 3
    refused = _sorted("rejected", "invalid_argument", "chat", "dreamseed", "unknown", "", "served")
    assert found["gen_ai_server_request_duration_seconds_count", refused] == 1
    assert found["gen_ai_server_time_to_first_token_seconds_count", labels] == 3
    assert found["gen_ai_server_time_per_output_token_seconds_count", labels] == 3
    assert found["gen_ai_client_token_usage_sum", _sorted("output", *labels)] == 15
    assert found["gen_ai_client_token_usage_sum", _sorted("input", *labels)] > 0
    assert found["dreamseed_rejections_total", ("invalid_argument", "unknown")] == 1
    assert found["dreamseed_replica_ready", ("r0",)] == 1
    assert found["dreamseed_replica_outstanding_requests", ("r0",)] == 0


async def test_an_answer_for_many_is_one_replicas_work_once(engine_socket: Path) -> None:
    """Those who came along with an equal request stand under `cache`: no engine generated their tokens."""
    with socket_folder() as folder:
        async with (
            gateway_here(settings(folder, target("r0", engine_socket), cache=Cache())) as server,
            grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel,
        ):
            generate: Any = channel.unary_unary(GENERATE)
            message = GenerateRequest(prompt="same", max_tokens=200, priority=PREMIUM).SerializeToString()
            await asyncio.gather(*(generate(message) for _ in range(4)))
            found = _samples(server.metrics_text().decode())
    labels = ("chat", "dreamseed", "output", "premium", "served")
    assert found["gen_ai_client_token_usage_sum", _sorted("r0", *labels)] == 200
    assert found["gen_ai_client_token_usage_sum", _sorted("cache", *labels)] == 600


def test_metrics_are_offered_on_loopback_where_asked(engine_socket: Path) -> None:
    """All, or those named. The port tells nothing else: the replica table stays on the owner's socket."""
    port = free_port()
    with socket_folder() as folder:
        wanted = settings(folder, target("r0", engine_socket), metrics_port=port)
        with gateway_process(folder, wanted):
            assert "dreamseed_replica_ready" in asyncio.run(_request("GET", port, "/metrics"))[1]
            some = asyncio.run(_request("GET", port, "/metrics?name[]=dreamseed_replica_ready"))[1]
            assert {name for name, _ in _samples(some)} == {"dreamseed_replica_ready"}
            assert asyncio.run(_request("PUT", port, "/replicas"))[0] == 404


async def _request(method: str, port: int, path: str) -> tuple[int, str]:
    async with (
        aiohttp.ClientSession() as session,
        session.request(method, f"http://127.0.0.1:{port}{path}", json=[]) as reply,
    ):
        return reply.status, await reply.text()


def test_a_request_is_a_span_by_the_genai_conventions(
    engine_socket: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where an OTLP endpoint is named, spans go there: with figures, the caller's trace, and no prompt."""
    trace_id = "0af7651916cd43dd8448eb211c80319c"
    with trace_collector(monkeypatch) as collector:
        with (
            socket_folder() as folder,
            gateway_process(folder, settings(folder, target("r0", engine_socket))) as gateway,
            grpc.insecure_channel(gateway.address) as channel,
        ):
            generate: Any = channel.unary_unary(GENERATE)
            generate(
                GenerateRequest(prompt="a secret prompt", max_tokens=5).SerializeToString(),
                metadata=(("traceparent", f"00-{trace_id}-b7ad6b7169203331-01"),),
            )
        (span,) = collector.spans()
    attributes = {entry.key: entry.value for entry in span.attributes}
    assert span.name == "chat served"
    assert span.trace_id.hex() == trace_id
    assert attributes["gen_ai.usage.output_tokens"].int_value == 5
    assert attributes["gen_ai.response.finish_reasons"].array_value.values[0].string_value == "length"
    assert b"secret" not in b"".join(request.SerializeToString() for request in collector.requests)


async def test_states_of_replicas_are_in_the_metrics(engine_socket: Path) -> None:
    """Each as the supervisor tells it, and every change with its reason."""
    ready = target("r0", engine_socket).model_copy(update={"state": "ready", "reason": "answered"})
    away = ready.model_copy(update={"ready": False, "state": "hung", "reason": "no_progress"})
    with socket_folder() as folder:
        async with gateway_here(settings(folder)) as server:
            for table in (ready, ready, away, ready):
                await server.set_replicas([table])
            found = _samples(server.metrics_text().decode())
    assert found["dreamseed_replica_state", ("r0", "ready")] == 1
    assert ("dreamseed_replica_state", ("hung", "r0")) not in found
    assert found["dreamseed_replica_transitions_total", ("answered", "r0", "ready")] == 2
    assert found["dreamseed_replica_transitions_total", ("hung", "no_progress", "r0")] == 1
