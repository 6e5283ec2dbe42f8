"""Memory for large pieces."""

import pytest

from dreamseed_cli.backup.memory import fresh


@pytest.mark.parametrize("size", [0, 1, (2 << 20) - 1, 2 << 20, (4 << 20) + 3])
def test_as_many_zero_bytes_as_were_asked_for(size: int) -> None:
    """Of any size, and all of them can be written."""
    memory = fresh(size)
    assert bytes(memory) == bytes(size)
    memory[:] = b"x" * size
    assert bytes(memory) == b"x" * size


def test_a_view_of_it_outlives_the_rest() -> None:
    """Nothing else has to be kept."""
    part = fresh(4 << 20)[5:8]
    part[:] = b"abc"
    fresh(4 << 20)[:] = bytes(4 << 20)
    assert bytes(part) == b"abc"
