"""Where the gateway may listen."""

from __future__ import annotations

import pytest

from dreamseed_cli.core.errors import UsageError
from dreamseed_cli.gateway.address import listen_address


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("127.0.0.1", "127.0.0.1:1"),
        ("127.9.9.9", "127.9.9.9:1"),
        ("::1", "[::1]:1"),
        ("localhost", "localhost:1"),
    ],
)
def test_loopback_is_allowed(host: str, expected: str) -> None:
    """Every way to say loopback is taken."""
    assert listen_address(host, 1) == expected


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "100.64.1.2", "example.org", ""])  # noqa: S104 - refused
def test_anything_else_is_refused_without_tls(host: str) -> None:
    """§D1's insecure port on a public address is refused, with the way out."""
    with pytest.raises(UsageError, match="loopback only"):
        listen_address(host, 50051)
