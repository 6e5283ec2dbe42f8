"""The page: verdict, timeline, checks, trend; no network, no script, no font."""

from __future__ import annotations

from collections.abc import Sequence

from dreamseed_cli.backup.progress import size_text
from dreamseed_cli.drill.cloud_sql import checklist
from dreamseed_cli.drill.record import DrillRecord
from dreamseed_cli.drill.report.plots import timeline_plot, trend_plot
from dreamseed_cli.drill.words import CHIPS, duration, moment
from dreamseed_cli.report.page import environment


def html_page(record: DrillRecord, history: Sequence[DrillRecord]) -> str:
    """The report as HTML. history: of the same scenario, this one included, oldest first."""
    page = environment("dreamseed_cli.drill.report")
    page.filters |= {"duration": duration, "moment": moment, "size": size_text}
    return page.get_template("drill.html.j2").render(
        record=record,
        chips=CHIPS,
        timeline=timeline_plot(record),
        trend=trend_plot(history),
        items=checklist() if record.scenario == "failover" else (),
    )
