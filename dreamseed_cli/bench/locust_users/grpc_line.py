"""Generations through gRPC from gevent: the blocking API, whose waits gevent makes cooperative.

Import after `grpc.experimental.gevent.init_gevent()`.
"""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import grpc

from dreamseed_cli.bench.locust_users.endings import of_answer, of_code
from dreamseed_cli.bench.locust_users.samples import SIMULATED, Sample
from dreamseed_cli.gateway.proto import GENERATE_STREAM, PROVENANCE_KEY, REASON_KEY
from dreamseed_cli.gateway.proto.llm_pb2 import STANDARD, GenerateRequest, GenerateResponse
from dreamseed_cli.gateway.security.channel import ClientSecurity, call_metadata

if TYPE_CHECKING:
    from dreamseed_cli.bench.locust_users.plan import Errand

_CHANNELS = 4
"""Connections of a process, so that one's limit of streams is not the limit of the load."""
_OPTIONS = (("grpc.enable_http_proxy", 0), ("grpc.use_local_subchannel_pool", 1))

if TYPE_CHECKING:
    _Call = grpc.UnaryStreamMultiCallable[GenerateRequest, GenerateResponse]


class GrpcLine:
    """The connections of one process to the gateway."""

    def __init__(self, errand: Errand, token: str | None) -> None:
        ca_file = Path(errand.ca_file) if errand.ca_file else None
        security = ClientSecurity(ca_file=ca_file, token=token)
        self._timeout_s = errand.timeout_s
        self._metadata = call_metadata(security)
        self._forced = errand.force_length
        self._channels = [_channel(errand.gateway, security) for _ in range(_CHANNELS)]
        self._calls = itertools.cycle([_method(channel) for channel in self._channels])

    def ask(self, prompt: str, tokens: int, sample: Sample) -> None:
        """Ask for a streamed answer, and write into `sample` how it went."""
        request = GenerateRequest(
            prompt=prompt,
            max_tokens=tokens,
            temperature=0.7,
            priority=STANDARD,
            bypass_cache=True,
            ignore_eos=self._forced,
        )
        last = GenerateResponse()
        call = next(self._calls)(request, timeout=self._timeout_s, metadata=self._metadata)
        try:
            for last in call:
                if last.text and math.isnan(sample.first_s):
                    sample.first_s = time.monotonic()
            sample.tokens = last.tokens_generated
            text, wanted = not math.isnan(sample.first_s), tokens if self._forced else None
            sample.ending = of_answer(last.tokens_generated, wanted, text=text)
            if (PROVENANCE_KEY, "simulated") in _pairs(call.trailing_metadata()):
                sample.flags |= SIMULATED
        except grpc.RpcError as error:
            _note_failure(cast("grpc.Call", error), sample)
        finally:
            call.cancel()

    def close(self) -> None:
        for channel in self._channels:
            channel.close()


def _note_failure(error: grpc.Call, sample: Sample) -> None:
    code = error.code()
    reasoned = any(key == REASON_KEY for key, _ in _pairs(error.trailing_metadata()))
    sample.ending = of_code(code, begun=not math.isnan(sample.first_s), reasoned=reasoned)
    sample.detail = f"gRPC {code.name}: {(error.details() or '')[:100]}"


def _pairs(metadata: Any) -> Iterable[tuple[str, Any]]:
    return [(key, value) for key, value in metadata or ()]


def _channel(address: str, security: ClientSecurity) -> grpc.Channel:
    if not security.encrypts(address):
        return grpc.insecure_channel(address, options=_OPTIONS)
    roots = security.ca_file.read_bytes() if security.ca_file else None
    return grpc.secure_channel(address, grpc.ssl_channel_credentials(roots), options=_OPTIONS)


def _method(channel: grpc.Channel) -> _Call:
    return channel.unary_stream(
        GENERATE_STREAM, GenerateRequest.SerializeToString, GenerateResponse.FromString
    )
