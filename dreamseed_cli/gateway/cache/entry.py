"""A kept answer, and how it lies in Redis: one byte of schema version, a checksum, msgpack. Pure."""

from __future__ import annotations

import zlib

import msgspec

SCHEMA_VERSION = 1
MOST_BYTES = 256 * 1024
"""The longest answer that is kept, in bytes of its text."""
_CHECKSUM_END = 5


class CachedAnswer(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """A complete answer."""

    text: str
    finish_reason: str
    prompt_tokens: int | None
    completion_tokens: int | None
    simulated: bool


class OtherVersion(Exception):
    """Another version of this program wrote it, which still reads it."""


class Corrupted(Exception):
    """Not what was written."""


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(CachedAnswer).decode


def pack(answer: CachedAnswer) -> bytes:
    """The value for Redis."""
    body = _encode(answer)
    return bytes((SCHEMA_VERSION,)) + zlib.crc32(body).to_bytes(4) + body


def unpack(value: bytes) -> CachedAnswer:
    """The answer again. Raises OtherVersion or Corrupted."""
    if not value:
        raise Corrupted
    if value[0] != SCHEMA_VERSION:
        raise OtherVersion
    body = value[_CHECKSUM_END:]
    if zlib.crc32(body) != int.from_bytes(value[1:_CHECKSUM_END]):
        raise Corrupted
    try:
        return _decode(body)
    except msgspec.DecodeError as error:  # ValidationError is one, too
        raise Corrupted from error
