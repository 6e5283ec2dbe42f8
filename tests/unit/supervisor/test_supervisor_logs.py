"""Log files: bounded, and readable from their end."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from dreamseed_cli.core.errors import MissingError
from dreamseed_cli.core.paths import StateDir
from dreamseed_cli.supervisor.logfile import bound_log, last_lines
from dreamseed_cli.supervisor.logreader import LogLine, choose_logs, follow_logs, log_names, read_logs


@pytest.fixture
def state(tmp_path: Path) -> StateDir:
    """A state folder, made."""
    folder = StateDir(tmp_path / "s")
    folder.create()
    return folder


def test_last_lines_skip_empty_ones_and_colours(tmp_path: Path) -> None:
    """What is shown is text: no blank lines, no terminal codes, of a progress bar only its last state."""
    log = tmp_path / "r0.log"
    log.write_bytes(b"one\n\x1b[31mtwo\x1b[0m\n\n 10%\r 90%\rdone\n\xff\n")
    assert last_lines(log, 3) == ["two", "done", "\N{REPLACEMENT CHARACTER}"]


CRASH = """(EngineCore pid=4711) ERROR [core.py:1121] torch.OutOfMemoryError: CUDA out of memory.
(APIServer pid=4690)     raise EngineDeadError() from (exception if exception else None)
(APIServer pid=4690) vllm.v1.engine.exceptions.EngineDeadError: EngineCore encountered an issue.
"""
LEAKS = """nanobind: leaked 2 instances!
 - leaked instance 0x7f3c9a1b2c40 of type "xgrammar.xgrammar_bindings.GrammarCompiler"
 - leaked instance 0x7f3c9a1b2c70 of type "xgrammar.xgrammar_bindings.TokenizerInfo"
nanobind: leaked 11 keep_alive records!
nanobind: leaked 9 types!
 - leaked type "xgrammar.xgrammar_bindings.GrammarCompiler"
 - ... skipped remainder
nanobind: leaked 71 functions!
 - leaked function "compile_json_schema"
 - leaked function ""
 - ... skipped remainder
nanobind: this is likely caused by a reference counting issue in the binding code.
See https://nanobind.readthedocs.io/en/latest/refleaks.html
"""


@pytest.mark.parametrize("log", [CRASH + LEAKS, LEAKS + CRASH, CRASH + "\x1b[0;36m" + LEAKS])
def test_last_words_are_the_crash_not_what_bindings_say_at_every_end(tmp_path: Path, log: str) -> None:
    """vLLM's xgrammar reports its own leaks after the reason: eight lines of it were all that one saw."""
    path = tmp_path / "r0.log"
    path.write_text(log)
    assert last_lines(path, 8) == CRASH.splitlines()


@pytest.mark.parametrize(
    "line",
    ["nanobind: cannot convert the argument", "it leaked 3 types!", "- leaked type", "See https://x.y"],
)
def test_what_only_resembles_it_is_shown(tmp_path: Path, line: str) -> None:
    """An error of the bindings is no leak."""
    path = tmp_path / "r0.log"
    path.write_text(f"{line}\n")
    assert last_lines(path, 8) == [line]


def test_last_lines_of_this_run_only(tmp_path: Path) -> None:
    """Lines of an earlier run in the same file are no explanation for this one."""
    log = tmp_path / "r0.log"
    log.write_text("old\n")
    before = log.stat().st_size
    with log.open("a") as stream:
        stream.write("new\n")
    assert last_lines(log, 5, since_byte=before) == ["new"]


def test_last_lines_of_no_file(tmp_path: Path) -> None:
    """A process that never wrote has no lines."""
    assert last_lines(tmp_path / "none.log", 5) == []


def test_a_big_log_is_set_aside_while_its_writer_goes_on(tmp_path: Path) -> None:
    """The writer keeps its file; the old content is kept once."""
    log = tmp_path / "r0.log"
    with log.open("ab", buffering=0) as writer:
        writer.write(b"x" * 100 + b"\n")
        assert not bound_log(log, limit_bytes=1000)
        assert bound_log(log, limit_bytes=50)
        writer.write(b"after\n")
    assert log.read_bytes() == b"after\n"
    assert (tmp_path / "r0.log.1").read_bytes() == b"x" * 100 + b"\n"


def test_names_in_the_order_of_the_stack(state: StateDir) -> None:
    """Supervisor and gateway first, then r0 to r10 as people count."""
    for name in ("r10", "r2", "gateway", "r0", "supervisor"):
        state.log(name).write_text("x\n")
    assert log_names(state) == ["gateway", "supervisor", "r0", "r2", "r10"]


def test_reading_one_log_or_all(state: StateDir) -> None:
    """A name chooses one; without it every log contributes its last lines."""
    state.log("gateway").write_text("g1\ng2\n")
    state.log("r0").write_text("a\nb\nc\n")
    assert [line.line for line in read_logs(state, "r0", 2)] == ["b", "c"]
    assert [(line.name, line.line) for line in read_logs(state, None, 1)] == [("gateway", "g2"), ("r0", "c")]


@pytest.mark.parametrize("name", ["r7", "../../etc/passwd"])
def test_an_unknown_log_names_those_there(state: StateDir, name: str) -> None:
    """The remedy is the list; nothing outside the log folder can be named."""
    state.log("gateway").write_text("g\n")
    with pytest.raises(MissingError, match="There are: gateway"):
        choose_logs(state, name)


def test_following_yields_only_whole_new_lines_and_survives_emptying(state: StateDir) -> None:
    """Half a line waits for its end, an emptied log goes on, a new log joins."""
    log = state.log("r0")
    log.write_text("older\nold\n")
    lines = follow_logs(state, None, 1)
    assert next(lines) == LogLine("r0", "old")
    with log.open("a") as stream:
        stream.write("whole\nhalf")
    assert next(lines) == LogLine("r0", "whole")
    with log.open("a") as stream:
        stream.write(" and half\n")
    assert next(lines) == LogLine("r0", "half and half")
    log.write_text("")
    state.log("r1").write_text("joined\n")
    assert next(line.line for line in lines if line.name == "r1") == "joined"


def test_following_leaves_out_the_same(state: StateDir) -> None:
    """A log reads alike whether it is followed or looked at later."""
    state.log("r0").write_text("loading\n")
    lines = follow_logs(state, "r0", 1)
    assert next(lines).line == "loading"
    with state.log("r0").open("a") as stream:
        stream.write(LEAKS + CRASH)
    assert [next(lines).line for _ in range(3)] == CRASH.splitlines()


def test_a_log_is_emptied_even_if_its_copy_finds_no_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a full disk the bound matters most; no half copy stays."""

    def no_room(source: Path, copy: Path) -> None:
        copy.write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("shutil.copyfile", no_room)
    log = tmp_path / "r0.log"
    log.write_bytes(b"x" * 100)
    assert bound_log(log, limit_bytes=50)
    assert log.stat().st_size == 0
    assert [path.name for path in tmp_path.iterdir()] == ["r0.log"]
