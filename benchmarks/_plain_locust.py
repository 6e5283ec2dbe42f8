"""A plain locustfile, as Locust's own pages teach it: users that stream answers, one after another.

Settings come from the environment: TOKENS of an answer. TTFT and ITL (the mean of an answer's gaps, as Locust
keeps one time a request) are entries of Locust's own statistics.
"""

from __future__ import annotations

import os
import time

from locust import HttpUser, constant, task

TOKENS = int(os.environ["TOKENS"])


class Reader(HttpUser):
    """Asks, reads to the end, asks again."""

    wait_time = constant(0)

    @task
    def ask(self) -> None:
        """One streamed answer."""
        body = {
            "model": "stub",
            "messages": [{"role": "user", "content": "Why is the sky blue?"}],
            "max_tokens": TOKENS,
            "stream": True,
        }
        began = time.perf_counter()
        first = last = None
        tokens = 0
        with self.client.post(
            "/v1/chat/completions", json=body, stream=True, catch_response=True
        ) as response:
            for line in response.iter_lines():
                if b"~" not in line:
                    continue
                last = time.perf_counter()
                first = first or last
                tokens += 1
            if tokens != TOKENS:
                response.failure(f"{tokens} tokens instead of {TOKENS}")
                return
        if first is not None and last is not None:
            self._record("TTFT", first - began)
            self._record("ITL", (last - first) / (tokens - 1))

    def _record(self, name: str, seconds: float) -> None:
        self.environment.events.request.fire(
            request_type="FIGURE",
            name=name,
            response_time=seconds * 1000,
            response_length=0,
            exception=None,
            context={},
        )
