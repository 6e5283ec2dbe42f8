"""What every command's help has: an example that can be copied, and all its words."""

from __future__ import annotations

import inspect
import re
import shlex
from collections.abc import Iterator
from typing import Any

import pytest
import typer
from typer.main import get_command

from benchmarks.startup import CHANGING, READ_ONLY
from dreamseed_cli.app import _command_name, app, main
from dreamseed_cli.backup.lock import AlreadyRunning
from dreamseed_cli.commands.examples import EXAMPLES, EXIT_CODES, command_name
from dreamseed_cli.core.errors import FailedError, InterruptedByUser, MissingError, UsageError

_ALONE = {"backup", "bench"}
"""Groups that do something by themselves."""


def _commands(of: typer.Typer, *path: str) -> Iterator[str]:
    for command in of.registered_commands:
        yield " ".join([*path, command_name(command)])
    for group in of.registered_groups:
        assert group.typer_instance
        yield from _commands(group.typer_instance, *path, str(group.name))


def _all_commands() -> Iterator[Any]:
    waiting: list[Any] = [get_command(app)]
    for command in waiting:
        yield command
        waiting += getattr(command, "commands", {}).values()


@pytest.mark.parametrize("command", list(_commands(app)))
def test_a_command_has_an_example_of_itself(command: str) -> None:
    """Whoever adds a verb adds its example."""
    assert EXAMPLES[command]
    for example in EXAMPLES[command]:
        words = command.split()
        assert shlex.split(example)[: len(words)] == words


def test_no_example_is_of_a_command_that_is_gone() -> None:
    """Groups that do something by themselves, and the program, have examples, too."""
    assert set(EXAMPLES) - set(_commands(app)) == {"", *_ALONE}


def test_every_command_takes_json() -> None:
    """As the README says; also groups that do something by themselves."""
    commands = [one for one in _all_commands() if not getattr(one, "commands", {}) or one.name in _ALONE]
    assert len(commands) == len(list(_commands(app))) + len(_ALONE)
    assert [one.name for one in commands if not any("--json" in param.opts for param in one.params)] == []


def test_the_start_of_every_command_that_only_reads_is_measured() -> None:
    """Whoever adds a verb says which it is (benchmarks/startup.py)."""
    timed = [_command_name(shlex.split(line)) for line in READ_ONLY if not line.startswith("-")]
    assert sorted([*timed, *CHANGING]) == sorted([*_commands(app), *_ALONE])


def test_no_word_of_a_help_is_taken_for_rich_markup() -> None:
    """`[drill]` in a help text would be a style, and not shown."""
    for command in _all_commands():
        texts = [command.help or "", *(getattr(one, "help", None) or "" for one in command.params)]
        assert not [text for text in texts if re.search(r"\[[a-z]", text)], command.name


def test_a_paragraph_of_a_help_flows() -> None:
    """It breaks where the window ends: at 80 columns the source's own line ends would come in the middle."""
    for command in _all_commands():
        assert [part for part in inspect.cleandoc(command.help or "").split("\n\n")[1:] if "\n" in part] == []


@pytest.mark.parametrize(("group", "said"), [("bench", "INVALID"), ("backup", "the second copy")])
def test_a_group_that_does_something_says_when_it_ends_with_1(group: str, said: str) -> None:
    """Typer shows a group's own words, not its function's."""
    command = next(one for one in _all_commands() if one.name == group)
    assert "xit code 1" in command.help
    assert said in command.help


@pytest.mark.no_cover
def test_no_word_of_a_help_is_cut_at_80_columns(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rich ends with an ellipsis what does not fit into its column."""
    monkeypatch.setenv("COLUMNS", "80")
    for command in ["", *EXAMPLES]:
        with pytest.raises(SystemExit):
            main([*command.split(), "--help"])
        assert "\N{HORIZONTAL ELLIPSIS}" not in capsys.readouterr().out, command


@pytest.mark.no_cover
def test_an_example_is_shown_on_one_line_of_80_columns(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that it can be copied."""
    monkeypatch.setenv("COLUMNS", "80")
    for command, examples in EXAMPLES.items():
        with pytest.raises(SystemExit):
            main([*command.split(), "--help"])
        shown = [line.strip() for line in capsys.readouterr().out.splitlines()]
        assert {f"$ dreamseed {example}" for example in examples} <= set(shown)


def test_the_exit_codes_in_the_help_are_those_of_the_errors(capsys: pytest.CaptureFixture[str]) -> None:
    """And each is told what it means."""
    errors = (UsageError, MissingError, FailedError, AlreadyRunning, InterruptedByUser)
    assert {0, 1, *(error.exit_code for error in errors)} == set(EXIT_CODES)
    with pytest.raises(SystemExit):
        main(["--help"])
    assert "130 interrupted" in " ".join(capsys.readouterr().out.split())
