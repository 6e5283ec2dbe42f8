"""The HTTP side: vLLM's routes, and the control route for faults."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Awaitable, Callable

import msgspec
import structlog
from aiohttp import web

from dreamseed_cli import __version__
from dreamseed_cli.core.result import Provenance
from dreamseed_cli.engine.emulated.chunks import GARBAGE, ChunkWriter, Stamp, whole_response
from dreamseed_cli.engine.emulated.faults import Crash, Faults, StallStream, parse_fault
from dreamseed_cli.engine.emulated.metrics import CONTENT_TYPE, Metrics
from dreamseed_cli.engine.emulated.outlet import Outlet, StreamOutlet
from dreamseed_cli.engine.emulated.protocol import (
    ApiError,
    ChatBody,
    CompletionBody,
    Job,
    TokenizeBody,
    chat_job,
    check_model,
    completion_job,
    decode,
    render_chat,
)
from dreamseed_cli.engine.emulated.scheduler import Scheduler, Sequence
from dreamseed_cli.engine.emulated.stepper import Stepper
from dreamseed_cli.engine.emulated.text import Answer, continue_answer, token_ids, write_answer
from dreamseed_cli.profile.schema import EmulatedEngine

PROVENANCE_HEADER = "x-dreamseed-provenance"
_MAX_BODY_BYTES = 64 * 1024 * 1024
_SSE_HEADERS = {"Content-Type": "text/event-stream; charset=utf-8"}
# Time for the answer to a `crash` order to leave before the process ends.
_LAST_WORDS_S = 0.05
_BUSY = (
    "The engine is currently busy and cannot accept new requests. "
    "Please try again later or on a different instance."
)

log = structlog.get_logger()
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class EmulatedServer:
    """One engine's state behind its routes. Create it inside the running event loop."""

    def __init__(self, engine: EmulatedEngine) -> None:
        self._engine = engine
        self._started = int(time.time())
        self._faults = Faults()
        self._scheduler = Scheduler(engine.card, engine.max_num_seqs)
        self._metrics = Metrics(self._scheduler, engine.served_name)
        self.stepper = Stepper(self._scheduler, self._metrics, self._faults)
        self.draining = False

    def application(self) -> web.Application:
        """The routes."""
        app = web.Application(middlewares=[_errors_as_vllm], client_max_size=_MAX_BODY_BYTES)
        app.on_response_prepare.append(_mark_simulated)
        app.add_routes(
            [
                web.get("/health", self._health),
                web.get("/version", self._version),
                web.get("/v1/models", self._models),
                web.get("/metrics", self._metrics_text),
                web.post("/tokenize", self._tokenize),
                web.post("/v1/completions", self._completions),
                web.post("/v1/chat/completions", self._chat),
                web.post("/control/fault", self._set_fault),
                web.delete("/control/fault", self._clear_faults),
            ]
        )
        return app

    async def _health(self, _request: web.Request) -> web.Response:
        return web.Response(status=503 if self.draining else 200)

    async def _version(self, _request: web.Request) -> web.Response:
        return _json({"version": f"dreamseed-{__version__}-emulated", "provenance": Provenance.SIMULATED})

    async def _models(self, _request: web.Request) -> web.Response:
        model = {
            "id": self._engine.served_name,
            "object": "model",
            "created": self._started,
            "owned_by": "dreamseed-emulated",
            "root": self._engine.served_name,
            "parent": None,
            "max_model_len": self._engine.max_model_len,
            "permission": [],
        }
        return _json({"object": "list", "data": [model]})

    async def _metrics_text(self, _request: web.Request) -> web.Response:
        return web.Response(body=self._metrics.text(), headers={"Content-Type": CONTENT_TYPE})

    async def _tokenize(self, request: web.Request) -> web.Response:
        body = decode(await request.read(), TokenizeBody)
        check_model(body.model, self._engine)
        tokens = token_ids(render_chat(body.messages) if body.messages else body.prompt or "")
        length = self._engine.max_model_len
        return _json({"count": len(tokens), "max_model_len": length, "tokens": tokens, "token_strs": None})

    async def _completions(self, request: web.Request) -> web.StreamResponse:
        body = decode(await request.read(), CompletionBody)
        return await self._generate(request, completion_job(body, self._engine))

    async def _chat(self, request: web.Request) -> web.StreamResponse:
        body = decode(await request.read(), ChatBody)
        return await self._generate(request, chat_job(body, self._engine))

    async def _generate(self, request: web.Request, job: Job) -> web.StreamResponse:
        self._check_room()
        answer = self._write(job)
        sequence = Sequence(
            prompt_tokens=job.prompt_tokens,
            wanted_tokens=len(answer.pieces),
            priority=job.priority,
            blocks=job.blocks(),
        )
        stamp = Stamp.now(job, self._engine.served_name)
        if job.stream:
            return await self._stream(request, sequence, answer, ChunkWriter(job, stamp))
        await self._run(sequence, Outlet(answer, asyncio.get_running_loop()))
        return _json_bytes(GARBAGE if self._faults.garbage else whole_response(job, answer, stamp))

    def _write(self, job: Job) -> Answer:
        if not job.emitted:
            return write_answer(self._engine.seed, job.prompt, job.sampling)
        prompt = job.prompt.removesuffix(job.emitted)
        return continue_answer(self._engine.seed, prompt, job.emitted, job.sampling)

    async def _stream(
        self, request: web.Request, sequence: Sequence, answer: Answer, writer: ChunkWriter
    ) -> web.StreamResponse:
        response = web.StreamResponse(headers=_SSE_HEADERS)
        response.enable_chunked_encoding()
        await response.prepare(request)
        transport = request.transport
        if transport is None:
            raise ConnectionResetError("the client went away")
        loop = asyncio.get_running_loop()
        await self._run(sequence, StreamOutlet(answer, loop, writer=writer, transport=transport))
        await response.write_eof()
        return response

    async def _run(self, sequence: Sequence, outlet: Outlet) -> None:
        """Until the last token is out; a handler cancelled by its client's going frees the slot."""
        self.stepper.submit(sequence, outlet)
        try:
            await outlet.done
        finally:
            self.stepper.cancel(sequence)

    def _check_room(self) -> None:
        """ApiError 503 as from vLLM's `--max-num-queued-reqs`, which counts running requests too."""
        if self.draining or self._faults.refuse:
            raise ApiError(_BUSY, status=503, kind="Service Unavailable")
        in_flight = self._scheduler.waiting + self._scheduler.running
        if in_flight >= self._engine.max_num_seqs + self._engine.max_queued_requests:
            self._metrics.rejections += 1
            raise ApiError(_BUSY, status=503, kind="Service Unavailable")

    @property
    def deaf(self) -> bool:
        """Whether it pays no heed to signals."""
        return self._faults.deaf

    async def _set_fault(self, request: web.Request) -> web.Response:
        try:
            order = parse_fault(await request.read())
        except ValueError as error:
            raise ApiError(str(error), param="fault") from error
        log.warning("fault", fault=str(order))
        self._faults.apply(order)
        if isinstance(order, StallStream):
            self.stepper.stall(order.count)
        if order == Crash(after_tokens=0):
            asyncio.get_running_loop().call_later(_LAST_WORDS_S, os._exit, 1)
        return _json(order)

    async def _clear_faults(self, _request: web.Request) -> web.Response:
        self._faults.clear()
        self.stepper.recover()
        log.warning("faults cleared")
        return _json({})


@web.middleware
async def _errors_as_vllm(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Refusals in vLLM's JSON shapes."""
    try:
        return await handler(request)
    except ApiError as error:
        return _json_bytes(error.body(), status=error.status)
    except web.HTTPException as error:
        return _json({"detail": error.reason}, status=error.status)


async def _mark_simulated(_request: web.Request, response: web.StreamResponse) -> None:
    response.headers[PROVENANCE_HEADER] = Provenance.SIMULATED


def _json(document: object, *, status: int = 200) -> web.Response:
    return _json_bytes(msgspec.json.encode(document), status=status)


def _json_bytes(body: bytes, *, status: int = 200) -> web.Response:
    return web.Response(body=body, status=status, content_type="application/json")
