"""`dreamseed db migrate|status`: the versions of the database's schema."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import typer

from dreamseed_cli.commands.database_choice import DsnEnvOption, ExternalProfileOption, chosen_dsn
from dreamseed_cli.commands.options import JsonFlag, StateDirOption
from dreamseed_cli.core.result import Result

if TYPE_CHECKING:
    from dreamseed_cli.database.migrate import SchemaState

db_app = typer.Typer(help="Show and bring up to date the schema of the database.", no_args_is_help=True)


@db_app.command("migrate")
def migrate(
    dsn_env: DsnEnvOption = None,
    profile: ExternalProfileOption = None,
    state_dir: StateDirOption = None,
    as_json: JsonFlag = False,
) -> Result:
    """Bring the schema to the newest version. Does nothing to one that is.

    Each step is done whole or not at all; two runs at once do not disturb each other.
    """
    from dreamseed_cli.database.migrate import migrate as bring_up_to_date

    before = bring_up_to_date(chosen_dsn(dsn_env, profile, state_dir))
    said = (
        f"The schema has the newest version already: {before.newest}."
        if before.up_to_date
        else f"The schema went from {_version(before.current)} to version {before.newest}."
    )
    return Result({"before": before.current, "now": before.newest}, view=[said])


@db_app.command("status")
def status(
    dsn_env: DsnEnvOption = None,
    profile: ExternalProfileOption = None,
    state_dir: StateDirOption = None,
    as_json: JsonFlag = False,
) -> Result:
    """Show the schema's version. Exit code 1 if it is not the newest."""
    from dreamseed_cli.database.migrate import schema_state
    from dreamseed_cli.database.records import oldest_request

    dsn = chosen_dsn(dsn_env, profile, state_dir)
    state = schema_state(dsn)
    oldest = oldest_request(dsn) if state.up_to_date else None
    said = (
        f"The schema is up to date: version {state.newest}."
        if state.up_to_date
        else f"The schema has {_version(state.current)}, the newest is {state.newest}. "
        "Bring it there with: dreamseed db migrate."
    )
    view = [said] if oldest is None else [said, f"Requests are recorded since {oldest:%Y-%m-%d %H:%M %Z}."]
    data = {**_data(state), "oldest_request": oldest.isoformat() if oldest is not None else None}
    return Result(data, view=view, target_met=state.up_to_date)


def _version(current: str | None) -> str:
    return "no version (an empty database)" if current is None else f"version {current}"


def _data(state: SchemaState) -> dict[str, Any]:
    return {"version": state.current, "newest": state.newest, "up_to_date": state.up_to_date}
