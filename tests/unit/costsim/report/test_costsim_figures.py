"""The answer as JSON and CSV: whole, with units, and as its published schema says."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest
from cost_answers import whole_answer
from jsonschema import Draft202012Validator  # type: ignore[import-untyped]
from pydantic import TypeAdapter

from dreamseed_cli.costsim.report.csv_file import BILL, SWEEP, bill_csv, sweep_csv
from dreamseed_cli.costsim.report.data import CostSim
from dreamseed_cli.costsim.report.record import measurements
from dreamseed_cli.estimates.load import load_book

_SCHEMA = Path("docs/schemas/cost-sim.schema.json")


def _data() -> CostSim:
    data: CostSim = json.loads(json.dumps(whole_answer().to_data(), default=str, allow_nan=False))
    return data


@pytest.mark.no_cover
def test_the_json_is_what_the_published_schema_says() -> None:
    """Nothing is missing, nothing infinite, nothing of another type."""
    schema = json.loads(_SCHEMA.read_text(encoding="utf-8"))
    assert list(Draft202012Validator(schema).iter_errors(_data())) == []
    TypeAdapter(CostSim).validate_python(whole_answer().to_data())


def test_the_lines_add_up_and_stand_beside_the_documents() -> None:
    """To a cent for each line's rounding; §F1's lines have §F1's figures, others none."""
    study = _data()["study"]
    assert study is not None
    bill = study["bill"]
    total = sum(line["usd"]["value"] or 0 for line in bill["lines"])
    assert total == pytest.approx(bill["total"]["value"], abs=0.01 * len(bill["lines"]))
    said = {line["key"]: line["document_usd"] for line in bill["lines"]}
    assert said["cloud-run"] == [50.0, 150.0]
    assert said["egress"] is None
    assert all(line["how"] for line in bill["lines"])


def test_all_five_contradictions_are_computed() -> None:
    """With a sentence and figures each."""
    study = _data()["study"]
    assert study is not None
    assert [one["number"] for one in study["contradictions"]] == [1, 5, 6, 8, 9]
    assert all(one["figures"] and one["sentence"] for one in study["contradictions"])


def test_the_tables_are_csv() -> None:
    """One header, as many columns in every row, the total last before what stands aside."""
    answer = whole_answer()
    assert answer.study is not None
    bill = list(csv.reader(io.StringIO(bill_csv(answer.study))))
    assert tuple(bill[0]) == BILL
    assert {len(row) for row in bill} == {len(BILL)}
    assert [row[0] for row in bill][-2:] == ["total", "depreciation"]
    sweep = list(csv.DictReader(io.StringIO(sweep_csv(answer.rows))))
    assert tuple(sweep[0]) == SWEEP
    assert [row["users"] for row in sweep] == ["1000", "10000"]
    assert [row["document_usd"] for row in sweep] == ["100.0", "180.0"]


def test_every_measurement_is_one_that_an_estimate_asks_for() -> None:
    """No key goes nowhere, each is in the estimate's unit, and none claims to be measured."""
    answer = whole_answer()
    wanted = {one.result_key: one.unit for one in load_book() if one.result_key}
    found = measurements(answer.study, answer.rows)
    assert {one.key for one in found} >= {
        "hybrid-month-usd",
        "month-f3-1k-usd",
        "hybrid-availability-percent",
    }
    assert all(wanted[one.key] == one.unit for one in found)
    assert {one.provenance for one in found} == {"computed"}


def test_figures_of_the_goal_come_of_the_goals_users_alone() -> None:
    """100,000 users say nothing about 10,000 at a time."""
    answer = whole_answer()
    keys = {one.key for one in measurements(answer.study, answer.rows)}
    assert keys.isdisjoint({"goal-month-usd", "concurrent-users"})
