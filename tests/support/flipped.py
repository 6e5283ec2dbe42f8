"""Other bytes, for certain: a fixed byte in the place of a random one is the same in 1 of 256 runs."""


def flipped(data: bytes) -> bytes:
    """The same bytes but for one bit in the middle; of none, one byte."""
    at = len(data) // 2
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :] if data else b"!"
