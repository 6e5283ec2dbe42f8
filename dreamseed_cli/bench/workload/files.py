"""Reading workloads: a shipped name, a TOML file, or a mix of these."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Final

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from dreamseed_cli.bench.workload.jobs import Workload
from dreamseed_cli.bench.workload.kind import Kind
from dreamseed_cli.core.data_file import mistake
from dreamseed_cli.core.errors import ErrorGroup, UsageError
from dreamseed_cli.core.paths import names_a_file
from dreamseed_cli.core.toml import read_toml
from dreamseed_cli.estimates.load import shipped_dir

DEFAULT_MIX: Final = "question=0.7,feedback=0.2,recommendation=0.1"
"""Of the document's three kinds of use; answers have 200 tokens on average (§B1). The shares are assumed."""


def load(spec: str) -> Workload:
    """The workload that `spec` names: `question`, `my/own.toml`, or `question=0.7,my/own.toml=0.3`.

    Shares are taken in proportion to their sum. Raises UsageError, or an ErrorGroup with all mistakes of a
    file.
    """
    weighed = [_weighed(part.strip(), spec) for part in spec.split(",")]
    kinds = [(_load_kind(name), weight) for name, weight in weighed]
    names = [kind.name for kind, _ in kinds]
    if len(set(names)) != len(names):
        raise UsageError("the mix names a workload twice", place=spec, remedy="Add the shares up.")
    total = math.fsum(weight for _, weight in kinds)
    return Workload(spec, [(kind, weight / total) for kind, weight in kinds])


def shipped_names() -> list[str]:
    """The workloads that come with the program."""
    return sorted(path.stem for path in _shipped().glob("*.toml"))


def _weighed(part: str, spec: str) -> tuple[str, float]:
    name, separator, share = part.rpartition("=")
    if not separator:
        return part, 1.0
    try:
        weight = float(share)
    except ValueError:
        weight = math.nan
    if not 0 < weight < math.inf:
        raise UsageError(
            f"the share of '{name}' is '{share}'", place=spec, remedy="Give a number above 0, such as 0.7."
        )
    return name, weight


def _load_kind(name: str) -> Kind:
    if names_a_file(name):
        path = Path(name).expanduser()
    else:
        path = _shipped() / f"{name}.toml"
        if not path.is_file():
            raise UsageError(
                "no workload has this name",
                place=name,
                remedy=f"Shipped are: {', '.join(shipped_names())}. One of your own is given by its path.",
            )
    try:
        return Kind.model_validate(read_toml(path))
    except ValidationError as error:
        raise ErrorGroup([_explain(detail, path) for detail in error.errors()]) from error


def _explain(detail: ErrorDetails, path: Path) -> UsageError:
    place = f"{path}: {'.'.join(map(str, detail['loc'])) or 'workload'}"
    return mistake(detail, place, Kind.model_json_schema)


def _shipped() -> Path:
    return shipped_dir() / "workloads"
