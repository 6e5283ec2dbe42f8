"""A failed call to the gateway in words."""

from __future__ import annotations

import grpc
from grpc.aio import AioRpcError, Metadata

from dreamseed_cli.gateway.explain import explain


def test_a_message_that_ends_with_a_full_stop_gets_no_second_one() -> None:
    """The gateway tells cause and remedy in one; ours comes after them."""
    told = AioRpcError(
        grpc.StatusCode.UNAVAILABLE, Metadata(), Metadata(), "no replica is ready. Try again shortly."
    )
    assert str(explain(told, "127.0.0.1:50051")) == (
        "at '127.0.0.1:50051': UNAVAILABLE: no replica is ready. Try again shortly. "
        "Look at the replicas: dreamseed status."
    )
