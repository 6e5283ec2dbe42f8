"""The options that several verbs share, so that each is named and explained once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

JsonFlag = Annotated[bool, typer.Option("--json", help="Print one JSON document instead of text.")]

ProfileOption = Annotated[
    str | None,
    typer.Option(
        "--profile",
        "-p",
        help="A shipped profile's name or a TOML file. Default: $DREAMSEED_PROFILE, else what fits here.",
        show_default=False,
    ),
]

GpusOption = Annotated[
    int | None,
    typer.Option("--gpus", min=1, help="Use this many cards instead of the profile's.", show_default=False),
]

StateDirOption = Annotated[
    Path | None,
    typer.Option(
        "--state-dir",
        help="Where the running stack keeps its state. Default: the user's state folder.",
        show_default=False,
    ),
]


def profile_argv(profile: str | None) -> list[str]:
    """`--profile` for a command that something else runs, in a folder of its own: files by whole paths."""
    if profile is None:
        return []
    is_file = profile.endswith(".toml") or "/" in profile
    return ["--profile", str(Path(profile).expanduser().absolute()) if is_file else profile]
