"""What a person reads while a run goes on."""

from __future__ import annotations

import io

import pytest

from dreamseed_cli.backup.progress import Progress

MIB = 1 << 20


def test_what_was_there_before_counts_for_no_rate() -> None:
    """A restore that goes on: the time left is that of what is still to be fetched."""
    times = iter((0.0, 0.0, 10.0, 10.0))
    progress = Progress(io.StringIO(), 1000 * MIB, lambda: next(times))
    progress.told(800 * MIB, 0)
    progress.told(900 * MIB, MIB)
    assert progress.line(900 * MIB, MIB) == (
        "900.0 MiB of about 1000.0 MiB, 10.0 MiB/s, 10 s left; 1.0 MiB stored"
    )


@pytest.mark.parametrize(
    ("elapsed_s", "expected", "plain", "line"),
    [
        (4.0, 3 * MIB, MIB, "1.0 MiB of about 3.0 MiB, 256.0 KiB/s, 8 s left; 10 B stored"),
        (0.1, 3 * MIB, MIB, "1.0 MiB of about 3.0 MiB, 10.0 MiB/s; 10 B stored"),
        (4.0, 3 * MIB, 4 * MIB, "4.0 MiB of about 3.0 MiB, 1.0 MiB/s; 10 B stored"),
        (4.0, None, MIB, "1.0 MiB, 256.0 KiB/s; 10 B stored"),
    ],
)
def test_the_time_left_is_told_once_the_rate_is_steady(
    elapsed_s: float, expected: int | None, plain: int, line: str
) -> None:
    """Not from the first half-kilobyte; and not beyond what was expected."""
    times = iter([0.0, elapsed_s])
    assert Progress(io.StringIO(), expected, clock=lambda: next(times)).line(plain, 10) == line
