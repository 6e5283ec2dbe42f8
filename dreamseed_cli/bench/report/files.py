"""A run on disk: OUT/20261125T040506Z/ with result.json, requests.csv and report.html.

Each file is whole or not there. What is worth most is written first; no other run's files are touched.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from dreamseed_cli.bench.records import Record
from dreamseed_cli.bench.report.html import html_page
from dreamseed_cli.bench.report.scorecard import scorecard
from dreamseed_cli.bench.result import BenchResult
from dreamseed_cli.core.errors import FailedError, UsageError
from dreamseed_cli.core.files import cannot_write, write_atomically

RESULT, REQUESTS, REPORT = "result.json", "requests.csv", "report.html"
COLUMNS = (
    "suite", "cell", "number", "workload", "scheduled_s", "connect_s", "sent_s", "first_token_s",
    "last_token_s", "end_s", "prompt_tokens", "completion_tokens", "wanted_tokens", "ending", "detail",
    "replica", "cache_hit",
)  # fmt: skip
_FORMULA = ("=", "+", "-", "@", "\t", "\r")
_MODE = 0o644
_ROOM_BYTES = 1024**2
_SAME_RUN = ("date", "command", "seed", "target", "model", "device")

Records = Mapping[tuple[str, str], Sequence[Record]]
"""By suite and cell."""


@dataclass(frozen=True, slots=True)
class Written:
    """Where a run's files are."""

    folder: Path

    @property
    def result(self) -> Path:
        return self.folder / RESULT

    @property
    def requests(self) -> Path:
        return self.folder / REQUESTS

    @property
    def report(self) -> Path:
        return self.folder / REPORT


def prepare_out(out: Path) -> None:
    """Make the folder before the run; FailedError if no report can be written there."""
    probe = out / ".dreamseed-bench"
    try:
        out.mkdir(parents=True, exist_ok=True)
        # With what a report needs: on a full disk an empty file can still be made.
        write_atomically(probe, bytes(_ROOM_BYTES), mode=_MODE)
        probe.unlink(missing_ok=True)
    except OSError as error:
        raise _cannot_write(out, error) from error


def write_report(out: Path, result: BenchResult, records_by_cell: Records) -> Written:
    """Write a run into a folder of its own below `out`; the same run again replaces its own files.

    FailedError if it cannot: it names the file, and what was written by then stays.
    """
    written = Written(_folder(out, result))
    _write(written.result, result_json(result))
    _write(written.requests, requests_csv(records_by_cell))
    _write(written.report, html_page(result, scorecard(result)))
    return written


def write_partial(out: Path, result: BenchResult) -> None:
    """Write the result alone, as far as it is, where `write_report` replaces it at the end.

    FailedError if it cannot.
    """
    _write(_folder(out, result) / RESULT, result_json(result))


def read_result(path: Path) -> BenchResult:
    """A written result: the file, a run's folder, or the newest run in a folder of runs.

    UsageError: there is none to read. FailedError: it is none of this version.
    """
    file = _result_file(path)
    try:
        return BenchResult.model_validate_json(file.read_bytes())
    except OSError as error:
        raise UsageError(
            f"cannot be read: {error.strerror}",
            place=str(file),
            remedy="Name a result.json, or the folder that dreamseed bench --out wrote.",
        ) from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(step) for step in first["loc"]) or "the file"
        raise FailedError(
            f"is no result of this version: {where}: {first['msg']}",
            place=str(file),
            remedy="Measure again, or use the version of dreamseed that wrote it.",
        ) from error


def result_json(result: BenchResult) -> str:
    """The published JSON: sorted and indented, so that two of them can be laid side by side."""
    data = result.model_dump(mode="json")
    return json.dumps(data, sort_keys=True, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def requests_csv(records_by_cell: Records) -> str:
    """One line a request; times in seconds since its cell's start."""
    stream = io.StringIO(newline="")
    writer = csv.writer(stream)
    writer.writerow(COLUMNS)
    for (suite, cell), records in records_by_cell.items():
        writer.writerows(_row(suite, cell, record) for record in records)
    return stream.getvalue()


def _write(path: Path, text: str) -> None:
    """Replace a file in one step."""
    try:
        # What a server says may hold halves of characters, which no encoding knows.
        write_atomically(path, text.encode("utf-8", errors="replace"), mode=_MODE)
    except OSError as error:
        raise _cannot_write(path, error) from error


def _row(suite: str, cell: str, record: Record) -> Iterable[Any]:
    for column in COLUMNS:
        value = {"suite": suite, "cell": cell}.get(column, getattr(record, column, None))
        if isinstance(value, str):
            # A spreadsheet would run a server's words as a formula.
            yield f"'{value}" if value.startswith(_FORMULA) else str(value)
        elif isinstance(value, float):
            yield f"{value:.6f}"
        else:
            yield value


def _folder(out: Path, result: BenchResult) -> Path:
    """The run's own folder, made; the first of NAME, NAME-2, ... that is new or already this run's."""
    moment = datetime.fromisoformat(result.date)
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    name, number = f"{moment.astimezone(UTC):%Y%m%dT%H%M%SZ}", 1
    while True:
        folder = out / (name if number == 1 else f"{name}-{number}")
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            if _holds(folder, result):
                return folder
        except OSError as error:
            raise _cannot_write(folder, error) from error
        else:
            return folder
        number += 1


def _holds(folder: Path, result: BenchResult) -> bool:
    """Whether a folder is this very run's."""
    try:
        data = json.loads((folder / RESULT).read_bytes())
    except (OSError, ValueError):
        return False
    return isinstance(data, dict) and all(data.get(key) == getattr(result, key) for key in _SAME_RUN)


def _result_file(path: Path) -> Path:
    if not path.is_dir():
        return path
    runs = sorted(path.glob(f"*/{RESULT}"))
    own = path / RESULT
    return own if own.exists() or not runs else runs[-1]


def _cannot_write(path: Path, error: OSError) -> FailedError:
    return cannot_write(path, error, "Files already written there are whole.")
