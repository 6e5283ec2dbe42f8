"""Ten thousand malformed and random messages: each gets a proper status, and the gateway goes on."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import grpc
import pytest
from gateway_harness import RunningGateway, emulated_engine, gateway_process, settings, socket_folder, target
from grpc import StatusCode
from hypothesis import HealthCheck, Phase, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from dreamseed_cli.gateway.proto import GENERATE, GENERATE_STREAM
from dreamseed_cli.gateway.proto.llm_pb2 import GenerateRequest, GenerateResponse

pytestmark = pytest.mark.usefixtures("untraced")

_BOUND_S = 120.0
_BATCH = 50
_BATCHES = 100
_PROPER = {StatusCode.OK, StatusCode.INVALID_ARGUMENT, StatusCode.RESOURCE_EXHAUSTED}

# Any text, NULs and every plane included; proto3 strings cannot hold surrogates.
_TEXT = st.text(st.characters(codec="utf-8"), max_size=40)
_INT32 = st.integers(-(2**31), 2**31 - 1)
_MESSAGES = st.builds(
    GenerateRequest,
    prompt=_TEXT,
    user_id=_TEXT,
    max_tokens=st.integers(1, 3) | _INT32,
    temperature=st.sampled_from([0.0, 0.7]) | st.floats(width=32),
    priority=st.integers(0, 2) | _INT32,
    model=st.none() | st.just("served") | _TEXT,
    system_prompt=st.none() | _TEXT,
    top_p=st.none() | st.floats(width=32),
    seed=st.none() | st.integers(-(2**63), 2**63 - 1),
    stop=st.lists(_TEXT, max_size=5),
    request_id=st.none() | _TEXT,
).map(lambda message: message.SerializeToString())


class _Raw:
    """Both methods with bytes in and out: what is sent is what a test says."""

    def __init__(self, gateway: RunningGateway) -> None:
        options = [("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1)]
        self._channel = grpc.insecure_channel(gateway.address, options=options)
        self._unary: Any = self._channel.unary_unary(GENERATE)
        self._stream: Any = self._channel.unary_stream(GENERATE_STREAM)
        self.codes: Counter[StatusCode] = Counter()

    def send(self, messages: Sequence[bytes]) -> None:
        """Send all at once, through both methods in turn, and note how each call ended."""
        calls: list[Any] = []
        for index, message in enumerate(messages):
            if index % 2:
                calls.append(self._stream(message, timeout=_BOUND_S))
            else:
                calls.append(self._unary.future(message, timeout=_BOUND_S))
        for index, call in enumerate(calls):
            if index % 2:
                self._drain(call)
            self.codes[call.code()] += 1

    def ask(self, prompt: str) -> GenerateResponse:
        """A good request's answer."""
        request = GenerateRequest(prompt=prompt, max_tokens=5)
        return GenerateResponse.FromString(self._unary(request.SerializeToString(), timeout=_BOUND_S))

    def close(self) -> None:
        self._channel.close()

    @staticmethod
    def _drain(call: Iterator[bytes]) -> None:
        try:
            for _ in call:
                pass
        except grpc.RpcError:
            pass  # its code is looked at by the caller


@pytest.fixture(scope="module")
def gateway() -> Iterator[RunningGateway]:
    """A gateway process before an emulated engine with tiny times."""
    with (
        socket_folder() as folder,
        emulated_engine(folder, "e0", step_ms=0.2, max_queued_requests=1000) as engine,
        gateway_process(folder, settings(folder, target("r0", engine.socket))) as running,
    ):
        yield running


def _random_bytes(rng: random.Random, count: int) -> list[bytes]:
    """Noise, and valid messages with bytes flipped, cut off or doubled."""
    messages = []
    for _ in range(count):
        valid = GenerateRequest(prompt="Why is the sky blue?", max_tokens=2, stop=["x"]).SerializeToString()
        damaged = bytearray(valid)
        for _ in range(rng.randrange(4)):
            damaged[rng.randrange(len(damaged))] = rng.randrange(256)
        messages.append(
            rng.choice(
                [
                    rng.randbytes(rng.randrange(60)),
                    bytes(damaged),
                    valid[: rng.randrange(len(valid))],
                    valid + rng.randbytes(rng.randrange(9)),
                ]
            )
        )
    return messages


def _extremes() -> list[bytes]:
    """Messages at and beyond every size, alone because they are heavy."""
    prompts = ["x" * 10_000_000, "가" * 1_000_000, "\0" * 1_000_000, "word " * 20_000, "\U0010ffff" * 10_000]
    return [GenerateRequest(prompt=prompt, max_tokens=2).SerializeToString() for prompt in prompts] + [
        b"",
        b"\x0a\x05ab\xffcd",
        b"\x0a\xff\xff\xff\xff\x0f",
        b"\x0b" * 2000,
    ]


def test_ten_thousand_odd_messages_do_no_harm(gateway: RunningGateway) -> None:
    """Each call ends in time with OK, INVALID_ARGUMENT or RESOURCE_EXHAUSTED; the same process then answers
    a good request, and nothing is left outstanding.
    """
    raw = _Raw(gateway)

    @hypothesis_settings(
        max_examples=_BATCHES,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=[
            HealthCheck.data_too_large,
            HealthCheck.too_slow,
            HealthCheck.large_base_example,
        ],
    )
    @given(st.lists(_MESSAGES, min_size=_BATCH, max_size=_BATCH))
    def send_structured(messages: list[bytes]) -> None:
        raw.send(messages)
        assert set(raw.codes) <= _PROPER, raw.codes

    send_structured()
    noise = _random_bytes(random.Random(7), 10_000 - _BATCH * _BATCHES)  # noqa: S311 - noise, no secret
    for start in range(0, len(noise), _BATCH):
        raw.send(noise[start : start + _BATCH])
    for extreme in _extremes():
        raw.send([extreme, extreme])
    assert set(raw.codes) == _PROPER, raw.codes
    assert raw.codes.total() >= 10_000
    assert raw.codes[StatusCode.OK] > 100
    assert gateway.process.poll() is None
    assert raw.ask("Are you well?").tokens_generated == 5
    totals = gateway.stats()["totals"]
    assert (totals["outstanding"], totals["outstanding_tokens"]) == (0, 0)
    assert "Traceback" not in gateway.log.read_text()
    raw.close()
