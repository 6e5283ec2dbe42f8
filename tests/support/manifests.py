"""A manifest's data, for tests to change."""

from __future__ import annotations

from typing import Any

from dreamseed_cli.backup.keys import NewKeys

ID = "20251110T030005Z-physical-7f3a9c01"
RECIPIENT = NewKeys.create().daily.recipient


def part(index: int, stream: str, offset: int, size: int) -> dict[str, Any]:
    """A part's data."""
    return {
        "index": index,
        "stream": stream,
        "offset": offset,
        "plain_size": size,
        "stored_size": size // 2,
        "plain_sha256": f"{index:064x}",
        "cipher_sha256": f"{index + 100:064x}",
    }


def document() -> dict[str, Any]:
    """A valid manifest's data: two streams, whose parts stand mixed as parallel producers write them."""
    moment = "2025-11-10T03:00:05Z"
    return {
        "version": 1,
        "identity": {
            "backup_id": ID,
            "kind": "physical",
            "sequence": 7,
            "system_identifier": "7421907384612345678",
            "cluster": "main",
            "host": "gpu-box",
        },
        "versions": {"dreamseed": "0.1.0", "server": "15.14", "server_version_num": 150014},
        "span": {"started": moment, "ended": "2025-11-10T03:01:05Z", "duration_s": 60.5},
        "wal": {
            "timeline": 1,
            "start_lsn": "0/2000028",
            "checkpoint_lsn": "0/2000060",
            "stop_lsn": "0/2000100",
            "segment_bytes": 16777216,
        },
        "producers": [{"name": "pg_basebackup", "version": "15.14", "exit_code": 0}],
        "streams": [{"name": "base.tar", "size": 100}, {"name": "wal.tar", "size": 10}],
        "parts": [part(0, "base.tar", 0, 60), part(1, "wal.tar", 0, 10), part(2, "base.tar", 60, 40)],
        "databases": [{"name": "한국", "encoding": "UTF8", "collation": "C", "size": 8_000_000}],
        "extensions": [{"database": "한국", "name": "pg_trgm", "version": "1.6"}],
        "roles": ["postgres", 'odd "name"'],
        "tables": [
            {"database": "한국", "schema_name": "public", "name": "t", "rows": 3, "digest": "ab" * 32},
            {"database": "한국", "schema_name": "public", "name": "unlogged", "rows": 0, "digest": None},
        ],
        "digest_method": "hash64",
        "content": {"point": "here", "lsn": "0/3000000", "at": "2025-11-10T03:01:06Z", "note": ""},
        "folders": [],
        "compression": {"method": "zstd", "level": 3},
        "recipients": [RECIPIENT],
        "proof": {"level": "uploaded-and-reread", "at": moment},
        "pinned": False,
    }
