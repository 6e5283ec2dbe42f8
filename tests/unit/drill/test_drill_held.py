"""What the store held at a loss."""

from __future__ import annotations

from dreamseed_cli.backup.manifest import WalSpan
from dreamseed_cli.backup.names import wal_name
from dreamseed_cli.backup.wal_names import WalSegment, parse_wal_file
from dreamseed_cli.drill.held import Held

_MIB = 2**20


def test_the_wal_that_recovery_fetches_is_counted() -> None:
    """From the segment in which the backup begins to the one in which recovery ended; no backup's parts."""
    files = [parse_wal_file(WalSegment(1, number, _MIB).name, _MIB) for number in range(1, 7)]
    sizes = {wal_name(file, "0" * 64): 10**place for place, file in enumerate(files)}
    history = parse_wal_file("00000002.history")
    held = Held({**sizes, wal_name(history, "0" * 64): 7 * 10**9, "backups/x/part": 8 * 10**9})
    span = WalSpan(
        timeline=1, start_lsn="0/200028", stop_lsn="0/200100", checkpoint_lsn="0/200060", segment_bytes=_MIB
    )
    assert held.wal_bytes(span, 4 * _MIB + 1) == 1110
    assert held.wal_bytes(span, 4 * _MIB) == 110
