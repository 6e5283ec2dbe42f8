"""`make docs`: docs/schemas/ from the program's own types; --check tells a stale one (exit code 1)."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from dreamseed_cli.bench.result import BenchResult
from dreamseed_cli.costsim.data import CostSim

SCHEMAS = Path(__file__).resolve().parent.parent / "docs" / "schemas"


def schemas() -> dict[str, str]:
    """Every published schema as it would be now, by its file's name."""
    return {
        "bench.schema.json": _text(BenchResult.model_json_schema(), "A result of dreamseed bench"),
        "cost-sim.schema.json": _text(
            TypeAdapter(CostSim).json_schema(mode="serialization"), "The data of dreamseed cost-sim --json"
        ),
    }


def _text(schema: dict[str, Any], title: str) -> str:
    whole = {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema, "title": title}
    return json.dumps(whole, indent=2, sort_keys=True, ensure_ascii=False) + "\n"


def main() -> int:
    """Write the schemas, or compare them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="compare instead of writing")
    check, stale = parser.parse_args().check, []
    for name, text in schemas().items():
        path = SCHEMAS / name
        if check:
            stale += [] if path.exists() and path.read_text(encoding="utf-8") == text else [name]
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    print(f"stale, run make docs: {', '.join(stale)}" if stale else "docs/schemas is current")
    return int(bool(stale))


if __name__ == "__main__":
    sys.exit(main())
