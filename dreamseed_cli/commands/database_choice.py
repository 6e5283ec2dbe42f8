"""Which database a command means: the running stack's, a profile's, or one named by a variable."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

DsnEnvOption = Annotated[
    str | None,
    typer.Option(
        "--dsn-env",
        metavar="VARIABLE",
        help="The environment variable that holds a connection string. Default: the running stack's.",
        show_default=False,
    ),
]

ExternalProfileOption = Annotated[
    str | None,
    typer.Option(
        "--profile",
        "-p",
        help="Take the external database of this profile, whether its stack runs or not.",
        show_default=False,
    ),
]


def chosen_dsn(dsn_env: str | None, profile: str | None, state_dir: Path | None) -> str:
    """libpq's connection string.

    Raises MissingError if nothing runs, the stack does without PostgreSQL or a variable is not set;
    UsageError if the profile has no external database.
    """
    from dreamseed_cli.core.errors import UsageError
    from dreamseed_cli.database.address import resolve_dsn

    if dsn_env is not None and profile is not None:
        raise UsageError("--dsn-env and --profile name a database each", remedy="Leave one of them out.")
    if dsn_env is None:
        dsn_env = _of_profile(profile) if profile is not None else None
    return (resolve_dsn(None, dsn_env) if dsn_env is not None else None) or _of_stack(state_dir)


def _of_profile(name: str) -> str:
    from dreamseed_cli.core.errors import UsageError
    from dreamseed_cli.profile.load import load_profile

    postgres = load_profile(name).services.postgres
    if postgres.mode != "external":
        raise UsageError(
            f"this profile's PostgreSQL is '{postgres.mode}'",
            place=f"{name}: services.postgres.mode",
            remedy="An embedded one is found through its running stack: start it, and leave --profile out.",
        )
    return postgres.dsn_env


def _of_stack(state_dir: Path | None) -> str:
    """From what the supervisor told its gateway; the file outlives both, an external database as well."""
    from dreamseed_cli.core.errors import MissingError
    from dreamseed_cli.core.paths import StateDir
    from dreamseed_cli.supervisor.running import gateway_settings, nothing_runs

    state = StateDir.locate(state_dir)
    settings = gateway_settings(state)
    if settings is None:
        raise nothing_runs(state)
    services = settings.services
    dsn = services.dsn() if services else None
    if dsn is None:
        raise MissingError(
            "the stack here does without PostgreSQL",
            place=str(state.root),
            remedy="Set services.postgres.mode in its profile to 'embedded' or 'external'.",
        )
    return dsn
