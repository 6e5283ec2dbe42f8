"""A drill's page in headless Chromium: on a telephone's and on a desk's width, light and dark."""

from __future__ import annotations

from pathlib import Path

import pytest
from drill_records import record
from page_browser import looks, shades

from dreamseed_cli.drill.cloud_sql import LIMITS
from dreamseed_cli.drill.record import DrillRecord
from dreamseed_cli.drill.report.html import html_page
from dreamseed_cli.drill.timeline import Outcome


def _drills() -> dict[str, DrillRecord]:
    return {
        "lost-host": record(),
        "failover": record(scenario="failover", outcome=Outcome.FAILED, notes=LIMITS, extrapolated=None),
    }


@pytest.mark.parametrize("scenario", ["lost-host", "failover"])
@pytest.mark.parametrize("width", [400, 1280])
def test_the_page_fits_its_width_and_loads_nothing(tmp_path: Path, scenario: str, width: int) -> None:
    """Timeline and trend are drawn, no label leaves its plot, nothing is wider than the window."""
    one = _drills()[scenario]
    (tmp_path / "report.html").write_text(html_page(one, [one, one]), encoding="utf-8")
    found = looks(tmp_path, width)
    assert found["title"] == f"dreamseed drill: {scenario}, {one.outcome}"
    assert found["plots"] == 3
    assert found["clipped"] == []
    assert found["width"] <= width
    assert found["loaded"] == []


def test_the_page_is_light_or_dark_as_the_reader_likes(tmp_path: Path) -> None:
    """The same file shows a light page to one reader and a dark one to another."""
    (tmp_path / "report.html").write_text(html_page(record(), [record()]), encoding="utf-8")
    assert shades(tmp_path) == {"dark": pytest.approx(28, abs=8), "light": 255}
