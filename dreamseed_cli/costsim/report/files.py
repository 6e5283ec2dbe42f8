"""The answer on disk: result.json, bill.csv, sweep.csv and report.html in one folder.

result.json is a file of results, too: `dreamseed estimates --results FOLDER` reads it.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dreamseed_cli.core.files import cannot_write, write_atomically
from dreamseed_cli.costsim.answer import Answer
from dreamseed_cli.costsim.report.csv_file import bill_csv, sweep_csv
from dreamseed_cli.costsim.report.html import html_page
from dreamseed_cli.costsim.report.record import measurements
from dreamseed_cli.costsim.report.words import Money
from dreamseed_cli.estimates.results import record_data

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
        raise cannot_write(out, error) from error


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
            raise cannot_write(out / name, error) from error
    return [out / name for name in texts]


def _result(found: Answer, stamp: Stamp) -> str:
    one = found.question
    said = f" with {', '.join(sorted(one.known))} set" if one.known else ""
    device = f"cost model of {one.scenario.gpus} x {one.home}{said}"
    data: dict[str, Any] = {"command": stamp.command, "tool": stamp.tool, **found.to_data()}
    whole = record_data(
        measurements(found.study, found.rows),
        date=stamp.date,
        device=device,
        profile=one.profile.name,
        data=data,
    )
    return json.dumps(whole, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
