"""What pgbench says, read."""

from __future__ import annotations

from pathlib import Path

import pytest

from dreamseed_cli.bench.pgbench.output import (
    Second,
    last_words,
    latencies_ms,
    parse_progress,
    parse_summary,
    window,
)
from dreamseed_cli.core.errors import FailedError

PROGRESS = """\
progress: 1795581437.470 s, 1579.8 tps, lat 4.932 ms stddev 4.068, 0 failed, 0 retried, 0 retries
WARNING:  something of the server's
progress: 1795581438.469 s, 0.0 tps, lat 0.000 ms stddev 0.000, 3 failed
progress: 1795581439.469 s, 2238.9 tps, lat -nan ms stddev -nan, 0 failed
"""
SUMMARY = """\
pgbench (18.4)
transaction type: multiple scripts
scaling factor: 2
number of clients: 8
number of transactions actually processed: 82856
number of failed transactions: 12 (0.014%)
latency average = 0.373 ms
initial connection time = 7.537 ms
tps = 20713.440737 (without initial connection time)
SQL script 1: <builtin: select only>
 - number of transactions actually processed: 74620 (tps = 18654.496329)
 - number of failed transactions: 5 (0.000%)
"""


def test_the_rate_of_every_second_is_read() -> None:
    """Whatever stands between the lines, and whatever the latency's words are."""
    assert parse_progress(PROGRESS) == (
        Second(1795581437.470, 1579.8),
        Second(1795581438.469, 0.0),
        Second(1795581439.469, 2238.9),
    )


def test_the_summary_is_that_of_all_scripts() -> None:
    """Not that of one of them, which says the same words."""
    summary = parse_summary(SUMMARY)

    assert (summary.tps, summary.transactions, summary.failed) == (20713.440737, 82856, 12)


def test_a_pgbench_that_counts_no_failures_has_none() -> None:
    """PostgreSQL 14's: a failure ended the run there."""
    without = "\n".join(line for line in SUMMARY.splitlines() if "failed" not in line)

    assert parse_summary(without).failed == 0


@pytest.mark.parametrize("said", ["", "pgbench (PostgreSQL) 18.4\n", "tps = viele\n"])
def test_what_is_no_summary_is_said_to_be_none(said: str) -> None:
    """With the words that stood there."""
    with pytest.raises(FailedError, match="summary cannot be read"):
        parse_summary(said)


def test_a_run_in_which_nothing_ended_says_so() -> None:
    """pgbench prints no rate then: its summary is one all the same."""
    said = "maximum number of tries: 1\nduration: 2 s\nnumber of transactions actually processed: 0\n"
    with pytest.raises(FailedError, match="no transaction ended"):
        parse_summary(said)


def test_last_words_leave_the_progress_out() -> None:
    """They are what tells why it ended."""
    said = (
        PROGRESS + 'pgbench: error: client 3 aborted: FATAL:  terminating\npgbench: error: it was "aborted"\n'
    )

    assert last_words(said).endswith(
        'pgbench: error: client 3 aborted: FATAL:  terminating; pgbench: error: it was "aborted"'
    )
    assert "progress" not in last_words(said)


def test_the_warm_up_does_not_count() -> None:
    """Nor does anything if the run was no longer than that."""
    seconds = parse_progress(PROGRESS)

    assert window(seconds, 1) == seconds[1:]
    assert window(seconds, 5) == ()


def test_latencies_are_those_of_the_measured_part_that_succeeded(tmp_path: Path) -> None:
    """From all threads' logs; a failed transaction has none, and a line that was cut off is passed over."""
    (tmp_path / "log.7").write_text(
        "0 1 5009 1 100 900000\n0 2 94 0 101 500000\n0 3 failed 0 101 600000\n0 4 1250 0 102 0 0\n0 5 77 0 10"
    )
    (tmp_path / "log.7.1").write_text("1 1 skipped 0 103 1\n1 2 2000 0 103 2\n\n")

    found = latencies_ms(sorted(tmp_path.glob("log*")), after_s=101.0)

    assert list(found) == [0.094, 1.25, 2.0]
