"""What of the profile is in the alerts."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from dreamseed_cli.deploy.catalog import TARGETS
from dreamseed_cli.deploy.render import render
from dreamseed_cli.profile.load import load_profile
from dreamseed_cli.profile.schema import Profile


def _alerts(**changes: Any) -> dict[str, dict[str, Any]]:
    """Of the document's box with these tables, by name."""
    document = load_profile("rtx5090x3").model_dump()
    profile = Profile.model_validate(document | changes, strict=False)
    text = next(one.text for one in render(profile, TARGETS) if one.path.name == "alerts.yml")
    return {rule["alert"]: rule for group in yaml.safe_load(text)["groups"] for rule in group["rules"]}


def test_the_page_of_alerts_is_current() -> None:
    """`make docs` would change nothing: each alert is there with what it means and what to do."""
    root = Path(__file__).parents[3]
    script = root / "scripts" / "generate_alerts_page.py"
    done = subprocess.run([sys.executable, script, "--check"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    named = re.findall(r"^### (Dreamseed\w+)$", (root / "docs/runbooks/alerts.md").read_text(), re.MULTILINE)
    assert (len(named), set(named)) == (len(set(named)), set(_alerts()))


def test_lateness_is_the_profiles() -> None:
    """As the schedule and `drill due` count it; and of scenarios that nobody rehearses none is overdue."""
    alerts = _alerts(
        backup={"schedule": {"late_after_s": 1800.0}},
        drill={"every_days": 90, "late_after_days": 3, "scenarios": ["lost-host", "bad-deploy"]},
    )
    backup, drill = (alerts[f"Dreamseed{name}Overdue"]["expr"] for name in ("Backup", "Drill"))
    assert backup.endswith("> 24 * 3600 + 1800")
    assert drill.endswith('{scenario=~"lost-host|bad-deploy"} > 93 * 86400')


def test_an_alerts_page_is_a_link_where_the_profile_says_where_pages_are() -> None:
    """On a box that was installed from a wheel there is no such path."""
    docs = "https://git.example.com/ops/dreamseed/-/blob/main/docs"
    for name, rule in _alerts(deploy={"monitoring": {"docs_url": docs}}).items():
        told = rule["annotations"]
        assert told["runbook_url"] == f"{docs.removesuffix('docs')}{told['runbook']}", name
    assert not any("runbook_url" in rule["annotations"] for rule in _alerts().values())


def test_without_a_ups_nothing_of_one_is_missed() -> None:
    """Where the profile has one, it is a fault that nobody ever watched it."""
    unwatched = "unless on (box) dreamseed_ups_looked_timestamp_seconds"
    assert unwatched not in _alerts()["DreamseedUpsUnseen"]["expr"]
    assert unwatched in _alerts(ups={"source": "nut"})["DreamseedUpsUnseen"]["expr"]


@pytest.mark.parametrize("docs_url", ["docs", "https://x.example/docs/", 'https://x.example/"'])
def test_only_an_address_without_a_slash_at_its_end_is_taken(docs_url: str) -> None:
    """It goes into YAML as it is."""
    with pytest.raises(ValidationError, match="docs_url"):
        _alerts(deploy={"monitoring": {"docs_url": docs_url}})
