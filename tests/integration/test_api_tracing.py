"""A caller's trace goes through the front into the gateway's spans."""

from __future__ import annotations

from typing import Any

import aiohttp
import pytest
from api_harness import MODEL, serving
from gateway_harness import emulated_engine, gateway_here, settings, socket_folder, target
from trace_collector import trace_collector

from dreamseed_cli.api.settings import read_settings

_TRACES = {"1" * 32: False, "2" * 32: True}
"""Trace ids, and whether the answer is streamed."""


async def test_the_gateways_spans_belong_to_the_callers_trace(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whole and streamed; what is no trace context begins a trace of the gateway's own."""
    ask: dict[str, Any] = {
        "model": MODEL,
        "messages": [{"role": "user", "content": "Hello"}],
        "max_tokens": 2,
    }
    with (
        trace_collector(monkeypatch) as collector,
        socket_folder() as folder,
        emulated_engine(folder, "e0") as engine,
    ):
        async with gateway_here(settings(folder, target("r0", engine.socket))) as gateway:
            environment = {"GPU_ENDPOINT": f"127.0.0.1:{gateway.port}"}
            front_settings = read_settings(environment, allow_anonymous=True)
            async with serving(front_settings) as front, aiohttp.ClientSession(front.url) as http:
                sent = {f"00-{trace}-b7ad6b7169203331-01": streamed for trace, streamed in _TRACES.items()}
                for traceparent, streamed in (sent | {"00-of-nobody": False}).items():
                    async with http.post(
                        "/v1/chat/completions",
                        json=ask | {"stream": streamed},
                        headers={"traceparent": traceparent},
                    ) as reply:
                        assert reply.status == 200, await reply.text()
                        await reply.read()
        spans = collector.spans()
    traces = [span.trace_id.hex() for span in spans if span.parent_span_id.hex() == "b7ad6b7169203331"]
    assert (len(spans), traces) == (3, list(_TRACES))
