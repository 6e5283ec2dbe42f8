"""A span for every request, by OpenTelemetry's GenAI conventions, where an OTLP endpoint is named.

The standard variables decide: OTEL_EXPORTER_OTLP_ENDPOINT turns it on, OTEL_TRACES_SAMPLER thins it out.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from dreamseed_cli.gateway.events.record import Outcome
from dreamseed_cli.gateway.journey import PROVIDER, Journey

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider

_ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
_NS = 1_000_000_000


class Tracing:
    """Sends spans in the background, in batches; prompts and answers are never in them."""

    def __init__(self, provider: TracerProvider, model: str) -> None:
        self._provider = provider
        self._tracer = provider.get_tracer("dreamseed.gateway")
        self._model = model

    @classmethod
    def from_environment(cls, model: str) -> Tracing | None:
        """None where no endpoint is named: then nothing of OpenTelemetry is even imported."""
        if not any(os.environ.get(name) for name in _ENDPOINTS):
            return None
        from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor

        provider = TracerProvider(
            resource=Resource.create(
                {"service.name": os.environ.get("OTEL_SERVICE_NAME", "dreamseed-gateway")}
            )
        )
        provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
        return cls(provider, model)

    def end(self, journey: Journey, outcome: Outcome, reason: str | None) -> None:
        """Tell of a request that has ended."""
        from opentelemetry.trace import SpanKind, Status, StatusCode

        span = self._tracer.start_span(
            f"{journey.operation} {self._model}",
            context=_parent(journey.traceparent),
            kind=SpanKind.SERVER,
            start_time=int(journey.arrived_at * _NS),
            attributes=_attributes(journey, self._model, outcome),
        )
        if reason is not None:
            span.set_attribute("error.type", reason)
        if outcome is Outcome.FAILED:
            span.set_status(Status(StatusCode.ERROR, reason))
        span.end(int((journey.arrived_at + journey.elapsed_s()) * _NS))

    def close(self) -> None:
        """Send what is left, within the exporter's own time limit. Blocks: call it in a thread."""
        self._provider.shutdown()


def _parent(traceparent: str | None) -> Any:
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    return TraceContextTextMapPropagator().extract({"traceparent": traceparent}) if traceparent else None


def _attributes(journey: Journey, model: str, outcome: Outcome) -> dict[str, Any]:
    found: dict[str, Any] = {
        "gen_ai.operation.name": journey.operation,
        "gen_ai.provider.name": PROVIDER,
        "gen_ai.request.model": model,
        "gen_ai.usage.output_tokens": journey.tokens,
        "dreamseed.outcome": outcome.value,
        "dreamseed.priority": journey.priority,
        "dreamseed.replica": journey.replica,
        "dreamseed.cache_hit": journey.cache_hit,
        "dreamseed.simulated": journey.simulated,
    }
    optional = {
        "gen_ai.usage.input_tokens": journey.prompt_tokens,
        "gen_ai.response.finish_reasons": (journey.finish_reason,) if journey.finish_reason else None,
        "gen_ai.server.time_to_first_token": journey.ttft_s,
        "dreamseed.queue_s": journey.queue_s,
    }
    if journey.wish is not None:
        request = journey.wish.request
        found |= {
            "gen_ai.request.max_tokens": request.max_tokens,
            "gen_ai.request.temperature": request.temperature,
            "gen_ai.request.top_p": request.top_p,
        }
    return found | {name: value for name, value in optional.items() if value is not None}
