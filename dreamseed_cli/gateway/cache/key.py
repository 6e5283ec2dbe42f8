"""Which requests have the same answer (§I1): those with the same key. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import msgspec

from dreamseed_cli.engine.types import GenerationRequest
from dreamseed_cli.gateway.settings import GatewaySettings

FORMAT = 2
"""Counts up when the key is made in another way, so that old answers are not taken for new ones."""

DECIDES = frozenset(
    {
        "system_prompt",
        "history",
        "prompt",
        "raw",
        "max_tokens",
        "temperature",
        "top_p",
        "seed",
        "stop",
        "ignore_eos",
    }
)
"""The fields of a request that its answer depends on."""
LEFT_OUT = frozenset({"request_id", "priority", "emitted"})
"""The others. A request with something emitted goes on in mid-answer: it is never kept or looked up."""

_encode = msgspec.msgpack.Encoder().encode


def answer_keys(settings: GatewaySettings) -> Callable[[GenerationRequest], str]:
    """A function from a request to its key: SHA-256 in hex, of msgpack, which no two values share.

    The model, its revision and how it is asked go in as well, and whether it is a simulated one.
    """
    model = [
        FORMAT,
        settings.served_name,
        settings.model_revision,
        settings.api,
        settings.simulated,
    ]

    def key(request: GenerationRequest) -> str:
        asked = [
            request.system_prompt,
            [(turn.role, turn.content) for turn in request.history],
            request.prompt,
            request.raw,
            request.max_tokens,
            float(request.temperature),
            float(request.top_p),
            request.seed,
            request.stop,
            request.ignore_eos,
        ]
        return hashlib.sha256(_encode([model, asked])).hexdigest()

    return key
