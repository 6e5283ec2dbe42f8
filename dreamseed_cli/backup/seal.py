"""Sealing a part: zstd, then age; and opening it again, with every kind of damage named for what it is.

By hand: `age -d -i KEY PART | zstd -dcf`. A payload that begins with zstd's magic number is a zstd frame;
anything else is the plain bytes themselves, which stay as they are where zstd would make them larger.

age's own format through pyrage costs about 2.4 ms a MiB of compressed bytes and keeps the interpreter's lock
meanwhile; zstd and SHA-256 let go of it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

import pyrage
import zstandard

from dreamseed_cli.backup.keys import Identity, NoKey, WrongKey
from dreamseed_cli.backup.memory import fresh
from dreamseed_cli.core.errors import FailedError

LARGEST_PLAIN_BYTES: Final = 1 << 30
"""The largest plain object there is: a WAL segment of 1 GiB. Bounds what a forged frame may ask for."""

_ZSTD_MAGIC: Final = zstandard.FRAME_HEADER
_NO_MATCH: Final = "No matching keys found"


class Damage(StrEnum):
    """What is wrong with a sealed object."""

    CIPHER_BROKEN = "the encryption's own check fails: bytes were changed or cut off"
    NOT_COMPRESSED = "the decrypted bytes do not decompress"
    SIZE_DIFFERS = "the size is another than the manifest's"
    PLAIN_DIFFERS = "the content is another than the manifest's"


class SealBroken(FailedError):
    """A sealed object cannot be trusted."""

    kind = "damaged"

    def __init__(self, damage: Damage, *, place: str) -> None:
        super().__init__(damage.value, place=place, remedy="Restore an older backup: dreamseed backup list.")
        self.damage = damage


@dataclass(frozen=True, slots=True)
class Sealed:
    """A part as it goes to the store. Digests are SHA-256 in hexadecimal digits, sizes bytes."""

    cipher: bytes
    plain_sha256: str
    cipher_sha256: str
    plain_size: int


@dataclass(frozen=True, slots=True)
class Expected:
    """What is known of a sealed object beforehand. The digest of its stored bytes is the store's to compare.

    plain_size: None where nothing tells it (an archived WAL file's name has only the digest of its plain
    bytes). name: of the object, for messages.
    """

    name: str
    plain_sha256: str
    plain_size: int | None = None


def seal(plain: bytes | memoryview, recipients: Sequence[pyrage.x25519.Recipient], level: int = 3) -> Sealed:
    """Compress and encrypt a part; any recipient's private key opens it. NoKey without recipients.

    level: zstd's. Uses one thread: parts are sealed side by side.
    """
    if not recipients:
        raise NoKey("no public key to encrypt to", remedy="Run dreamseed backup init.")
    cipher = bytes(pyrage.encrypt(_pack(plain, level), recipients))
    return Sealed(cipher, sha256(plain), sha256(cipher), len(plain))


def open_sealed(
    cipher: bytes, identities: Sequence[Identity], expected: Expected, room: memoryview | None = None
) -> memoryview:
    """The plain bytes, proven equal to those that were sealed. Raises SealBroken, WrongKey, NoKey.

    room: memory for them, of `expected.plain_size` at least, where they then lie if they were compressed.
    """
    plain = _unpack(_decrypt(cipher, identities, expected.name), expected, room)
    if expected.plain_size is not None and len(plain) != expected.plain_size:
        raise SealBroken(Damage.SIZE_DIFFERS, place=expected.name)
    if sha256(plain) != expected.plain_sha256:
        raise SealBroken(Damage.PLAIN_DIFFERS, place=expected.name)
    return plain


def payload_size(cipher: bytes) -> int:
    """Bytes of a sealed object behind the stanzas of age's header, whose length is random: equal for the same
    plain bytes sealed again at the same level.
    """
    return len(cipher.partition(b"\n--- ")[2])


def sha256(data: bytes | memoryview) -> str:
    """SHA-256 in hexadecimal digits."""
    return hashlib.sha256(data).hexdigest()


def _pack(plain: bytes | memoryview, level: int) -> bytes:
    packed = zstandard.ZstdCompressor(level=level, write_content_size=True).compress(plain)
    # Bytes that look like a frame themselves (a .zst file in a folder) must be wrapped, or they would be
    # decompressed on the way back.
    return bytes(plain) if len(plain) <= len(packed) and plain[:4] != _ZSTD_MAGIC else packed


def _unpack(payload: bytes, expected: Expected, room: memoryview | None) -> memoryview:
    if not payload.startswith(_ZSTD_MAGIC):
        return memoryview(payload)
    try:
        size = zstandard.get_frame_parameters(payload).content_size
        if size > (LARGEST_PLAIN_BYTES if expected.plain_size is None else expected.plain_size):
            raise SealBroken(Damage.SIZE_DIFFERS, place=expected.name)
        plain = fresh(size) if room is None else room[:size]
        # Any frame that follows counts as well, and makes it longer than the first one says.
        with zstandard.ZstdDecompressor().stream_reader(payload, read_across_frames=True) as frames:
            whole = _fill(plain, frames) == size and not frames.read(1)
    except zstandard.ZstdError as error:
        raise SealBroken(Damage.NOT_COMPRESSED, place=expected.name) from error
    if not whole:
        raise SealBroken(Damage.NOT_COMPRESSED, place=expected.name)
    return plain


def _fill(plain: memoryview, frames: zstandard.ZstdDecompressionReader) -> int:
    """Bytes that came; fewer than there is room for only at the end."""
    filled = 0
    while filled < len(plain) and (came := frames.readinto(plain[filled:])):
        filled += came
    return filled


def _decrypt(cipher: bytes, identities: Sequence[Identity], place: str) -> bytes:
    if not identities:
        raise NoKey(
            "backups are encrypted, and no private key was given", place=place, remedy="Give the key file."
        )
    try:
        return bytes(pyrage.decrypt(cipher, [identity.key for identity in identities]))
    except pyrage.DecryptError as error:
        if str(error) != _NO_MATCH:
            raise SealBroken(Damage.CIPHER_BROKEN, place=place) from error
        raise WrongKey(
            f"encrypted to other keys than {', '.join(identity.recipient for identity in identities)}",
            place=place,
            remedy="Give the key of that time or the recovery key; the manifest names their public halves.",
        ) from error
