"""Asks any OpenAI-compatible server, and names what it does wrong."""

from __future__ import annotations

import os
import ssl
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from dreamseed_cli.bench.records import Ending, Job, Record
from dreamseed_cli.bench.shapes import TargetSpec
from dreamseed_cli.bench.target.events import EventReader
from dreamseed_cli.bench.target.judge import OWN_LIMITS, Reception, of_status
from dreamseed_cli.bench.target.key import read_key
from dreamseed_cli.bench.target.line import TimedConnection, TimedPool
from dreamseed_cli.core.errors import UsageError
from dreamseed_cli.engine.http_stream import ConnectionCut
from dreamseed_cli.engine.openai_api import PATHS, error_message
from dreamseed_cli.engine.types import Endpoint

_encode = msgspec.json.Encoder().encode


class OpenAiTarget:
    """One server. Make it inside the running event loop.

    Raises UsageError for an address that leads nowhere, MissingError for a key that is not there.
    """

    def __init__(self, spec: TargetSpec) -> None:
        if not spec.address.startswith(("http://", "https://", "unix:")):
            raise UsageError(
                "this is no base URL",
                place=spec.address,
                remedy="Give http://HOST:PORT, https://HOST, or unix:PATH.",
            )
        self._spec = spec
        self._path = PATHS[spec.api]
        self._pool = TimedPool(
            Endpoint.parse(spec.address),
            _headers(spec),
            connect_timeout_s=spec.connect_timeout_s,
            ca_file=Path(spec.ca_file) if spec.ca_file else None,
        )

    async def close(self) -> None:
        """Close every connection."""
        self._pool.close()

    async def ask(self, job: Job, record: Record, clock: Callable[[], float]) -> None:
        """Ask and fill the record. clock: seconds since the cell's start. Raises CancelledError only."""
        reception = Reception(record)
        record.forced = job.forced and self._spec.vllm and not job.path
        request = self._pool.get_request(job.path) if job.path else self._generation(job)
        try:
            connection = self._pool.idle() or await self._connect(record, clock)
        except (OSError, TimeoutError) as error:
            reception.end(*self._no_connection(error))
            record.end_s = clock()
            return
        # The reader counts on the system's monotonic clock; records count from the cell's start.
        reader = EventReader(reception, epoch=time.monotonic() - clock())
        sink = None if job.path else reader
        spec = self._spec
        connection.ask(request, sink, stall_s=spec.stall_s, timeout_s=spec.timeout_s)
        record.sent_s = clock()
        satisfied = False
        try:
            await connection.ended()
            self._settle(connection, reader, job)
            satisfied = record.ending is not Ending.BROKEN
        except (ConnectionCut, TimeoutError) as error:
            reception.end(*_broken_off(error, connection, record, spec))
        finally:
            record.end_s = clock()
            _take_facts(connection, record)
            self._pool.release(connection, satisfied=satisfied)

    async def _connect(self, record: Record, clock: Callable[[], float]) -> TimedConnection:
        began_s = clock()
        connection = await self._pool.connect()
        record.connect_s = clock() - began_s
        return connection

    def _generation(self, job: Job) -> bytes:
        return self._pool.post_request(self._path, _encode(generation_body(job, self._spec)))

    def _settle(self, connection: TimedConnection, reader: EventReader, job: Job) -> None:
        """A response arrived to its end."""
        if connection.streams:
            if not reader.over:
                reader.end()
            return
        reader.reception.end(*_unstreamed(connection, plain=bool(job.path)))

    def _no_connection(self, error: OSError | TimeoutError) -> tuple[Ending, str]:
        number = error.errno
        if number in OWN_LIMITS:
            return Ending.UNSENT, OWN_LIMITS[number]
        if isinstance(error, ssl.SSLError):
            return Ending.UNREACHABLE, f"no TLS connection: {error.reason or error}"
        if number is not None:
            return Ending.UNREACHABLE, f"no connection: {os.strerror(number).lower()}"
        if isinstance(error, TimeoutError):
            return Ending.UNREACHABLE, f"no connection within {self._spec.connect_timeout_s:g} s"
        return Ending.UNREACHABLE, f"no connection: {error}"


def generation_body(job: Job, spec: TargetSpec) -> dict[str, Any]:
    """The JSON body of a streamed generation; extensions only for a server that knows them. Pure."""
    options = {"include_usage": True}
    body: dict[str, Any] = {"model": spec.model, "stream": True, "stream_options": options}
    if spec.api == "completions":
        body["prompt"] = f"{job.system_prompt}\n\n{job.prompt}" if job.system_prompt else job.prompt
    else:
        system = [{"role": "system", "content": job.system_prompt}] if job.system_prompt else []
        body["messages"] = [*system, {"role": "user", "content": job.prompt}]
    body["max_tokens"] = job.wanted_tokens
    body["temperature"] = job.temperature
    body["top_p"] = job.top_p
    if job.seed is not None:
        body["seed"] = job.seed
    if spec.vllm:
        options["continuous_usage_stats"] = True
        if job.forced:
            # No min_tokens beside it: vLLM would mask logits at every step, and our front does not know it.
            body["ignore_eos"] = True
    return body | (_ours(job) if spec.ours else {})


def _ours(job: Job) -> dict[str, Any]:
    """What our front takes beyond OpenAI's: without a priority it asks the gateway for PREMIUM."""
    cache = {"cache": False} if job.bypass_cache else {}
    return {"priority": job.priority.lower(), "workload": job.workload} | cache


def _headers(spec: TargetSpec) -> dict[str, str]:
    headers = {"Content-Type": "application/json", "User-Agent": "dreamseed-bench"}
    if spec.api_key_env:
        headers["Authorization"] = f"Bearer {read_key(spec.api_key_env)}"
    return headers


def _unstreamed(connection: TimedConnection, *, plain: bool) -> tuple[Ending, str]:
    """A whole response that is no event stream."""
    status = connection.status
    if plain and (200 <= status < 300 or status == 304):
        return Ending.COMPLETE, ""
    said = "an HTML page" if "html" in connection.content_type else error_message(connection.kept)
    if status >= 400:
        return of_status(status), f"HTTP {status}: {said}"
    if status == 200:
        kind = connection.content_type or "a body without a type"
        return Ending.BROKEN, f"{kind} instead of an event stream"
    return Ending.BROKEN, f"HTTP {status} instead of an answer"


def _broken_off(
    error: ConnectionCut | TimeoutError, connection: TimedConnection, record: Record, spec: TargetSpec
) -> tuple[Ending, str]:
    """The response did not come to its end."""
    if isinstance(error, TimeoutError):
        if connection.stalled:
            return Ending.STALLED, f"no byte for {spec.stall_s:g} s"
        return Ending.TIMED_OUT, f"not complete within {spec.timeout_s:g} s"
    if connection.not_http:
        return Ending.BROKEN, "what came is no HTTP"
    if record.piece_s:
        where = "in the middle of the answer"
    else:
        where = "before the first token" if connection.started else "before any response"
    how = "reset the connection" if connection.was_reset else "closed the connection"
    return Ending.CUT, f"the server {how} {where}"


def _take_facts(connection: TimedConnection, record: Record) -> None:
    record.simulated = record.simulated or connection.simulated
    record.replica = record.replica or connection.replica
    if connection.cache:
        record.cache_hit = connection.cache == "hit"
