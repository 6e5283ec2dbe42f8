"""Recovery to the archive's end that stops before it: PostgreSQL opens at the first record it cannot read."""

from __future__ import annotations

import re
from typing import Final

from dreamseed_cli.backup.physical.content import Archived
from dreamseed_cli.backup.wal_names import format_lsn, parse_lsn
from dreamseed_cli.core.errors import FailedError

_DONE: Final = re.compile(r"redo done at ([0-9A-F]+/[0-9A-F]+)")
"""Where the last record that was replayed begins: the place that --lsn can name."""
_WHY: Final = re.compile(r"LOG:  (.* at [0-9A-F]+/[0-9A-F]+.*|unexpected .*)")
"""What PostgreSQL says of the record that it could not read, right before that."""


class EndedEarly(FailedError):
    """The archive goes on, and recovery did not: what is behind is not in the database."""

    kind = "recovery_ended_early"


def check_reached(reached_lsn: str, archived: Archived, segment_bytes: int, log: str) -> None:
    """EndedEarly if recovery to the archive's end stopped more than a segment before it. log: the server's.

    A segment, since the last record may go on in one that is not archived yet.
    """
    lsn = parse_lsn(reached_lsn)
    if archived.lsn - lsn <= segment_bytes:
        return
    segment = archived.history.segment_at(lsn // segment_bytes, segment_bytes)
    before, _, _ = log.rpartition("redo done at")
    said = _WHY.findall(before)
    done = _DONE.findall(log)
    raise EndedEarly(
        f"recovery stopped at {reached_lsn}, and the archive reaches {format_lsn(archived.lsn)}"
        + (f": {said[-1]}" if said else ""),
        place=segment.name,
        remedy="That segment was damaged before it was archived. Take a newer backup as the base"
        + (f", or restore to there on purpose: --lsn {done[-1]}." if done else "."),
    )
