"""What pgbench says: TPS of every second, a summary, and a log of latencies."""

from __future__ import annotations

import re
from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from dreamseed_cli.core.errors import FailedError

_PROGRESS = re.compile(r"^progress: (?P<at>\d+(?:\.\d+)?) s, (?P<tps>\d+(?:\.\d+)?) tps\b")
_TPS = re.compile(r"^tps = (\d+(?:\.\d+)?)\b", re.MULTILINE)
_FAILED = re.compile(r"^number of failed transactions: (\d+)\b", re.MULTILINE)
_DONE = re.compile(r"^number of transactions actually processed: (\d+)", re.MULTILINE)
_LAST_WORDS = 3


@dataclass(frozen=True, slots=True)
class Second:
    """One line of progress. at_s: Unix time at its end."""

    at_s: float
    tps: float


@dataclass(frozen=True, slots=True)
class Summary:
    """pgbench's own account of the whole run, warm-up included."""

    tps: float
    transactions: int
    failed: int


def parse_progress(stderr: str) -> tuple[Second, ...]:
    """Its progress lines, in order; whatever else stands there is passed over."""
    found = (_PROGRESS.match(line) for line in stderr.splitlines())
    return tuple(Second(float(one["at"]), float(one["tps"])) for one in found if one)


def parse_summary(stdout: str) -> Summary:
    """FailedError if it is not one of pgbench's (14 and later) in English, or no transaction ended."""
    tps, done, failed = _TPS.search(stdout), _DONE.search(stdout), _FAILED.search(stdout)
    if tps is None and done is not None:  # it prints no rate of nothing
        raise FailedError(
            "no transaction ended before the time was over",
            place="bench db",
            remedy="Give a longer --duration, or fewer clients than this machine can serve.",
        )
    if tps is None or done is None:
        raise FailedError(
            f"pgbench's summary cannot be read: {last_words(stdout) or 'it is empty'}",
            place="bench db",
            remedy="Use a pgbench of PostgreSQL 14 or later.",
        )
    # Before PostgreSQL 15 a failed transaction ended its client, and with it the run.
    return Summary(float(tps[1]), int(done[1]), int(failed[1]) if failed else 0)


def last_words(text: str) -> str:
    """The last lines that are no progress, as one."""
    lines = [line.strip() for line in text.splitlines() if line.strip() and not _PROGRESS.match(line)]
    return "; ".join(lines[-_LAST_WORDS:])


def window(seconds: Sequence[Second], warm_s: int) -> tuple[Second, ...]:
    """Those after the warm-up, each with its length known from the one before."""
    return tuple(seconds[warm_s:]) if warm_s >= 1 else tuple(seconds)


def latencies_ms(files: Iterable[Path], after_s: float) -> array[float]:
    """The latency of every logged transaction that succeeded and ended after `after_s` (Unix time)."""
    found = array("d")
    for file in files:
        with file.open(encoding="ascii", errors="replace") as lines:
            for line in lines:
                latency = _latency_ms(line, after_s)
                if latency is not None:
                    found.append(latency)
    return found


def _latency_ms(line: str, after_s: float) -> float | None:
    """Of `client number latency_us script time_s time_us ...`; None for one that failed or was cut."""
    words = line.split()
    if len(words) < 6 or not line.endswith("\n"):
        return None
    try:
        ended_s = int(words[4]) + int(words[5]) / 1e6
        return int(words[2]) / 1000 if ended_s > after_s else None
    except ValueError:  # "failed" or "skipped" stand in the latency's place
        return None
