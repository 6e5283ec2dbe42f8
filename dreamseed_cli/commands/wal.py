"""`dreamseed wal push|fetch|settings`: PostgreSQL's archive_command and restore_command."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dreamseed_cli.commands.backup_choice import KeyFileOption, StoreOption, chosen_settings
from dreamseed_cli.commands.options import JsonFlag, ProfileOption, profile_argv
from dreamseed_cli.core.result import Result

if TYPE_CHECKING:
    from dreamseed_cli.backup.settings import Settings

wal_app = typer.Typer(help="Archive the database's WAL, for recovery to any moment.", no_args_is_help=True)


@wal_app.command("push")
def push(
    path: Annotated[Path, typer.Argument(help="The WAL file, as PostgreSQL's %p gives it.")],
    profile: ProfileOption = None,
    store: StoreOption = None,
    as_json: JsonFlag = False,
) -> Result:
    """Archive one WAL file (archive_command). It succeeds only once the file is durable in the store.

    Files that wait behind it are pushed as well. Other bytes under a name that is archived are refused.
    """
    from dreamseed_cli.backup.ending import ends_in_order
    from dreamseed_cli.backup.keys import parse_recipients
    from dreamseed_cli.backup.settings import Settings
    from dreamseed_cli.backup.wal.outage import read_state
    from dreamseed_cli.backup.wal.push import Archiving, failures_noted
    from dreamseed_cli.backup.wal.push import push as archive
    from dreamseed_cli.backup.wal.settings import push_limits

    with failures_noted(path, Settings().wal_state):  # not of the profile, which may be what is wrong
        settings = chosen_settings(profile, store)
        recipients = parse_recipients(settings.recipients(), place=str(settings.recipients_file))
        before = read_state(settings.wal_state)
        limits = push_limits(settings.table.rpo_target_s, before.failures if before else 0)
        opened = settings.open(limits=limits)
    to = Archiving(opened, recipients, settings.wal_state, level=settings.table.compression_level)
    with ends_in_order():
        pushed = archive(path, to)
    return Result({"name": pushed.name, "known": pushed.known, "ahead": list(pushed.ahead)})


@wal_app.command("fetch")
def fetch(
    name: Annotated[str, typer.Argument(help="The file's name, as %f gives it.")],
    to: Annotated[Path, typer.Argument(help="Where it goes, as %p gives it.")],
    profile: ProfileOption = None,
    store: StoreOption = None,
    key_file: KeyFileOption = None,
    end: Annotated[
        str | None,
        typer.Option(
            "--end",
            metavar="SEGMENT",
            help="Where the archive ends, as restore saw it: what is missing from there on is no gap.",
            show_default=False,
        ),
    ] = None,
    as_json: JsonFlag = False,
) -> Result:
    """Get one WAL file back (restore_command, as `restore` sets it).

    Exit code 100: proven absent. 126: anything else that is wrong, which stops recovery.
    """
    from dreamseed_cli.backup.ending import ends_in_order
    from dreamseed_cli.backup.wal.fetch import STOP_EXIT, Fetching, run_fetch
    from dreamseed_cli.core.errors import DreamseedError

    try:
        settings = chosen_settings(profile, store)
        identities = settings.identities(key_file)
        source = Fetching(settings.open(), identities, settings.home / "wal-fetched", end=end)
    except DreamseedError as error:
        # No key or no such store proves no absence: recovery must stop.
        typer.echo(str(error), err=True)
        raise typer.Exit(STOP_EXIT) from error
    with ends_in_order():
        code = run_fetch(name, to, source, lambda text: typer.echo(text, err=True))
    if code:
        raise typer.Exit(code)
    return Result({"name": name, "to": str(to)})


@wal_app.command("settings")
def settings(profile: ProfileOption = None, store: StoreOption = None, as_json: JsonFlag = False) -> Result:
    """Print the lines for postgresql.conf that archive WAL in time for the profile's RPO target."""
    from rich.text import Text

    from dreamseed_cli.backup.wal.settings import settings_for

    chosen = chosen_settings(profile, store)
    entries = settings_for(wal_argv("push", chosen, profile, store), chosen.table.rpo_target_s)
    lines = [f"{name} = '{value.replace(chr(39), chr(39) * 2)}'" for name, value in entries.items()]
    return Result({"settings": entries}, [Text("\n".join(lines))])


def wal_argv(verb: str, settings: Settings, profile: str | None, store: str | None) -> list[str]:
    """The command as PostgreSQL runs it: from its own folder, with its own environment."""
    argv = ["env", f"DREAMSEED_BACKUP_DIR={settings.home.absolute()}"]
    argv += [sys.executable, "-m", "dreamseed_cli", "wal", verb]
    argv += profile_argv(profile)
    return [*argv, "--store", store] if store is not None else argv
