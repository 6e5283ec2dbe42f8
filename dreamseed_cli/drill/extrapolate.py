"""What the measured way back says about the real database over the real link. Computed, pure."""

from __future__ import annotations

from dataclasses import dataclass

from dreamseed_cli.core.errors import UsageError


@dataclass(frozen=True, slots=True)
class Sizes:
    """Bytes of a backup: stored ones are fetched, plain ones written. restore_s: measured, fetching included.

    rest_s: measured, what does not grow with the database (starting, the first answer). wal_bytes: stored
    ones, of the WAL since the backup, which are fetched, too.
    """

    stored_bytes: int
    plain_bytes: int
    restore_s: float
    rest_s: float
    wal_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Extrapolated:
    """rto_s: computed. fetch_s: of it, the link's; unpack_s: of it, this machine's at the measured rate."""

    link_mbps: float
    database_bytes: int
    fetch_s: float
    unpack_s: float
    rto_s: float


def extrapolate(found: Sizes, database_bytes: int, link_mbps: float) -> Extrapolated:
    """RTO of a database of so many plain bytes over a link of so many Mbit/s (1 Mbit = 10^6 bits).

    The backup is assumed to compress as the measured one did, WAL to be as much as there was (it grows with
    what is written, not with the database), and fetching not to overlap with unpacking:
    an upper bound where they do. UsageError for a link of 0 or less.
    """
    if link_mbps <= 0:
        raise UsageError("a link carries more than nothing", place=f"--link-mbps {link_mbps:g}")
    scale = database_bytes / found.plain_bytes if found.plain_bytes else 1.0
    fetch_s = (found.stored_bytes * scale + found.wal_bytes) * 8 / (link_mbps * 1e6)
    unpack_s = found.restore_s * scale
    return Extrapolated(link_mbps, database_bytes, fetch_s, unpack_s, fetch_s + unpack_s + found.rest_s)
