"""The answer on disk: result.json, bill.csv, sweep.csv and report.html in one folder.

result.json is a file of results, too: `dreamseed estimates --results FOLDER` reads it.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dreamseed_cli.core.errors import FailedError
from dreamseed_cli.core.files import write_atomically
from dreamseed_cli.costsim.answer import Answer
from dreamseed_cli.costsim.csv_file import bill_csv, sweep_csv
from dreamseed_cli.costsim.record import measurements, record
from dreamseed_cli.costsim.report.html import html_page
from dreamseed_cli.costsim.words import Money

RESULT, BILL, SWEEP, REPORT = "result.json", "bill.csv", "sweep.csv", "report.html"
_MODE = 0o644


@dataclass(frozen=True, slots=True)
class Stamp:
    """Of one call."""

    date: str
    """ISO 8601, UTC."""
    command: str
    tool: str


def prepare(out: Path) -> None:
    """Make the folder before the work; FailedError if it cannot be made or nothing written there."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        probe = out / ".dreamseed-cost-sim"
        write_atomically(probe, b"", mode=_MODE)
        probe.unlink(missing_ok=True)
    except OSError as error:
        raise _refused(out, error) from error


def write_answer(out: Path, found: Answer, money: Money, stamp: Stamp) -> list[Path]:
    """Write what there is, each file whole, over those of an earlier call. FailedError if it cannot."""
    texts = {RESULT: _result(found, stamp)}
    if found.study is not None:
        texts[BILL] = bill_csv(found.study)
    if found.rows:
        texts[SWEEP] = sweep_csv(found.rows)
    texts[REPORT] = html_page(found, money, stamp.date, stamp.command, stamp.tool)
    for name, text in texts.items():
        try:
            write_atomically(out / name, text.encode(), mode=_MODE)
        except OSError as error:
            raise _refused(out / name, error) from error
    return [out / name for name in texts]


def _result(found: Answer, stamp: Stamp) -> str:
    one = found.question
    said = f" with {', '.join(sorted(one.known))} set" if one.known else ""
    device = f"cost model of {one.scenario.gpus} x {one.home}{said}"
    data: dict[str, Any] = {"command": stamp.command, "tool": stamp.tool, **found.to_data()}
    whole = record(
        measurements(found.study, found.rows),
        date=stamp.date,
        device=device,
        profile=one.profile.name,
        data=data,
    )
    return json.dumps(whole, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def _refused(path: Path, error: OSError) -> FailedError:
    return FailedError(
        f"cannot be written: {error.strerror or error}",
        place=str(error.filename or path),
        remedy="Free space or choose another folder with --out.",
    )
