"""CRC-32C: the published check values, and any data in any portions."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dreamseed_cli.backup.physical.crc32c import crc32c


@pytest.mark.parametrize(
    ("data", "crc"),
    [
        (b"", 0),
        (b"123456789", 0xE3069283),
        (bytes(32), 0x8A9136AA),
        (b"\xff" * 32, 0x62A8AB43),
        (bytes(range(32)), 0x46DD794E),
    ],
)
def test_published_values(data: bytes, crc: int) -> None:
    """RFC 3720, appendix B.4; "123456789" is the catalogues' check value."""
    assert crc32c(data) == crc


@given(st.binary(max_size=3000))
@settings(max_examples=60, deadline=None)
def test_any_length(data: bytes) -> None:
    """Against the definition, a bit at a time."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    assert crc32c(data) == crc ^ 0xFFFFFFFF


@given(st.binary(max_size=2000), st.integers(0, 2000))
@settings(max_examples=30, deadline=None)
def test_in_portions(data: bytes, cut: int) -> None:
    """A file may be read in pieces."""
    assert crc32c(data[cut:], crc32c(data[:cut])) == crc32c(data)
