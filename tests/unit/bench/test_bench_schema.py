"""The published schema of a result: current, and true of what is written."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema  # type: ignore[import-untyped]
import pytest
from bench_results import sweep_result

from dreamseed_cli.bench.report.files import result_json
from dreamseed_cli.bench.result import SCHEMA_VERSION

ROOT = Path(__file__).resolve().parents[3]
SCHEMA = ROOT / "docs" / "schemas" / "bench.schema.json"


@pytest.fixture(scope="module")
def validator() -> Any:
    """The committed schema."""
    schema = json.loads(SCHEMA.read_bytes())
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


def test_the_published_schema_is_current() -> None:
    """A changed result without `make docs` fails here."""
    script = ROOT / "scripts" / "generate_schemas.py"
    done = subprocess.run([sys.executable, script, "--check"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_written_result_is_valid(validator: Any) -> None:
    """Every part of a rich run, as it stands in result.json."""
    validator.validate(json.loads(result_json(sweep_result())))


@pytest.mark.parametrize(
    "change",
    [{"extra": 1}, {"schema_version": SCHEMA_VERSION + 1}, {"provenance": "guessed"}, {"valid": "yes"}],
)
def test_what_is_no_result_is_refused(validator: Any, change: dict[str, Any]) -> None:
    """Unknown keys, another version, a made-up provenance, a wrong type."""
    data = json.loads(result_json(sweep_result())) | change
    assert not validator.is_valid(data)
