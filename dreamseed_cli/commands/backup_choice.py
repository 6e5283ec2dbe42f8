"""What the backup verbs share: the profile's `[backup]` table, the store, and which database is meant."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dreamseed_cli.commands.options import named_profile

if TYPE_CHECKING:
    from dreamseed_cli.backup.settings import Settings
    from dreamseed_cli.profile.schema import Profile

StoreOption = Annotated[
    str | None,
    typer.Option(
        "--store",
        help="local:PATH, b2:BUCKET/PREFIX or s3:BUCKET/PREFIX instead of the profile's backup.store.",
        show_default=False,
    ),
]

KeyFileOption = Annotated[
    Path | None,
    typer.Option(
        "--key-file",
        help="The private key: the daily one, or a file with the recovery key. Default: the profile's.",
        show_default=False,
    ),
]

IdArgument = Annotated[
    str, typer.Argument(metavar="BACKUP", help="Its id, the beginning of it, or 'latest'.")
]


def chosen_profile(profile: str | None) -> Profile:
    """The profile asked for, else the one that fits this machine."""
    from dreamseed_cli.profile.select import choose_profile

    return choose_profile(profile).profile


def chosen_settings(profile: str | None, store: str | None) -> Settings:
    """The profile's backup table, with another store if one is given."""
    import os

    from dreamseed_cli.backup.home import backup_home
    from dreamseed_cli.backup.settings import Settings

    table = chosen_profile(profile).backup
    if store is not None:
        table = table.model_copy(update={"store": store})
    return Settings(table, backup_home(os.environ))


def chosen_database(profile: str | None, dsn_env: str | None, state_dir: Path | None) -> str:
    """The connection string: --dsn-env's, an external profile's, or the running stack's."""
    from dreamseed_cli.commands.database_choice import chosen_dsn

    named = named_profile(profile)
    external = named is not None and chosen_profile(named).services.postgres.mode == "external"
    return chosen_dsn(dsn_env, named if external and dsn_env is None else None, state_dir)
