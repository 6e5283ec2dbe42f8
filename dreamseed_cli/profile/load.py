"""Reading profiles: by the name of a shipped one, or from a file. All mistakes at once, with their paths."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from dreamseed_cli.core.errors import ErrorGroup, UsageError
from dreamseed_cli.core.paths import names_a_file
from dreamseed_cli.core.spelling import no_such_key
from dreamseed_cli.core.toml import read_toml
from dreamseed_cli.profile.schema import Profile

EMBEDDED_DEFAULT = "laptop"
_EMULATED = "emulated-rtx5090x3"
_ENGINE_KINDS = ("vllm", "emulated", "remote")
_PACKAGE = Path(__file__).resolve().parent.parent


def shipped_dir() -> Path:
    """The folder of shipped profiles: inside an installed package, or the checkout's."""
    installed = _PACKAGE / "_profiles"
    return installed if installed.is_dir() else _PACKAGE.parent / "profiles"


def shipped_names() -> list[str]:
    """Names of the shipped profiles, the embedded default first."""
    names = sorted(path.stem for path in shipped_dir().glob("*.toml"))
    return sorted(names, key=lambda name: name != EMBEDDED_DEFAULT)


def profile_path(name_or_path: str) -> Path:
    """The file behind a name or a path; UsageError if there is none."""
    if names_a_file(name_or_path):
        path = Path(name_or_path).expanduser()
        if not path.is_file():
            cause = "is a folder" if path.is_dir() else "there is no such file"
            raise UsageError(cause, place=name_or_path, remedy="Name a profile's TOML file.")
        return path
    path = shipped_dir() / f"{name_or_path}.toml"
    if not path.is_file():
        raise UsageError(
            "no shipped profile has this name",
            place=name_or_path,
            remedy=f"Shipped are: {', '.join(shipped_names())}. A file of your own is given by its path.",
        )
    return path


def load_profile(name_or_path: str) -> Profile:
    """Read and validate a profile. Raises UsageError or ErrorGroup with every mistake."""
    path = profile_path(name_or_path)
    return parse_profile(read_toml(path), source=str(path))


def parse_profile(data: Mapping[str, Any], *, source: str) -> Profile:
    """Validate a profile's data; `source` names it in errors."""
    try:
        # TOML knows no tuples: JSON's rules of strictness take its arrays for them.
        return Profile.model_validate_json(json.dumps(data, default=str))
    except ValidationError as error:
        raise ErrorGroup([_explain(detail, source) for detail in error.errors()]) from error


def with_gpus(profile: Profile, gpus: int) -> Profile:
    """The same profile on `gpus` cards: one replica a card, or a group of `tensor_parallel_size`."""
    engine = profile.engine
    if engine.kind == "remote" or (engine.kind == "vllm" and engine.device == "cpu"):
        raise UsageError(
            f"profile '{profile.name}' uses no cards",
            place="--gpus",
            remedy="Leave --gpus out, or choose a profile with cards: dreamseed profile list.",
        )
    group = engine.tensor_parallel_size if engine.kind == "vllm" else 1
    if gpus < 1 or gpus % group:
        raise UsageError(
            f"{gpus} cards cannot be shared out in groups of {group} (engine.tensor_parallel_size)",
            place="--gpus",
            remedy=f"Give a multiple of {group}.",
        )
    return profile.model_copy(
        update={
            "box": profile.box.model_copy(update={"gpus": gpus}),
            "engine": engine.model_copy(update={"replicas": gpus // group}),
        }
    )


def _explain(detail: ErrorDetails, source: str) -> UsageError:
    steps = [str(step) for step in detail["loc"]]
    whole = _EMULATED if steps[:2] == ["engine", "emulated"] else EMBEDDED_DEFAULT
    if len(steps) > 1 and steps[0] == "engine" and steps[1] in _ENGINE_KINDS:
        del steps[1]  # the tag of the union: no such table stands in the file
    path = ".".join(steps) or "profile"
    place = f"{source}: {path}"
    if detail["type"] == "extra_forbidden":
        return no_such_key(steps, place=place, schema=Profile.model_json_schema())
    message = detail["msg"].removeprefix("Value error, ")
    return UsageError(message, place=place, remedy=_remedy(detail["type"], whole))


def _remedy(kind: str, whole: str) -> str:
    """By pydantic's kind of error. A rule of ours (`value_error`) says itself what it wants.

    whole: a shipped profile that has the field.
    """
    if kind == "value_error":
        return ""
    wanted = "Add it" if kind == "missing" else "Mend it"
    return f"{wanted}; every field of a whole profile: dreamseed profile show {whole} --json."
