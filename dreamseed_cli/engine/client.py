"""The client to one engine: streamed generations, health, metrics, and failures sorted by what they mean."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from pathlib import Path

import aiohttp
from yarl import URL

from dreamseed_cli.engine.http_stream import ConnectionCut, HttpConnection, HttpPool
from dreamseed_cli.engine.metrics import EngineMetrics, parse_metrics
from dreamseed_cli.engine.openai_api import DONE, Api, BodyEncoder, error_message, merge_events
from dreamseed_cli.engine.sse import EventTooLong, SseDecoder
from dreamseed_cli.engine.types import (
    Chunk,
    Endpoint,
    EngineBusy,
    EngineError,
    EngineRefused,
    EngineTimeout,
    EngineUnavailable,
    GenerationRequest,
)

_REFUSALS = frozenset({400, 404, 413, 422})
_BUSY = frozenset({429, 503})
_PROBE_TIMEOUT_S = 5.0
_LONGEST_ERROR_BODY = 64 * 1024


class EngineClient:
    """Speaks to one OpenAI-compatible engine. Make it inside a running event loop, close it at the end.

    It opens as many connections as there are requests: a limit would queue here, unseen by the engine.
    api: `chat` applies the model's template, `completions` sends the prompt as it is.
    usage_per_chunk: the engine is vLLM or the emulated one and knows vLLM's extensions.
    ca_file: the authority of its certificate (PEM); None: the system's.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        *,
        model: str,
        api: Api,
        usage_per_chunk: bool,
        api_key: str | None = None,
        ca_file: Path | None = None,
    ) -> None:
        self.endpoint = endpoint
        self.simulated = False
        """Whether its last answer said that the engine is an emulated one, wherever it runs."""
        self._loop = asyncio.get_running_loop()
        self._place = str(endpoint)
        self._encoder = BodyEncoder(model=model, api=api, usage_per_chunk=usage_per_chunk)
        authorization = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        self._pool = HttpPool(
            endpoint,
            {"Content-Type": "application/json", "Accept": "text/event-stream", **authorization},
            ca_file=ca_file,
        )
        self._base = URL((endpoint.url or "http://engine").rstrip("/"))
        self._probes = aiohttp.ClientSession(
            connector=aiohttp.UnixConnector(str(endpoint.socket))
            if endpoint.socket
            else aiohttp.TCPConnector(ssl=self._pool.tls or True),
            headers=authorization,
            timeout=aiohttp.ClientTimeout(total=_PROBE_TIMEOUT_S),
        )

    async def stream(
        self,
        request: GenerationRequest,
        *,
        timeout_s: float,
        more_time: Callable[[], float] | None = None,
        on_complete: Callable[[], None] | None = None,
    ) -> AsyncGenerator[Chunk, None]:
        """The answer as it arrives; ends only when the engine said that it is complete.

        All events that wait when the next chunk is asked for become one chunk. Closing the iterator early
        (`contextlib.aclosing`) closes the connection, upon which the engine aborts the generation and frees
        its slot.

        timeout_s: the budget for the whole answer, in seconds. more_time: asked when it is used up; so many
        seconds more are given if that is above 0. on_complete: called as soon as the whole response of an
        engine that accepted the request has arrived, read or not.
        Raises EngineRefused, EngineBusy, EngineUnavailable or EngineTimeout.
        """
        if timeout_s <= 0:
            raise EngineTimeout("no time was left to ask the engine", place=self._place)
        deadline = self._loop.time() + timeout_s
        connection: HttpConnection | None = None
        satisfied = False
        try:
            connection = await self._pool.post(
                self._encoder.path(request), self._encoder.encode(request), deadline
            )
            connection.more_time, connection.on_complete = more_time, on_complete
            await connection.response_started()
            self.simulated = connection.simulated
            await self._check(connection)
            async for chunk in self._chunks(connection):
                yield chunk
            satisfied = True
        except ConnectionCut as error:
            raise self._unavailable(f"the connection was cut: {error}") from error
        except TimeoutError as error:
            raise self._overdue(connected=connection is not None, deadline=deadline) from error
        except OSError as error:
            raise self._unavailable(error.strerror or str(error)) from error
        finally:
            if connection is not None:
                self._pool.release(connection, satisfied=satisfied)

    async def health(self) -> bool:
        """Whether `/health` answers 200 within 5 s. vLLM says so even when its engine core hangs."""
        try:
            async with self._probes.get(self._base.joinpath("health")) as response:
                return response.status == 200
        except (aiohttp.ClientError, OSError, TimeoutError):
            return False

    async def first_token(self, timeout_s: float) -> float:
        """Generate one token, which proves that the engine works; its TTFT in seconds. Raises EngineError."""
        canary = GenerationRequest("canary", "Hi", max_tokens=1, temperature=0.0, top_p=1.0)
        start = time.perf_counter()
        elapsed: float | None = None
        async with aclosing(self.stream(canary, timeout_s=timeout_s)) as chunks:
            async for _ in chunks:
                elapsed = elapsed or time.perf_counter() - start
        if elapsed is None:
            raise self._unavailable("the answer held no token")
        return elapsed

    async def metrics(self) -> EngineMetrics | None:
        """The engine's own gauges; None where the server has none of vLLM's. Raises EngineUnavailable."""
        try:
            async with self._probes.get(self._base.joinpath("metrics")) as response:
                if response.status != 200:
                    return None
                return parse_metrics(await response.text())
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise self._unavailable(str(error) or type(error).__name__) from error

    async def close(self) -> None:
        """Close all connections; streams under way end with EngineUnavailable."""
        self._pool.close()
        await self._probes.close()

    async def _check(self, connection: HttpConnection) -> None:
        if connection.status != 200:
            raise await self._failure(connection)
        if connection.content_type != "text/event-stream":
            raise self._unavailable(f"the answer is '{connection.content_type}', not an event stream")

    async def _failure(self, connection: HttpConnection) -> EngineError:
        body = b""
        while len(body) < _LONGEST_ERROR_BODY and (data := await connection.read()):
            body += data
        said = error_message(body) or "no reason given"
        status = connection.status
        if status in _REFUSALS:
            return EngineRefused(said, status=status, place=self._place)
        kind = EngineBusy if status in _BUSY else EngineUnavailable
        return kind(f"HTTP {status}", place=self._place, said=said)

    async def _chunks(self, connection: HttpConnection) -> AsyncGenerator[Chunk, None]:
        decoder = SseDecoder()
        finished = False
        started = False
        done = False
        while not done and (data := await connection.read()):
            try:
                payloads = decoder.feed(data)
            except EventTooLong as error:
                raise self._unavailable(str(error)) from error
            if done := DONE in payloads:
                payloads = payloads[: payloads.index(DONE)]
            if not payloads:
                continue
            chunk = merge_events(payloads, self._place)
            finished = finished or chunk.finish_reason is not None
            # vLLM opens a chat with the role alone: no token yet.
            started = started or bool(chunk.text or chunk.completion_tokens or chunk.finish_reason)
            if started:
                yield chunk
        if not finished:
            raise self._unavailable("the stream ended before the answer was complete")

    def _unavailable(self, cause: str) -> EngineUnavailable:
        return EngineUnavailable(cause, place=self._place)

    def _overdue(self, *, connected: bool, deadline: float) -> EngineError:
        if not connected and self._loop.time() < deadline:
            return self._unavailable("no connection within 5 s")
        return EngineTimeout("the answer was not complete in time", place=self._place)
