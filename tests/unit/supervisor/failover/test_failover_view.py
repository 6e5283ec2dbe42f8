"""The help as people see it, and what it needs."""

from __future__ import annotations

import json
import re
import tomllib
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest
from rich.console import Console

from dreamseed_cli.profile.resilience import Failover
from dreamseed_cli.supervisor.failover.hook_result import HookResult
from dreamseed_cli.supervisor.failover.needs import failover_needs
from dreamseed_cli.supervisor.failover.snapshot import FailoverSnapshot, HelpEngine
from dreamseed_cli.supervisor.failover.view import failover_view

_URL = "https://help.example"
_SERVING = FailoverSnapshot(
    state="serving",
    since=1000.0,
    detail="",
    urls=(_URL,),
    usd_this_month=0.1234,
    usd_per_month=100.0,
    usd_per_hour=1.5,
    running=True,
    last_hook=HookResult("start", ("gcloud",), ok=True, seconds=3.5, exit_code=0),
    engines=(HelpEngine("f0", _URL, answers=True),),
)


def _text(snapshot: FailoverSnapshot, now: float = 1190.0) -> str:
    console = Console(width=160)
    with console.capture() as shown:
        console.print(failover_view(snapshot, now=now))
    return shown.get()


def test_one_line_says_state_money_and_where() -> None:
    """The money is computed, and says so."""
    line = "failover  serving  since 3m  $0.12 of $100.00 this month at $1.50/h (computed)  (f0 https://help"
    assert _text(_SERVING).startswith(line)
    assert "SIMULATED" not in _text(_SERVING)


def test_what_is_in_its_way_stands_below() -> None:
    """The detail, and each engine that does not answer while it should."""
    away = HelpEngine("f0", _URL, answers=False, obstacle="no connection within 5 s", simulated=True)
    text = _text(replace(_SERVING, detail="no engine of it answers", engines=(away,), dry_run=True))
    for words in ("serving (dry run)", "no engine of it answers", "f0 does not answer: no connection"):
        assert words in text
    assert "SIMULATED" in text
    assert "does not answer" not in _text(replace(_SERVING, state="standby", engines=(away,)))


def test_help_that_costs_although_nobody_wants_it_is_told() -> None:
    """As when a rehearsal found some of an earlier run."""
    assert "may still run and cost" in _text(replace(_SERVING, state="standby"))
    assert "may still run" not in _text(_SERVING)


@pytest.mark.parametrize(("now", "words"), [(1042, "since 42s"), (8300, "since 2h"), (0, "since 0s")])
def test_durations_in_their_largest_unit(now: float, words: str) -> None:
    """It is a line, not a stopwatch."""
    assert words in _text(_SERVING, now)


def test_it_goes_through_the_control_socket() -> None:
    """As JSON and back, unchanged."""
    assert msgspec.json.decode(msgspec.json.encode(_SERVING), type=FailoverSnapshot) == _SERVING
    assert _SERVING.shown
    assert not replace(_SERVING, state="off", running=False).shown


def test_what_is_missing_is_told_before_it_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The programs of both hooks and the API key, each with its place and its remedy."""
    settings = Failover(urls=(_URL,), start=("no-such-cloud",), stop=("no-such-cloud",), api_key_env="DS_KEY")
    monkeypatch.delenv("DS_KEY", raising=False)
    needs = list(failover_needs(settings))
    assert [need.place for need in needs] == ["failover.start", "failover.stop", "$DS_KEY"]
    assert "no-such-cloud" in needs[0].cause
    monkeypatch.setenv("DS_KEY", "k")
    assert not list(failover_needs(settings.model_copy(update={"dry_run": True})))
    assert not list(failover_needs(Failover(start=("no-such-cloud",))))


def test_the_page_shows_a_section_that_is_valid() -> None:
    """Its commands and its times are the defaults, as it says."""
    page = (Path(__file__).resolve().parents[4] / "docs" / "runbooks" / "failover.md").read_text()
    table = tomllib.loads(re.findall(r"```toml\n(.*?)```", page, re.DOTALL)[0])["failover"]
    shown = Failover.model_validate_json(json.dumps(table))
    changed = {"urls": shown.urls, "model": shown.model, "api_key_env": shown.api_key_env}
    assert shown == Failover().model_copy(update=changed)
