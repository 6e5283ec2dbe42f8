"""What a drill has to say to the document's estimates (§E3): a file of results."""

from __future__ import annotations

import json
from pathlib import Path

from dreamseed_cli.backup.progress import size_text
from dreamseed_cli.core.errors import UsageError
from dreamseed_cli.core.files import cannot_write, write_atomically
from dreamseed_cli.drill.record import DrillRecord
from dreamseed_cli.drill.timeline import Outcome
from dreamseed_cli.estimates.results import Measurement, record_data

_MODE = 0o644


def measurements(record: DrillRecord) -> list[Measurement]:
    """RPO and RTO in minutes, where they were reached; none of a drill that failed.

    No RPO where no WAL was archived: the backup's age at the moment of the loss is luck (§E2).
    """
    if record.outcome is Outcome.FAILED:
        return []
    luck = record.recovered is not None and record.recovered.by_chance
    found = (("rpo-min", None if luck else record.rpo_s), ("rto-min", record.rto_s))
    return [
        Measurement(key=key, value=round(seconds / 60, 3), unit="min", provenance="measured", n=1)
        for key, seconds in found
        if seconds is not None
    ]


def write_result(out: Path, record: DrillRecord, device: str) -> Path:
    """Write a file of results into `out`. device: the machine of the drill.

    The size of the database stands beside it: RTO grows with it. UsageError for a drill that failed,
    FailedError if the file cannot be written.
    """
    found = measurements(record)
    if not found:
        raise UsageError(
            "a drill that failed measured nothing",
            place=f"drill {record.scenario}: {record.id}",
            remedy="Take one that came back: dreamseed drill history.",
        )
    path = out / f"drill-{record.id}.json"
    whole = record_data(
        found,
        date=record.ended.isoformat(),
        device=f"{device}, a database of {size_text(record.database_bytes)}",
        profile=None,
        data={"drill": record.id, "scenario": record.scenario, "dreamseed": record.dreamseed},
    )
    try:
        out.mkdir(parents=True, exist_ok=True)
        write_atomically(path, json.dumps(whole, indent=1).encode() + b"\n", mode=_MODE)
    except OSError as error:
        raise cannot_write(path, error) from error
    return path
