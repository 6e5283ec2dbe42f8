"""One renderer: text for people, one JSON document for machines."""

import json

import pytest

from dreamseed_cli.core.errors import ErrorGroup, UsageError
from dreamseed_cli.core.render import render_error, render_result
from dreamseed_cli.core.result import Figure, Provenance, Result


def test_json_is_one_document_with_the_provenance_of_its_figures(capsys: pytest.CaptureFixture[str]) -> None:
    """A figure keeps its unit and how it came about."""
    figure = Figure(1234.5, "tok/s", Provenance.SIMULATED)
    render_result("bench", Result({"rate": figure}, view=["not shown"]), as_json=True)
    document = json.loads(capsys.readouterr().out)
    assert document == {
        "command": "bench",
        "ok": True,
        "data": {"rate": {"value": 1234.5, "unit": "tok/s", "provenance": "simulated"}},
        "errors": [],
    }


def test_a_missed_target_is_not_ok_and_exits_with_1() -> None:
    """Done, and a target was missed."""
    assert Result({}, target_met=False).exit_code == 1


def test_text_shows_the_view(capsys: pytest.CaptureFixture[str]) -> None:
    """People get the renderables, not the data."""
    render_result("x", Result({"a": 1}, view=["hello"]), as_json=False)
    assert capsys.readouterr().out == "hello\n"


def test_errors_in_json_go_to_stdout_in_the_envelope(capsys: pytest.CaptureFixture[str]) -> None:
    """A failure still gives the envelope, with every error of a group."""
    error = ErrorGroup([UsageError("bad", place="a"), UsageError("worse", place="b", remedy="Mend it.")])
    render_error("serve", error, as_json=True)
    captured = capsys.readouterr()
    document = json.loads(captured.out)
    assert captured.err == ""
    assert document["ok"] is False
    assert document["errors"][1] == {"kind": "usage", "place": "b", "cause": "worse", "remedy": "Mend it."}


def test_errors_in_text_go_to_stderr_unharmed_by_markup(capsys: pytest.CaptureFixture[str]) -> None:
    """Square brackets in a message are text, not Rich markup."""
    render_error("serve", UsageError("list [bold]x[/bold] is [1, 2]"), as_json=False)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == "Error: list [bold]x[/bold] is [1, 2]\n"


def test_a_figure_reads_with_its_unit_and_provenance() -> None:
    """No bare numbers."""
    assert str(Figure(1234.5, "tok/s", Provenance.MEASURED)) == "1,234 tok/s (measured)"
    assert str(Figure(0.5, "ms", Provenance.COMPUTED)) == "0.50 ms (computed)"
