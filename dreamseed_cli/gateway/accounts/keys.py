"""API keys: made here, shown once, kept as a hash. Pure, but for the randomness."""

from __future__ import annotations

import hashlib
import re
import secrets
import string
import zlib
from dataclasses import dataclass

from dreamseed_cli.gateway.security.credentials import API_KEY_PREFIX

_ALPHABET = string.digits + string.ascii_letters
_MARK = API_KEY_PREFIX
_SECRET_BYTES = 32
_SECRET_LENGTH = 43  # base62 digits that hold 256 bits
_CHECK_LENGTH = 6  # base62 digits that hold a CRC-32
_RECOGNISED_BY = len(_MARK) + 8
_SHAPE = re.compile(rf"{_MARK}[0-9A-Za-z]{{{_SECRET_LENGTH + _CHECK_LENGTH}}}")


@dataclass(frozen=True, slots=True)
class NewKey:
    """A key at the only moment that anybody sees it."""

    text: str
    """What the user sends as `authorization: Bearer`. Never stored, never logged."""

    @property
    def hash(self) -> bytes:
        return _hash(self.text)

    @property
    def prefix(self) -> str:
        """What the key is recognised by in lists: 48 of its 256 bits at most, which helps nobody to guess."""
        return self.text[:_RECOGNISED_BY]


def new_key() -> NewKey:
    """256 random bits as `ds_`, 43 letters and digits, and a checksum of 6."""
    secret = _base62(int.from_bytes(secrets.token_bytes(_SECRET_BYTES)), _SECRET_LENGTH)
    return NewKey(_MARK + secret + _checksum(secret))


def key_hash(text: str) -> bytes | None:
    """What a key is looked up by, 32 bytes; None if it is no key of ours.

    The checksum finds typos and garbage before PostgreSQL is asked; it keeps nothing secret.
    """
    if _SHAPE.fullmatch(text) is None:
        return None
    secret = text[len(_MARK) : -_CHECK_LENGTH]
    return _hash(text) if text[-_CHECK_LENGTH:] == _checksum(secret) else None


def _hash(text: str) -> bytes:
    """SHA-256, not a slow password hash: those make up for passwords that can be guessed. Nobody guesses 256
    random bits, and a slow hash would cost the gateway's only core milliseconds for every request.
    """
    return hashlib.sha256(text.encode("ascii")).digest()


def _checksum(secret: str) -> str:
    return _base62(zlib.crc32(secret.encode("ascii")), _CHECK_LENGTH)


def _base62(number: int, length: int) -> str:
    digits = []
    for _ in range(length):
        number, digit = divmod(number, len(_ALPHABET))
        digits.append(_ALPHABET[digit])
    return "".join(reversed(digits))
