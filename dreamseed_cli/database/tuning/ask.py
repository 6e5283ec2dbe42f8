"""What the server and this machine say of the box that the server stands on."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

import psycopg

from dreamseed_cli.core.errors import UsageError
from dreamseed_cli.database.settings import Wanted, read_settings
from dreamseed_cli.database.tuning.box import Box, Storage, machine_cores, machine_memory_bytes, storage_below
from dreamseed_cli.database.tuning.derive import derive
from dreamseed_cli.database.tuning.differences import Difference, compare

_SHARE = 0.5
"""Of a machine that engines, a gateway and a cache share, what PostgreSQL may take unless told."""
_UNKNOWN_DISK_BYTES = 80 * 1024**3
"""A disk that is not seen is taken to be large enough for §E1's max_wal_size."""
_LOOPBACK = ("localhost", "127.0.0.1", "::1")


def is_here(connection: psycopg.Connection) -> bool:
    """Whether the server runs on this machine: on a Unix socket or a loopback address."""
    host = connection.info.host
    return host.startswith(("/", "@")) or host in _LOOPBACK


def kind_of_storage(name: str | None) -> Storage | None:
    """UsageError for a kind that there is not."""
    if name is None:
        return None
    try:
        return Storage(name.lower())
    except ValueError as error:
        raise UsageError(
            f"there is no kind of disk '{name}'", place="--storage", remedy="Write nvme, ssd or hdd."
        ) from error


def box_of(
    connection: psycopg.Connection,
    memory_gib: float | None = None,
    cores: int | None = None,
    storage: Storage | None = None,
    connections: int | None = None,
) -> Box:
    """What was told; the rest from the server and this machine. Blocks."""
    row = connection.execute(
        "SELECT current_setting('max_connections')::int, current_setting('data_directory')"
    ).fetchone()
    assert row is not None  # noqa: S101 - it has no condition
    most, data = int(row[0]), Path(row[1])
    here = data.is_dir()
    return Box(
        memory_bytes=int(memory_gib * 1024**3) if memory_gib else int(machine_memory_bytes() * _SHARE),
        cores=cores or machine_cores(),
        storage=storage or (storage_below(data) if here else Storage.SSD),
        disk_free_bytes=shutil.disk_usage(data).free if here else _UNKNOWN_DISK_BYTES,
        connections=connections or most,
    )


def differences(
    connection: psycopg.Connection, box: Box, document: Sequence[Wanted] = ()
) -> tuple[Difference, ...]:
    """What this box gives beside the document's and the server's own. Blocks."""
    derived = derive(box)
    return compare(derived, document, read_settings(connection, [one.name for one in derived]))
