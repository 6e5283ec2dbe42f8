"""Sealed parts: what goes in comes out, and every kind of damage has its name."""

from __future__ import annotations

import random
from dataclasses import replace

import pyrage
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from dreamseed_cli.backup.keys import Identity, NewKeys, NoKey, WrongKey, parse_recipients
from dreamseed_cli.backup.seal import Damage, Expected, SealBroken, Sealed, open_sealed, seal, sha256

KEYS = NewKeys.create()
TO = parse_recipients(KEYS.recipients, place="test")
NOISE = random.Random(7).randbytes(100_000)  # noqa: S311
ROWS = b"".join(b"%08d|learner-%d|0.5|2025-11-10\n" % (n, n % 97) for n in range(5_000))


def told(sealed: Sealed) -> Expected:
    """What a manifest says of a part."""
    return Expected("part", sealed.plain_sha256, sealed.plain_size)


def encrypted(payload: bytes) -> bytes:
    """A payload encrypted without being packed."""
    return bytes(pyrage.encrypt(payload, TO))


def damage(cipher: bytes, expected: Expected) -> Damage:
    """How opening it fails."""
    with pytest.raises(SealBroken) as caught:
        open_sealed(cipher, [KEYS.daily], expected)
    assert caught.value.place == expected.name
    return caught.value.damage


@given(st.one_of(st.binary(max_size=2_000), st.sampled_from([b"", ROWS, NOISE, zstandard.compress(ROWS)])))
@settings(max_examples=60)
def test_what_goes_in_comes_out(plain: bytes) -> None:
    """Any bytes, zstd frames among them, come back equal."""
    sealed = seal(plain, TO)
    assert open_sealed(sealed.cipher, [KEYS.daily], told(sealed)) == plain


def test_both_keys_open_it() -> None:
    """The recovery key opens what the daily key opens."""
    sealed = seal(ROWS, TO)
    for identity in (KEYS.daily, KEYS.recovery):
        assert open_sealed(sealed.cipher, [identity], told(sealed)) == ROWS


def test_rows_shrink_and_noise_hardly_grows() -> None:
    """Compressible bytes are compressed; others are stored as they are, plus age's header and tags."""
    assert len(seal(ROWS, TO).cipher) < len(ROWS) / 4
    sealed = seal(NOISE, TO)
    assert pyrage.decrypt(sealed.cipher, [KEYS.daily.key]) == NOISE
    assert len(sealed.cipher) < len(NOISE) + 2_000


def test_age_and_zstd_alone_open_it() -> None:
    """Without this program: age's payload is a plain zstd frame."""
    payload = pyrage.decrypt(seal(ROWS, TO).cipher, [KEYS.daily.key])
    assert zstandard.decompress(payload) == ROWS


def test_an_archived_file_opens_by_its_digest_alone() -> None:
    """A WAL object's name tells the plain digest only; that suffices."""
    sealed = seal(ROWS, TO)
    assert open_sealed(sealed.cipher, [KEYS.daily], Expected("wal", sealed.plain_sha256)) == ROWS


@given(st.floats(0, 1, exclude_max=True))
@settings(max_examples=40)
def test_a_flipped_bit_never_passes(where: float) -> None:
    """age finds any flipped bit itself."""
    sealed = seal(b"a learner's answers" * 20, TO)
    bit = int(where * len(sealed.cipher) * 8)
    cipher = bytearray(sealed.cipher)
    cipher[bit // 8] ^= 1 << bit % 8
    with pytest.raises((SealBroken, WrongKey)):
        open_sealed(bytes(cipher), [KEYS.daily], Expected("wal", sealed.plain_sha256))


def test_broken_encryption_is_told_from_a_wrong_key() -> None:
    """A cut file with the right key is damaged; a whole one with another key is not."""
    sealed = seal(ROWS, TO)
    assert damage(sealed.cipher[:-1], Expected("wal", sealed.plain_sha256)) is Damage.CIPHER_BROKEN
    with pytest.raises(WrongKey) as caught:
        open_sealed(sealed.cipher, [Identity.create()], told(sealed))
    assert caught.value.exit_code == 3


def test_no_key_is_told_apart() -> None:
    """Neither sealing nor opening goes on without a key."""
    sealed = seal(ROWS, TO)
    with pytest.raises(NoKey):
        open_sealed(sealed.cipher, [], told(sealed))
    with pytest.raises(NoKey):
        seal(ROWS, [])


def test_what_does_not_decompress_is_named() -> None:
    """A frame that was cut before it was encrypted, and one with bytes behind it."""
    frame = zstandard.compress(ROWS)
    expected = Expected("part", sha256(ROWS), len(ROWS))
    assert damage(encrypted(frame[:-5]), expected) is Damage.NOT_COMPRESSED
    assert damage(encrypted(frame + b"x"), expected) is Damage.NOT_COMPRESSED


def test_other_content_is_named() -> None:
    """A rightly sealed part in another's place: by its size, or by its digest if that is equal."""
    sealed = seal(ROWS, TO)
    other = told(seal(ROWS[::-1], TO))
    assert damage(sealed.cipher, other) is Damage.PLAIN_DIFFERS
    larger = replace(other, plain_size=len(ROWS) + 1)
    assert damage(sealed.cipher, larger) is Damage.SIZE_DIFFERS


def test_a_frame_larger_than_it_may_be_is_not_unpacked() -> None:
    """A forged part of some kilobytes cannot ask for gigabytes of memory."""
    bomb = encrypted(zstandard.compress(bytes(50_000_000)))
    assert damage(bomb, Expected("part", sha256(b""), 1_000)) is Damage.SIZE_DIFFERS
