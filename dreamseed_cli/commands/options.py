"""The options that several verbs share, so that each is named and explained once."""

from __future__ import annotations

import os
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


def named_profile(profile: str | None) -> str | None:
    """What was named: with --profile, else with $DREAMSEED_PROFILE. None: what fits here."""
    return profile or os.environ.get("DREAMSEED_PROFILE") or None


def profile_argv(profile: str | None) -> list[str]:
    """`--profile` for a command that something else runs, with a folder and an environment of its own.

    So files come by their whole paths, and $DREAMSEED_PROFILE as an option.
    """
    named = named_profile(profile)
    if named is None:
        return []
    from dreamseed_cli.core.paths import names_a_file

    whole = str(Path(named).expanduser().absolute()) if names_a_file(named) else named
    return ["--profile", whole]
