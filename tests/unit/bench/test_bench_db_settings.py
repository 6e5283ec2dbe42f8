"""The server's settings beside §E1's."""

from __future__ import annotations

import pytest

from dreamseed_cli.bench.pgbench.settings import settings_table
from dreamseed_cli.database.settings import ServerSetting, Wanted, wanted_settings
from dreamseed_cli.estimates.load import load_book, parse_book

# §E1 as the document has it.
DOCUMENT = {
    "shared_buffers": "8 GB",
    "effective_cache_size": "24 GB",
    "maintenance_work_mem": "2 GB",
    "checkpoint_completion_target": "0.9",
    "wal_buffers": "16 MB",
    "default_statistics_target": "100",
    "random_page_cost": "1.1",
    "effective_io_concurrency": "200",
    "work_mem": "64 MB",
    "min_wal_size": "2 GB",
    "max_wal_size": "8 GB",
    "max_worker_processes": "16",
    "max_parallel_workers_per_gather": "4",
    "max_parallel_workers": "16",
}


def test_the_shipped_estimates_give_every_setting_of_the_document() -> None:
    """No other list of them is kept anywhere."""
    assert {one.name: one.said for one in wanted_settings(load_book())} == DOCUMENT


def test_a_changed_figure_changes_what_is_wanted() -> None:
    """Its unit as well."""
    row = {
        "id": "e1-memory-settings",
        "section": "E1",
        "quantity": "shared_buffers; and work_mem",
        "unit": "MB",
        "value": 512,
        "fields": {"work_mem_kb": 4096},
        "check": "setting",
    }

    wanted = wanted_settings(parse_book({"estimate": [row]}, source="test"))

    assert wanted == (Wanted("shared_buffers", 512, "MB"), Wanted("work_mem", 4096, "KB"))


@pytest.mark.parametrize(
    ("wanted", "setting", "unit", "differs"),
    [
        (Wanted("shared_buffers", 8, "GB"), "1048576", "8kB", False),
        (Wanted("shared_buffers", 8, "GB"), "8192", "8kB", True),
        (Wanted("work_mem", 64, "MB"), "65536", "kB", False),
        (Wanted("max_wal_size", 8, "GB"), "8192", "MB", False),
        (Wanted("random_page_cost", 1.1, ""), "1.1", None, False),
        (Wanted("random_page_cost", 1.1, ""), "4", None, True),
        (Wanted("max_worker_processes", 16, ""), "16", None, False),
        (Wanted("work_mem", 64, "MB"), "on", None, True),
    ],
)
def test_values_are_compared_in_one_unit(
    wanted: Wanted, setting: str, unit: str | None, differs: bool
) -> None:
    """PostgreSQL counts pages of 8 kB, kilobytes or megabytes, the document gigabytes."""
    server = ServerSetting(wanted.name, setting, unit, "user", "as shown")

    (row,) = settings_table((wanted,), {wanted.name: server}).rows

    assert row["differs"] is differs
    assert row["server"] == "as shown"


@pytest.mark.parametrize(
    ("context", "change"), [("postmaster", "restart"), ("sighup", "reload"), ("user", "reload")]
)
def test_what_a_change_needs_is_told_of_those_that_differ(context: str, change: str) -> None:
    """A restart costs the service; of a setting that is right nothing is said."""
    wanted = Wanted("x", 1, "")
    wrong, right = (ServerSetting("x", value, None, context, value) for value in ("2", "1"))

    (differing,) = settings_table((wanted,), {"x": wrong}).rows
    (agreeing,) = settings_table((wanted,), {"x": right}).rows

    assert differing["change"] == change
    assert agreeing["change"] is None


def test_a_setting_that_the_server_lacks_differs() -> None:
    """And the title counts it."""
    table = settings_table((Wanted("of_the_future", 1, ""), Wanted("x", 1, "")), {})

    assert [row["server"] for row in table.rows] == ["it has no such setting"] * 2
    assert "2 of 2 differ" in table.title
