"""Recorded traffic, replayed: a JSON-lines file with one request a line.

Three kinds of lines are understood, and told apart by their field for the time:

- ours: `at_s`, `prompt_tokens`, `output_tokens`, and if wanted `workload` and `prompt` (with which
  `prompt_tokens` may be left out). Other fields are mistakes.
- Mooncake's: `timestamp` (milliseconds), `input_length`, `output_length`. Other fields are passed over, its
  `hash_ids` too: prefixes are not made to be shared.
- BurstGPT's, with its columns as fields: `Timestamp` (seconds), `Request tokens`, `Response tokens`. Its
  failed requests (0 response tokens) cannot be replayed: leave them out.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any

import msgspec

from dreamseed_cli.bench.workload.text import count_tokens
from dreamseed_cli.core.errors import UsageError

_At = Annotated[float, msgspec.Meta(ge=0)]
_Count = Annotated[int, msgspec.Meta(ge=1, le=1_000_000)]
_EXAMPLE = 'Write lines such as {"at_s": 0.5, "prompt_tokens": 60, "output_tokens": 200}.'
_FIELD = re.compile(r"(?:at `\$\.([^`]+)`|field `([^`]+)`)")


class TraceEntry(msgspec.Struct, frozen=True):
    """One recorded request. at_s: seconds since the trace's first one. workload: empty where not told."""

    at_s: float
    prompt_tokens: int
    output_tokens: int
    workload: str = ""
    prompt: str | None = None


class _Ours(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    at_s: _At
    output_tokens: _Count
    prompt_tokens: _Count | None = None
    workload: str = ""
    prompt: Annotated[str, msgspec.Meta(min_length=1)] | None = None

    def entry(self) -> TraceEntry:
        if self.prompt_tokens is None and self.prompt is None:
            raise msgspec.ValidationError("Object missing required field `prompt_tokens`")
        tokens = self.prompt_tokens or count_tokens(self.prompt or "")
        return TraceEntry(self.at_s, tokens, self.output_tokens, self.workload, self.prompt)


class _Mooncake(msgspec.Struct, frozen=True):
    timestamp: _At
    input_length: _Count
    output_length: _Count

    def entry(self) -> TraceEntry:
        return TraceEntry(self.timestamp / 1000, self.input_length, self.output_length)


class _BurstGpt(msgspec.Struct, frozen=True):
    timestamp: _At = msgspec.field(name="Timestamp")
    request: _Count = msgspec.field(name="Request tokens")
    response: _Count = msgspec.field(name="Response tokens")

    def entry(self) -> TraceEntry:
        return TraceEntry(self.timestamp, self.request, self.response)


def read(path: str | Path) -> tuple[TraceEntry, ...]:
    """The requests of a trace in the order of their times, the first one at 0.

    UsageError names the line and the field that is wrong, or the file if it cannot be read or is empty.
    """
    try:
        lines = Path(path).expanduser().read_bytes().splitlines()
    except OSError as error:
        raise UsageError(
            f"cannot be read: {error.strerror}",
            place=str(path),
            remedy="Name a JSON-lines file that is there.",
        ) from error
    entries = [_entry(line, f"{path}:{number}") for number, line in enumerate(lines, start=1) if line.strip()]
    if not entries:
        raise UsageError("the trace holds no request", place=str(path), remedy="Write one on each line.")
    entries.sort(key=lambda entry: entry.at_s)
    began = entries[0].at_s
    return tuple(msgspec.structs.replace(entry, at_s=entry.at_s - began) for entry in entries)


def _entry(line: bytes, place: str) -> TraceEntry:
    try:
        data: Any = msgspec.json.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise UsageError(f"not valid JSON: {error}", place=place, remedy=_EXAMPLE) from error
    try:
        return msgspec.convert(data, _kind(data, place)).entry()
    except msgspec.ValidationError as error:
        said = str(error)
        field = _FIELD.search(said)
        where = f"{place}: {field[1] or field[2]}" if field else place
        raise UsageError(said.partition(" - at ")[0], place=where, remedy="Mend the line.") from error


def _kind(data: Any, place: str) -> type[_Ours | _Mooncake | _BurstGpt]:
    for field, kind in (("at_s", _Ours), ("timestamp", _Mooncake), ("Timestamp", _BurstGpt)):
        if isinstance(data, dict) and field in data:
            return kind
    raise UsageError(
        "there is no time: at_s (seconds), timestamp (milliseconds) or Timestamp (seconds)",
        place=place,
        remedy=_EXAMPLE,
    )
