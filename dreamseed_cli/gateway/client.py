"""A small client to the gateway, for the other rooms: ask, read the answer as it comes, know what it took."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import grpc

from dreamseed_cli.core.errors import FailedError
from dreamseed_cli.gateway.explain import explain
from dreamseed_cli.gateway.proto import GENERATE, GENERATE_STREAM, PROVENANCE_KEY
from dreamseed_cli.gateway.proto.llm_pb2 import STANDARD, GenerateRequest, GenerateResponse
from dreamseed_cli.gateway.security.channel import ClientSecurity, call_metadata, open_channel

_Message = GenerateResponse


@dataclass(frozen=True, slots=True)
class Answer:
    """A complete answer. Times are seconds, measured at this client.

    ttft_s: to the first text of a streamed answer; None for one that came whole or without text.
    simulated: whether an emulated engine gave it.
    """

    text: str
    tokens: int
    prompt_tokens: int
    finish_reason: str
    replica: str
    ttft_s: float | None
    latency_s: float
    simulated: bool


class AnswerStream:
    """An answer under way: `async for text in stream`, then `stream.answer`.

    Closing the iterator early (`contextlib.aclosing`) ends the generation.
    """

    def __init__(
        self, call: grpc.aio.UnaryStreamCall[Any, _Message], address: str, *, encrypted: bool = False
    ) -> None:
        self._call = call
        self._address = address
        self._encrypted = encrypted
        self._start = time.perf_counter()
        self._answer: Answer | None = None

    @property
    def answer(self) -> Answer:
        """The whole answer, once the loop has ended; FailedError before."""
        if self._answer is None:
            raise FailedError("the answer is not complete", place=self._address)
        return self._answer

    async def __aiter__(self) -> AsyncGenerator[str, None]:
        parts: list[str] = []
        ttft_s: float | None = None
        last = _Message()
        try:
            async for last in self._call:
                if last.text:
                    ttft_s = ttft_s or time.perf_counter() - self._start
                    parts.append(last.text)
                    yield last.text
            latency_s = time.perf_counter() - self._start
            simulated = _is_simulated(await self._call.trailing_metadata())
            self._answer = _complete("".join(parts), last, ttft_s, latency_s, simulated)
        except grpc.aio.AioRpcError as error:
            raise explain(error, self._address, encrypted=self._encrypted) from error
        finally:
            self._call.cancel()


class GatewayClient:
    """Speaks to the gateway at `address` (`HOST:PORT`). Use it as an async context manager.

    security: what it trusts and shows; None: plaintext on loopback, TLS with the public authorities beyond.
    Raises as open_channel().
    """

    def __init__(self, address: str, security: ClientSecurity | None = None) -> None:
        self.address = address
        self._encrypted = (security or ClientSecurity()).encrypts(address)
        self._metadata = call_metadata(security)
        self._channel = open_channel(address, security)
        encode, decode = GenerateRequest.SerializeToString, _Message.FromString
        self._unary = self._channel.unary_unary(GENERATE, encode, decode)
        self._stream = self._channel.unary_stream(GENERATE_STREAM, encode, decode)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connection; calls under way are cancelled."""
        await self._channel.close()

    def ask(
        self,
        prompt: str,
        *,
        max_tokens: int = 200,
        temperature: float = 0.7,
        timeout_s: float = 30.0,
        **fields: Any,
    ) -> AnswerStream:
        """Ask for a streamed answer. `fields` are further ones of GenerateRequest, such as seed or top_p.

        Reading it raises MissingError if nothing listens, UsageError if the request is wrong, or FailedError.
        """
        request = _request(prompt, max_tokens, temperature, fields)
        call = self._stream(request, timeout=timeout_s, metadata=self._metadata)
        return AnswerStream(call, self.address, encrypted=self._encrypted)

    async def generate(
        self,
        prompt: str,
        *,
        max_tokens: int = 200,
        temperature: float = 0.7,
        timeout_s: float = 30.0,
        **fields: Any,
    ) -> Answer:
        """Ask for the whole answer in one message; errors and `fields` as in ask()."""
        request = _request(prompt, max_tokens, temperature, fields)
        start = time.perf_counter()
        call = self._unary(request, timeout=timeout_s, metadata=self._metadata)
        try:
            message = await call
            latency_s = time.perf_counter() - start
            simulated = _is_simulated(await call.trailing_metadata())
        except grpc.aio.AioRpcError as error:
            raise explain(error, self.address, encrypted=self._encrypted) from error
        return _complete(message.text, message, None, latency_s, simulated)


def _request(prompt: str, max_tokens: int, temperature: float, fields: dict[str, Any]) -> GenerateRequest:
    # §D1's default is BATCH; somebody who asks by hand waits for the answer.
    fields = {"priority": STANDARD} | fields
    return GenerateRequest(prompt=prompt, max_tokens=max_tokens, temperature=temperature, **fields)


def _is_simulated(metadata: grpc.aio.Metadata) -> bool:
    return any(key == PROVENANCE_KEY and value == "simulated" for key, value in metadata)


def _complete(text: str, last: _Message, ttft_s: float | None, latency_s: float, simulated: bool) -> Answer:
    return Answer(
        text=text,
        tokens=last.tokens_generated,
        prompt_tokens=last.prompt_tokens,
        finish_reason=last.finish_reason,
        replica=last.replica,
        ttft_s=ttft_s,
        latency_s=latency_s,
        simulated=simulated,
    )
