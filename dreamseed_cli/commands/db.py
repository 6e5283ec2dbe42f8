"""`dreamseed db`: the schema, its settings (`tune`), the standby (`watch`, `promote`, `failback`; §E3)."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dreamseed_cli.commands.database_choice import DsnEnvOption, ExternalProfileOption, chosen_dsn
from dreamseed_cli.commands.db_tune import tune
from dreamseed_cli.commands.options import JsonFlag, StateDirOption
from dreamseed_cli.core.result import Result

if TYPE_CHECKING:
    from dreamseed_cli.database.migrate import SchemaState
    from dreamseed_cli.database.standby.keep import Turn
    from dreamseed_cli.database.standby.pair import Pair
    from dreamseed_cli.database.standby.service_file import ServiceFile
    from dreamseed_cli.profile.standby import Standby

db_app = typer.Typer(help="The database: its schema, its settings, its standby.", no_args_is_help=True)
db_app.command("tune")(tune)
StandbyProfile = Annotated[
    str,
    typer.Option("--profile", "-p", help="A profile with services.postgres.standby: a name or a TOML file."),
]


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
    view = (
        [said]
        if oldest is None
        else [said, f"Requests are recorded since {oldest.astimezone(UTC):%Y-%m-%d %H:%M} UTC."]
    )
    data = {**_data(state), "oldest_request": oldest.isoformat() if oldest is not None else None}
    return Result(data, view=view, target_met=state.up_to_date)


@db_app.command("watch")
def watch(profile: StandbyProfile, state_dir: StateDirOption = None, as_json: JsonFlag = False) -> Result:
    """Ask both servers again and again; when the primary is away, send clients to the read-only replica.

    Runs until SIGTERM, or Ctrl-C (exit code 130). It never promotes. Clients connect with `service=dreamseed`
    and $PGSERVICEFILE. Those on other machines are not turned: each machine needs a watch of its own.
    """
    import asyncio
    import signal

    from dreamseed_cli.database.standby.doors import watch_until_signalled

    settings, pair, file = _standby(profile, state_dir)
    typer.echo(f"Clients: PGSERVICEFILE={file.path}, connection string '{file.dsn()}'", err=True)

    def tell(turn: Turn) -> None:
        with suppress(OSError):  # a log that takes nothing ends no watch
            typer.echo(f"{turn.at:%H:%M:%S} {turn}", err=True)

    ended, signum = asyncio.run(watch_until_signalled(pair, file, settings, tell))
    mode = file.mode() or ended.mode  # a person's command may have come after the last look
    said = f"Clients go to the {mode}."
    if signum is signal.SIGINT:
        typer.echo(said, err=True)
        raise KeyboardInterrupt
    data = {"mode": mode.value, "split": ended.split, "service_file": str(file.path)}
    return Result(data, [said], target_met=not ended.split)


@db_app.command("promote")
def promote(
    profile: StandbyProfile,
    dead: Annotated[
        bool,
        typer.Option(
            "--old-primary-is-dead",
            help="You vouch for it: it is off and stays off. Not needed with a fence_command.",
        ),
    ] = False,
    state_dir: StateDirOption = None,
    as_json: JsonFlag = False,
) -> Result:
    """Make the replica the server that takes writes, once the old primary is fenced or proven dead.

    Refused (exit code 2) while both might take writes. Run again, it changes nothing.
    """
    from datetime import UTC, datetime

    from dreamseed_cli.database.standby.pair import Fence
    from dreamseed_cli.database.standby.promote import promote as make_primary

    settings, pair, file = _standby(profile, state_dir)
    done = make_primary(pair, Fence(settings.fence_command, vouched=dead), file, datetime.now(UTC))
    server = done.server
    data = {
        "changed": done.changed,
        "fenced": done.fenced,
        "timeline": server.timeline if server else None,
        "lsn": server.lsn if server else None,
        "last_commit": server.last_commit if server else None,
    }
    if server is None:
        again = "again, after a failback that broke off" if done.changed else "already"
        return Result(data, [f"The replica takes writes {again}; clients are sent there."])
    said = [
        f"The replica takes writes, on timeline {server.timeline}. The old primary: {done.fenced}.",
        f"Lost: everything committed after {server.last_commit or 'the copy was made'}.",
        "Do not start the old primary but as a standby of this one: see docs/runbooks/db.md.",
    ]
    return Result(data, said)


@db_app.command("failback")
def failback(profile: StandbyProfile, state_dir: StateDirOption = None, as_json: JsonFlag = False) -> Result:
    """Return to the first server, which must follow the promoted one. Nothing acknowledged is lost.

    Writes stand still until it has caught up, a minute at most; then it takes them, or nothing was changed.
    What was interrupted after that is run again: it goes on from there.
    """
    from datetime import UTC, datetime

    from dreamseed_cli.database.standby.failback import failback as go_back
    from dreamseed_cli.database.standby.pair import Fence

    settings, pair, file = _standby(profile, state_dir)
    done = go_back(pair, Fence(settings.fence_command), file, datetime.now(UTC))
    data = {
        "timeline": done.server.timeline,
        "caught_up_to": done.caught_up_to,
        "ended_sessions": done.ended_sessions,
        "fenced": done.fenced,
    }
    said = [
        f"The first server takes writes again, on timeline {done.server.timeline}.",
        f"It has everything up to {done.caught_up_to}, where the replica stopped.",
        f"The replica: {done.fenced}. Make it a standby again before you need it.",
    ]
    return Result(data, said)


def _standby(profile: str, state_dir: Path | None) -> tuple[Standby, Pair, ServiceFile]:
    from dreamseed_cli.core.paths import StateDir
    from dreamseed_cli.database.standby.doors import open_standby
    from dreamseed_cli.profile.load import load_profile

    return open_standby(load_profile(profile).services.postgres, StateDir.locate(state_dir))


def _version(current: str | None) -> str:
    return "no version (an empty database)" if current is None else f"version {current}"


def _data(state: SchemaState) -> dict[str, Any]:
    return {"version": state.current, "newest": state.newest, "up_to_date": state.up_to_date}
