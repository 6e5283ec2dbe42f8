"""What a base backup says of itself, in its `backup_label` and its `backup_manifest`.

Source: src/backend/access/transam/xlogbackup.c (build_backup_content); "Backup Manifest Format" in
PostgreSQL's documentation.
"""

from __future__ import annotations

import json
import re
from typing import Any

from dreamseed_cli.backup.manifest import WalSpan
from dreamseed_cli.backup.wal_names import format_lsn, parse_lsn
from dreamseed_cli.core.errors import DreamseedError, FailedError

LABEL = "backup_label"
MANIFEST = "backup_manifest"

_LABEL_LINE = re.compile(r"^([A-Z ]+): ([^\s(]+)", re.MULTILINE)


class LabelInvalid(FailedError):
    """The copy does not say where it lies in the WAL: it is none."""

    kind = "label_invalid"


def read_span(label: bytes, manifest: bytes, segment_bytes: int) -> WalSpan:
    """Where the backup lies in the WAL. LabelInvalid."""
    lines = dict(_LABEL_LINE.findall(label.decode(errors="replace")))
    try:
        ranges: list[dict[str, Any]] = json.loads(manifest)["WAL-Ranges"]
        last = max(ranges, key=lambda found: parse_lsn(found["End-LSN"]))
        return WalSpan(
            timeline=int(last["Timeline"]),
            start_lsn=_canonical(lines["START WAL LOCATION"]),
            checkpoint_lsn=_canonical(lines["CHECKPOINT LOCATION"]),
            stop_lsn=_canonical(last["End-LSN"]),
            segment_bytes=segment_bytes,
        )
    except (ValueError, KeyError, TypeError, DreamseedError) as error:
        raise LabelInvalid(f"it cannot be read ({error})", place=f"{LABEL}, {MANIFEST}") from error


def _canonical(lsn: str) -> str:
    return format_lsn(parse_lsn(lsn))
