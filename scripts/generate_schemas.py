"""`make docs`: docs/schemas/ from the program's own types; --check tells a stale one (exit code 1)."""

from __future__ import annotations

import json
import sys
from typing import Any

from _generated import write_or_check
from pydantic import TypeAdapter

from dreamseed_cli.bench.result import BenchResult
from dreamseed_cli.costsim.report.data import CostSim


def schemas() -> dict[str, str]:
    """Every published schema as it would be now, by its path."""
    return {
        "docs/schemas/bench.schema.json": _text(
            BenchResult.model_json_schema(), "A result of dreamseed bench"
        ),
        "docs/schemas/cost-sim.schema.json": _text(
            TypeAdapter(CostSim).json_schema(mode="serialization"), "The data of dreamseed cost-sim --json"
        ),
    }


def _text(schema: dict[str, Any], title: str) -> str:
    whole = {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema, "title": title}
    return json.dumps(whole, indent=2, sort_keys=True, ensure_ascii=False) + "\n"


def main() -> int:
    """Write the schemas, or compare them."""
    return write_or_check(__doc__, schemas)


if __name__ == "__main__":
    sys.exit(main())
