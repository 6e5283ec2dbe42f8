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

    state = schema_state(chosen_dsn(dsn_env, profile, state_dir))
    said = (
        f"The schema is up to date: version {state.newest}."
        if state.up_to_date
        else f"The schema has {_version(state.current)}, the newest is {state.newest}. "
        "Bring it there with: dreamseed db migrate."
    )
    return Result(_data(state), view=[said], target_met=state.up_to_date)


def _version(current: str | None) -> str:
    return "no version (an empty database)" if current is None else f"version {current}"


def _data(state: SchemaState) -> dict[str, Any]:
    return {"version": state.current, "newest": state.newest, "up_to_date": state.up_to_date}
