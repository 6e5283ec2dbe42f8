"""Times of single requests, and the arrival of their tokens. Tokens are the server's count, never chunks."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import chain, repeat

import numpy as np

from dreamseed_cli.bench.measure.columns import Bools, Columns, Floats, Ints
from dreamseed_cli.bench.records import Ending, Record

_MS = 1000.0


@dataclass(frozen=True, slots=True)
class Events:
    """Tokens as they arrived: when, how many, and of which record."""

    time_s: Floats
    tokens: Floats
    owner: Ints

    def within(self, start_s: float, end_s: float) -> float:
        """The tokens that arrived then."""
        return float(self.tokens[(self.time_s >= start_s) & (self.time_s <= end_s)].sum())


@dataclass(frozen=True, slots=True)
class Gaps:
    """Inter-token latencies in the order of requests.

    untold: complete requests whose pieces say nothing of single tokens. at_once: those of several tokens that
    came in one moment and from no cache, such as through a proxy that holds streams back.
    """

    ms: Floats
    requests: int
    untold: int
    at_once: int = 0


def ttft_ms(cols: Columns) -> Floats:
    """Time to first token, from when the request was due; NaN where none came."""
    return (cols.first_s - cols.scheduled_s) * _MS


def ttft_from_send_ms(cols: Columns) -> Floats:
    """Time to first token, from when the request was sent; NaN where none came."""
    return (cols.first_s - cols.sent_s) * _MS


def scheduling_delay_ms(cols: Columns) -> Floats:
    """How late the load itself was; NaN for what was not sent. Opening a connection is not its doing."""
    return (cols.begun_s - cols.scheduled_s) * _MS


def connect_ms(cols: Columns) -> Floats:
    """How long connections took to open; NaN for requests that found one open."""
    return np.array([np.nan if one.connect_s is None else one.connect_s * _MS for one in cols.records])


def e2e_ms(cols: Columns) -> Floats:
    """From when it was due until the whole answer was there; NaN for all that is not complete."""
    return np.where(cols.complete, (cols.end_s - cols.scheduled_s) * _MS, np.nan)


def tpot_ms(cols: Columns) -> Floats:
    """Time per output token after the first one, shown or not; NaN unless complete with two tokens or more.

    An answer whose text came in one moment tells nothing of it: 0 would be the best there is.
    """
    known = cols.complete & (cols.tokens >= 2) & (cols.last_s > cols.first_s)
    first = np.array([one.piece_s[0] if one.piece_s else np.nan for one in cols.records])
    each = (cols.last_s - np.fmin(first, cols.first_s)) * _MS / np.where(known, cols.tokens - 1, 1.0)
    return np.where(known, each, np.nan)


def answered_ms(cols: Columns) -> Floats:
    """Time from when a request was due until its answer began; infinite for all that is not complete.

    An answer without text (a static file) is there when it ends.
    """
    first = np.where(np.isnan(cols.first_s), cols.end_s, cols.first_s)
    return np.where(cols.complete, (first - cols.scheduled_s) * _MS, np.inf)


def kept_slo(cols: Columns, ttft_limit_ms: float, tpot_limit_ms: float) -> Bools:
    """Which requests are good: complete, TTFT from the scheduled time and TPOT within their limits.

    One of a single token has no TPOT to miss.
    """
    in_time = answered_ms(cols) <= ttft_limit_ms
    each = tpot_ms(cols)
    return np.asarray(cols.complete & in_time & (np.isnan(each) | (each <= tpot_limit_ms)), dtype=np.bool_)


def token_events(cols: Columns) -> Events:
    """Every token that was received, with the time of its piece.

    Where the server tells no running total, an answer's tokens are spread evenly over its pieces; what usage
    tells beyond the last total (a stop token has no text) came with the last piece. Answers of which no count
    is told, or a false one (MISCOUNTED), add nothing.
    """
    pieces = _pieces(cols.records)
    told = _any_told(pieces, len(cols))
    counted = np.array([one.ending is not Ending.MISCOUNTED for one in cols.records], dtype=np.bool_)
    usage = np.where(counted, np.nan_to_num(cols.tokens), 0.0)
    spread = np.divide(usage, pieces.lengths, out=np.zeros(len(cols)), where=pieces.lengths > 0)
    weights = np.where(told[pieces.owner], pieces.growth, spread[pieces.owner]) * counted[pieces.owner]
    sums = np.bincount(pieces.owner, weights, minlength=len(cols))
    rest = np.maximum(usage - sums, 0.0)
    when = np.where(np.isnan(cols.last_s), cols.end_s, cols.last_s)
    late = np.flatnonzero((rest > 1e-6) & ~np.isnan(when))
    return Events(
        time_s=np.concatenate([pieces.time_s, when[late]]),
        tokens=np.concatenate([weights, rest[late]]),
        owner=np.concatenate([pieces.owner, late]),
    )


def gaps(cols: Columns) -> Gaps:
    """The inter-token latencies of the complete requests.

    A piece that brings k tokens counts as k gaps of a k-th of the time since the piece before. If the server
    tells no totals, pieces are tokens only if there are as many of them as tokens; else the request gives no
    gaps (its TPOT stands). One that came in one moment gives none either.
    """
    answers = cols.only(cols.complete & (cols.last_s > cols.first_s))
    generated = np.array([not one.cache_hit for one in cols.records], dtype=np.bool_)
    pieces = _pieces(answers.records)
    told = _any_told(pieces, len(answers))
    single = ~told & (pieces.lengths == answers.tokens)
    growth = np.where(single[pieces.owner], 1, pieces.growth)
    kept = np.flatnonzero(growth > 0)
    owner, time_s, count = pieces.owner[kept], pieces.time_s[kept], growth[kept]
    follows = np.flatnonzero(owner[1:] == owner[:-1]) + 1
    each = (time_s[follows] - time_s[follows - 1]) * _MS / count[follows]
    return Gaps(
        ms=np.repeat(each, count[follows]),
        requests=len(np.unique(owner[follows])),
        untold=int((~told & ~single & (answers.tokens >= 2)).sum()),
        at_once=int((generated & cols.complete & (cols.last_s == cols.first_s) & (cols.tokens >= 2)).sum()),
    )


@dataclass(frozen=True, slots=True)
class _Pieces:
    """All pieces of all records on end. growth: by how much the running total of tokens grew with each."""

    time_s: Floats
    growth: Ints
    owner: Ints
    lengths: Ints


def _pieces(records: tuple[Record, ...]) -> _Pieces:
    lengths = np.array([len(one.piece_s) for one in records], dtype=np.int64)
    size = int(lengths.sum())
    owner = np.repeat(np.arange(len(records)), lengths)
    time_s = np.fromiter(chain.from_iterable(one.piece_s for one in records), np.float64, size)
    totals = np.fromiter(chain.from_iterable(_totals(one) for one in records), np.int64, size)
    # A running maximum for each record: a piece that tells no total leaves the one before it standing. Every
    # record is lifted above the last one's totals, so one pass does for all of them.
    lift = owner * (int(totals.max(initial=0)) + 1)
    totals = np.maximum.accumulate(totals + lift) - lift
    growth = np.diff(totals, prepend=0)
    starts = (np.cumsum(lengths) - lengths)[lengths > 0]
    growth[starts] = totals[starts]
    return _Pieces(time_s, growth, owner, lengths)


def _totals(record: Record) -> Iterable[int]:
    """A record's running totals; the usage at the end stands for a last one that was not told."""
    size = len(record.piece_s)
    if len(record.piece_tokens) != size or not any(record.piece_tokens):
        return repeat(0, size)
    if record.piece_tokens[-1] == 0 and record.completion_tokens is not None:
        return [*record.piece_tokens[:-1], record.completion_tokens]
    return record.piece_tokens


def _any_told(pieces: _Pieces, count: int) -> Bools:
    return np.asarray(np.bincount(pieces.owner, pieces.growth, minlength=count) > 0, dtype=np.bool_)
