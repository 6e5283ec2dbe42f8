"""One completion on its way to its response, streamed or whole, from the gateway or its stand-in."""

from __future__ import annotations

import asyncio
import time
from contextlib import aclosing

import grpc

from dreamseed_cli.api.caller import Caller
from dreamseed_cli.api.desk import Desk
from dreamseed_cli.api.ended import ended_request
from dreamseed_cli.api.errors import ApiError, Failure, explain
from dreamseed_cli.api.fallback.answers import AnswerCut, Emitted, Fallback
from dreamseed_cli.api.fallback.course import Order
from dreamseed_cli.api.http import (
    JSON,
    PRIVATE,
    Header,
    Receive,
    Send,
    respond,
    start,
    while_connected,
    write,
)
from dreamseed_cli.api.line import GatewayAway, GatewayFailed, LiveAnswer
from dreamseed_cli.api.responses import DONE, Chunks, Dialect, Facts, event
from dreamseed_cli.api.trail import Trail
from dreamseed_cli.api.translate import Asked
from dreamseed_cli.gateway.events.record import Outcome
from dreamseed_cli.gateway.proto.llm_pb2 import GenerateResponse

_EVENTS: tuple[Header, ...] = (
    (b"content-type", b"text/event-stream; charset=utf-8"),
    # Proxies like nginx would otherwise collect an answer before they pass it on.
    (b"x-accel-buffering", b"no"),
)
_FROM_GATEWAY: Header = (b"x-dreamseed-source", b"gateway")
_FROM_FALLBACK: Header = (b"x-dreamseed-source", b"fallback")
_CLIENT_LEFT = 499  # nginx's number for it; nobody receives it
_UNFINISHED = Failure(grpc.StatusCode.UNAVAILABLE, "the answer has no end")


class Exchange:
    """status: what was sent, 0 before. source: who answered. first_text_s: a stream's, in seconds.
    caller: who asks, once that is known.
    """

    def __init__(self, desk: Desk, dialect: Dialect, receive: Receive, send: Send, request_id: str) -> None:
        self._desk = desk
        self._dialect = dialect
        self._receive = receive
        self._send = send
        self._request_id = request_id
        self._began = time.perf_counter()
        self.status = 0
        self.source = "front"
        self.first_text_s: float | None = None
        self.caller: Caller | None = None
        self._asked: Asked | None = None
        self._error: ApiError | None = None
        self._trail = Trail(desk.event_ids)

    @property
    def elapsed_s(self) -> float:
        return time.perf_counter() - self._began

    async def answer(self, caller: Caller, asked: Asked) -> None:
        """Ask the gateway, else the fallback. Raises ApiError as long as nothing was sent, or ClientLeft."""
        self._asked = asked
        asked.message.request_id = self._request_id
        if caller.fresh:
            asked.message.bypass_cache = True
        if caller.key is not None:
            # The key says who asks. `user` is any label to OpenAI's clients, and the gateway refuses
            # a user_id that is not the key's.
            asked.message.ClearField("user_id")
        try:
            await (self._stream if asked.streamed else self._whole)(caller, asked)
            self._desk.note(caller)
        except GatewayAway as away:
            fallback = self._desk.fallback_for(caller, away)
            order = Order(asked, caller.key, self._began, self._trail)
            await (self._fallback_stream if asked.streamed else self._fallback_whole)(fallback, order)
        except GatewayFailed as failed:
            self._desk.note(caller, failed)
            raise explain(failed.failure) from failed

    async def refuse(self, error: ApiError) -> None:
        """An error response, unless another one has begun."""
        if not self.status:
            self.status, self._error = error.status, error
            await respond(self._send, error.status, self._headers(JSON, *error.headers()), error.body())

    def leave(self) -> None:
        """The client left."""
        self.status = _CLIENT_LEFT

    def tell(self) -> None:
        """Have the gateway told how the request ended, if nobody else does."""
        if not self._trail.told:
            key = self.caller.key if self.caller is not None else None
            outcome, reason = self._end()
            event_id = self._trail.event_id()
            ended = ended_request(event_id, self._request_id, key, self._asked, self.elapsed_s, outcome)
            ended.reason = reason
            self._desk.courier.take(ended, doubtful=self._trail.doubtful)

    def _end(self) -> tuple[Outcome, str]:
        """Of a request that got no answer."""
        if self._error is None:
            left = self.status == _CLIENT_LEFT
            return (Outcome.CANCELLED, "caller_left") if left else (Outcome.FAILED, "front_ended")
        outcome = Outcome.REJECTED if self._error.status < 500 else Outcome.FAILED
        return outcome, self._error.reason or self._error.type

    async def _whole(self, caller: Caller, asked: Asked) -> None:
        async with while_connected(self._receive):
            answer, simulated = await self._desk.line.generate(
                asked.message, caller, self._trail, patient=self._desk.patient(caller)
            )
        self.status, self.source = 200, "gateway"
        headers = self._headers(JSON, *Facts.of(answer, simulated=simulated).headers())
        body = self._dialect.answer(self._request_id, asked.request.model, answer)
        await respond(self._send, 200, headers, body)

    async def _stream(self, caller: Caller, asked: Asked) -> None:
        chunks = self._dialect.stream(self._request_id, asked.request.model)
        emitted: list[GenerateResponse] = []
        try:
            async with while_connected(self._receive):
                live = await self._desk.line.stream(
                    asked.message, caller, self._trail, patient=self._desk.patient(caller)
                )
                try:
                    await self._begin("gateway", _FROM_GATEWAY)
                    last = await self._relay(live, chunks, emitted)
                    facts = Facts.of(last, simulated=await live.simulated())
                    ending = chunks.last(last, facts, with_usage=asked.include_usage)
                finally:
                    live.close()
        except GatewayFailed as failed:
            if not self.status:
                raise
            ending = self._cut_off(explain(failed.failure).cause, emitted)
        except asyncio.CancelledError:
            if self.status:
                await write(self._send, self._cut_off("the front is ending", emitted), more=False)
            raise
        await write(self._send, ending, more=False)

    async def _relay(
        self, live: LiveAnswer, chunks: Chunks, emitted: list[GenerateResponse]
    ) -> GenerateResponse:
        """Pass the texts on; the gateway's last message, once it said that the answer is complete."""
        send, encode = self._send, chunks.first
        message: GenerateResponse | None = live.first
        while message is not None and not message.HasField("finish_reason"):
            await write(send, encode(message.text), more=True)
            encode = chunks.next
            emitted.append(message)
            message = await live.next()
        if message is None or await live.next() is not None:
            raise GatewayFailed(_UNFINISHED)
        if message.text or not emitted:
            await write(send, encode(message.text), more=True)
        return message

    async def _fallback_whole(self, fallback: Fallback, order: Order) -> None:
        async with while_connected(self._receive):
            body = await fallback.whole(order)
        self.status, self.source = 200, "fallback"
        await respond(self._send, 200, self._headers(JSON, _FROM_FALLBACK), body)

    async def _fallback_stream(self, fallback: Fallback, order: Order) -> None:
        ending = DONE
        emitted = Emitted()
        try:
            async with while_connected(self._receive), aclosing(fallback.stream(order, emitted)) as events:
                async for data in events:
                    if not self.status:
                        await self._begin("fallback", _FROM_FALLBACK)
                    await write(self._send, data, more=True)
        except AnswerCut:
            ending = self._cut_fallback("the fallback failed", emitted)
        except asyncio.CancelledError:
            if self.status:
                ending = self._cut_fallback("the front is ending", emitted)
                await write(self._send, ending, more=False)
            raise
        if not self.status:
            await self._begin("fallback", _FROM_FALLBACK)
        await write(self._send, ending, more=False)

    async def _begin(self, source: str, label: Header) -> None:
        self.status, self.source = 200, source
        self.first_text_s = self.elapsed_s
        await start(self._send, 200, self._headers(*_EVENTS, label))

    def _cut_off(self, why: str, emitted: list[GenerateResponse]) -> bytes:
        """An answer of the gateway's that broke off."""
        tokens = emitted[-1].tokens_generated if emitted else 0
        text = "".join(message.text for message in emitted)
        return self._cut("gateway", why, text=text, tokens=tokens)

    def _cut_fallback(self, why: str, emitted: Emitted) -> bytes:
        """It counts tokens at its end only."""
        return self._cut("fallback", why, text=emitted.text(), tokens=None)

    def _cut(self, source: str, why: str, *, text: str, tokens: int | None) -> bytes:
        """The event that ends an answer which another model must not finish: with what there is of it."""
        self._desk.metrics.cut.labels(source).inc()
        error: dict[str, object] = {
            "message": f"the answer broke off: {why}",
            "type": "server_error",
            "param": None,
            "code": "answer_cut",
            "emitted_tokens": tokens,
            "emitted_text": text,
        }
        return event({"error": error})

    def _headers(self, *headers: Header) -> list[Header]:
        return [*headers, *PRIVATE, (b"x-request-id", self._request_id.encode())]
