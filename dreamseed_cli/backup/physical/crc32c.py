"""CRC-32C (Castagnoli), which PostgreSQL's backup manifests have for every file, with numpy: no byte by byte.

A CRC without its start value is linear. So pieces of equal length are computed side by side, two bytes a
step, and joined pairwise, each time shifting the left one past as many zero bytes as the right one has. Zeros
in front change nothing, which makes any length fit. Source: RFC 3720, appendix B.4 (check values).
"""

from __future__ import annotations

from functools import cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

Words = NDArray[np.uint32]

_POLYNOMIAL: Final = 0x82F63B78
_ALL: Final = 0xFFFFFFFF
_CHUNK: Final = 8 << 20
_BITS: Final = 32


def crc32c(data: bytes, before: int = 0) -> int:
    """The CRC of `data`; before: that of what came before it."""
    crc = before ^ _ALL
    for start in range(0, len(data), _CHUNK):
        chunk = data[start : start + _CHUNK]
        crc = _shifted(crc, len(chunk)) ^ _raw(chunk)
    return crc ^ _ALL


def _raw(chunk: bytes) -> int:
    """The CRC with a start value of 0."""
    width = max(2, 1 << len(chunk).bit_length() // 2 >> 1)
    lanes = 1 << (-(-len(chunk) // width) - 1).bit_length()
    padded = np.zeros(lanes * width, np.uint8)
    padded[len(padded) - len(chunk) :] = np.frombuffer(chunk, np.uint8)
    columns = np.ascontiguousarray(padded.view("<u2").reshape(lanes, width // 2).T)
    # As wide as an index is, and in place: conversions would take most of the time.
    wide, index, found = (np.zeros(lanes, np.int64) for _ in range(3))
    for column in columns:
        np.bitwise_xor(wide, column, out=index)
        index &= 0xFFFF
        np.take(_two_bytes(), index, out=found, mode="clip")
        wide >>= 16
        wide ^= found
    state = wide.astype(np.uint32)
    power = width.bit_length() - 1
    while len(state) > 1:
        state = _apply(_zeros(power), state[0::2]) ^ state[1::2]
        power += 1
    return int(state[0])


def _shifted(crc: int, count: int) -> int:
    """Past `count` zero bytes."""
    state = np.array([crc], np.uint32)
    for power in range(count.bit_length()):
        if count >> power & 1:
            state = _apply(_zeros(power), state)
    return int(state[0])


def _step(state: Words, table: Words) -> Words:
    stepped: Words = table[state & 0xFF] ^ (state >> np.uint32(8))
    return stepped


@cache
def _one_byte() -> Words:
    state = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        state = (state >> np.uint32(1)) ^ (np.uint32(_POLYNOMIAL) * (state & np.uint32(1)))
    return state


@cache
def _two_bytes() -> NDArray[np.int64]:
    state = np.arange(1 << 16, dtype=np.uint32)
    for _ in range(2):
        state = _step(state, _one_byte())
    return state.astype(np.int64)


@cache
def _zeros(power: int) -> Words:
    """What 2**power zero bytes make of each bit of a state."""
    if power == 0:
        return _step(np.uint32(1) << np.arange(_BITS, dtype=np.uint32), _one_byte())
    half = _zeros(power - 1)
    return _apply(half, half)


def _apply(operator: Words, state: Words) -> Words:
    result = np.zeros_like(state)
    for bit in range(_BITS):
        result ^= operator[bit] * (state >> np.uint32(bit) & np.uint32(1))
    return result
