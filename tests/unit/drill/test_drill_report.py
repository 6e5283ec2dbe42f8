"""The page and the terminal's tables: every figure marked, nothing loaded, every text escaped."""

from __future__ import annotations

import re

import pytest
from drill_records import record
from rich.console import Console

from dreamseed_cli.core.errors import UsageError
from dreamseed_cli.drill.cloud_sql import LIMITS, checklist
from dreamseed_cli.drill.history import trends
from dreamseed_cli.drill.report.html import html_page
from dreamseed_cli.drill.scenarios.all import SCENARIOS, choose, names
from dreamseed_cli.drill.timeline import Check, Outcome
from dreamseed_cli.drill.view import history_view, record_data, record_view, trend_text


def test_the_page_says_the_verdict_and_marks_what_is_computed() -> None:
    """And escapes what came from elsewhere."""
    page = html_page(record(), [record()])
    assert "PASSED" in page
    assert 'class="chip computed"' in page
    assert "2 h 28 min" in page
    assert "kill -9 &amp; &lt;wipe&gt;" in page
    assert "b2:bucket/&lt;prefix&gt;" in page
    assert "The drills so far" not in page
    assert page.count(">not done<") == 1  # amcheck: it is no pass


def test_the_page_needs_nothing_else() -> None:
    """No script, no address to load from, light and dark."""
    page = html_page(record(), [record(0), record(1)])
    assert "<script" not in page
    assert not re.search(r"(?:src|href)=\"(?!#)", page)
    assert "prefers-color-scheme: dark" in page
    assert "The drills so far" in page


def test_a_missed_target_and_a_failed_check_stand_out() -> None:
    """The reasons are the first that is read."""
    bad = record(outcome=Outcome.FAILED, checks=(Check("schema", False, "2 lines are missing"),), rto_s=None)
    page = html_page(bad, [bad])
    assert 'class="stamp invalid">FAILED' in page
    assert 'role="alert"' in page
    assert '<tr class="bad">' in page


def test_the_failover_page_has_cloud_sqls_commands() -> None:
    """As they are typed, with what it cannot do in the notes."""
    page = html_page(record(scenario="failover", notes=LIMITS), [])
    assert "gcloud sql instances promote-replica dreamseed-dr" in page
    assert "a stopped instance does not replicate" in page


def test_the_checklist_follows_the_documents_steps() -> None:
    """Noticed, read-only, promoted by hand, home again."""
    items = checklist("other", "us-central1")
    assert [item.step[0] for item in items] == ["B", "1", "2", "3", "4"]
    assert all(
        "other" in command for item in items for command in item.commands if "sql instances" in command
    )


def test_the_terminal_shows_figures_checks_and_history() -> None:
    """Everything that decides."""
    console = Console(width=140, record=True, file=None, quiet=False)
    with console.capture() as caught:
        for part in [*record_view(record()), *history_view([record(0), record(1)], trends([record(0)]), [])]:
            console.print(part)
    text = caught.get()
    for said in ("PASSED", "41.5 s", "RTO (computed)", "not done", "first verified answer", "lost-host"):
        assert said in text
    assert "No drill was ever made" in str(history_view([], [], [])[0])


def test_trends_and_data_tell_how_they_came() -> None:
    """The sentence of the second drill names the median before."""
    (trend,) = trends([record(0), record(1)])
    assert "median before RPO 41.5 s" in trend_text(trend)
    assert record_data(record())["provenance"]["extrapolated"] == "computed"
    assert [check["passed"] for check in record_data(record())["checks"]] == [True, None]


def test_scenarios_are_those_a_profile_may_name() -> None:
    """And no other."""
    assert tuple(SCENARIOS) == names()
    assert all(scenario.title for scenario in SCENARIOS.values())
    with pytest.raises(UsageError, match="no drill 'meteor'"):
        choose("meteor")
