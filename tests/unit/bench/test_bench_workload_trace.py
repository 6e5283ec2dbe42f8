"""Reading recorded traffic."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dreamseed_cli.bench.workload import DEFAULT_MIX, load
from dreamseed_cli.bench.workload.trace import TraceEntry, read
from dreamseed_cli.core.errors import UsageError
from dreamseed_cli.estimates.load import shipped_dir

_GOOD = {"at_s": 0, "prompt_tokens": 60, "output_tokens": 200}


def _trace(folder: Path, *lines: dict[str, Any] | str) -> Path:
    path = folder / "trace.jsonl"
    texts = [line if isinstance(line, str) else json.dumps(line) for line in lines]
    path.write_text("\n".join(texts), encoding="utf-8")
    return path


def test_our_own_lines(tmp_path: Path) -> None:
    """In the order of their times, the first at 0; a prompt's length is counted where it is not told."""
    path = _trace(
        tmp_path,
        {"at_s": 12.5, "output_tokens": 7, "prompt": "Why is the sky blue?"},
        "",
        {"at_s": 10, "prompt_tokens": 60, "output_tokens": 200, "workload": "feedback"},
    )
    assert read(path) == (
        TraceEntry(0.0, 60, 200, "feedback"),
        TraceEntry(2.5, 5, 7, prompt="Why is the sky blue?"),
    )


def test_published_traces_are_read_in_their_own_units(tmp_path: Path) -> None:
    """Mooncake's milliseconds and BurstGPT's seconds; what else they hold is passed over."""
    mooncake = {"timestamp": 1500, "input_length": 6758, "output_length": 500, "hash_ids": [0, 1, 2]}
    path = _trace(tmp_path, mooncake | {"timestamp": 0}, mooncake)
    assert read(path) == (TraceEntry(0.0, 6758, 500), TraceEntry(1.5, 6758, 500))
    burst = {"Timestamp": 5, "Model": "ChatGPT", "Request tokens": 472, "Response tokens": 18}
    path = _trace(tmp_path, burst, burst | {"Timestamp": 45})
    assert read(path) == (TraceEntry(0.0, 472, 18), TraceEntry(40.0, 472, 18))


@pytest.mark.parametrize(
    ("line", "place", "said"),
    [
        ({"at_s": 0, "prompt_tokens": 60}, "output_tokens", "required"),
        ({"at_s": 0, "output_tokens": 60}, "prompt_tokens", "required"),
        (_GOOD | {"output_tokens": 0}, "output_tokens", ">= 1"),
        (_GOOD | {"at_s": -1}, "at_s", ">= 0"),
        (_GOOD | {"prompt_tokens": "many"}, "prompt_tokens", "got `str`"),
        (_GOOD | {"promt": "x"}, "promt", "unknown field"),
        (_GOOD | {"prompt": ""}, "prompt", "length >= 1"),
        ({"timestamp": 1, "input_length": 5}, "output_length", "required"),
        ({"Timestamp": 1, "Request tokens": 5, "Response tokens": 0}, "Response tokens", ">= 1"),
        ({"when": 0}, "", "there is no time"),
        ("[1]", "", "there is no time"),
        ("{", "", "not valid JSON"),
        ("[" * 100_000, "", "not valid JSON"),
    ],
)
def test_a_wrong_line_is_named_with_its_field(
    tmp_path: Path, line: dict[str, Any] | str, place: str, said: str
) -> None:
    """So that it can be found in a file of a hundred thousand."""
    path = _trace(tmp_path, _GOOD, line)
    with pytest.raises(UsageError) as caught:
        read(path)
    assert caught.value.place == f"{path}:2" + (f": {place}" if place else "")
    assert said in caught.value.cause


def test_a_trace_that_is_not_there_or_empty(tmp_path: Path) -> None:
    """There is nothing to replay."""
    with pytest.raises(UsageError, match="cannot be read"):
        read(tmp_path / "none.jsonl")
    with pytest.raises(UsageError, match="holds no request"):
        read(_trace(tmp_path, "", ""))


@given(st.binary(max_size=200) | st.dictionaries(st.text(), st.integers() | st.text()).map(json.dumps))
def test_no_file_is_too_odd(tmp_path_factory: pytest.TempPathFactory, content: bytes | str) -> None:
    """It holds requests, or a UsageError says why not."""
    path = tmp_path_factory.mktemp("t") / "trace.jsonl"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    try:
        entries = read(path)
    except UsageError:
        return
    assert entries[0].at_s == 0.0


def test_the_sample_can_be_replayed() -> None:
    """A minute of the default mix, with a prompt of its own among them."""
    entries = read(shipped_dir() / "workloads" / "sample-trace.jsonl")
    assert len(entries) > 60
    assert entries[0].at_s == 0.0
    assert entries[-1].at_s < 60.0
    assert {entry.workload for entry in entries} == {kind.name for kind in load(DEFAULT_MIX).kinds}
    assert any(entry.prompt for entry in entries)
