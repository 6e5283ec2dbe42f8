"""`dreamseed drill SCENARIO`, and `due|history|show|checklist` beside the scenarios."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dreamseed_cli.commands.backup_choice import (
    KeyFileOption,
    StoreOption,
    chosen_database,
    chosen_profile,
    chosen_settings,
)
from dreamseed_cli.commands.database_choice import DsnEnvOption
from dreamseed_cli.commands.options import (
    JsonFlag,
    ProfileOption,
    StateDirOption,
    named_profile,
    profile_argv,
)
from dreamseed_cli.core.errors import MissingError
from dreamseed_cli.core.result import Result

if TYPE_CHECKING:
    from dreamseed_cli.drill.doors import Played
    from dreamseed_cli.drill.history import Folder

drill_app = typer.Typer(
    help="Rehearse a disaster beside the live system, and measure RPO and RTO.", no_args_is_help=True
)
_DUE = "due"
_HELP = {
    "lost-host": "The machine is gone: restore in a clean place from the bucket and the offline key alone.",
    "lost-database": "kill -9 to a copy's server, its disk wiped: restore in the same place.",
    "bad-deploy": "A statement destroys a table of a copy: recover to the moment before it.",
    "corrupt-backup": "The newest backup is damaged in a copy of the store: the one before must be taken.",
    "failover": "A copy's primary dies beside a standby: read-only, promoted, and home again (§E3).",
    _DUE: "Rehearse what the profile's drill.scenarios say and is due: for the schedule.",
}
_LONG = """

Needs a backup and the private key. The live database, if one runs, gets heartbeat rows and nothing else (with
--surprise 0 also a new WAL segment, so that nothing is waited for).
Exit code 1: a target was missed. 4: the database did not come back as it was. 5: another drill is at work."""


def rehearse(
    context: typer.Context,
    link_mbps: Annotated[
        float | None,
        typer.Option(
            "--link-mbps",
            min=0.1,
            help="Also compute the RTO of the real database over a link of so many Mbit/s (lost-host).",
            show_default=False,
        ),
    ] = None,
    rpo_target: Annotated[
        float | None,
        typer.Option("--rpo-target", min=0, help="Seconds, instead of the profile's.", show_default=False),
    ] = None,
    rto_target: Annotated[
        float | None,
        typer.Option("--rto-target", min=0, help="Seconds, instead of the profile's.", show_default=False),
    ] = None,
    surprise: Annotated[
        float,
        typer.Option(
            "--surprise", min=0, help="The loss comes at a random moment within so many seconds; 0: at once."
        ),
    ] = 300.0,
    scratch: Annotated[
        Path | None,
        typer.Option(
            "--scratch",
            help="Where copies lie meanwhile; room for three databases. Default: the cache folder.",
            show_default=False,
        ),
    ] = None,
    key_file: KeyFileOption = None,
    profile: ProfileOption = None,
    store: StoreOption = None,
    dsn_env: DsnEnvOption = None,
    state_dir: StateDirOption = None,
    as_json: JsonFlag = False,
) -> Result:
    """Lose something on purpose, bring it back, and say what was lost and how long it took."""
    from dreamseed_cli.backup.ending import ends_in_order
    from dreamseed_cli.core.paths import StateDir, cache_dir
    from dreamseed_cli.drill.doors import play
    from dreamseed_cli.drill.history import Folder
    from dreamseed_cli.drill.run import Company, raise_failure
    from dreamseed_cli.drill.stage import Pace, Wish
    from dreamseed_cli.drill.timeline import Targets
    from dreamseed_cli.profile.standby import Standby

    settings, chosen = chosen_settings(profile, store), chosen_profile(profile)
    folder = Folder.of(StateDir.locate(state_dir))
    scenario = context.info_name or _DUE
    names = [scenario] if scenario != _DUE else _due(folder, profile)
    if not names:
        return Result({"drills": []}, ["No drill is due."])
    targets = Targets(
        settings.table.rpo_target_s if rpo_target is None else rpo_target,
        chosen.drill.rto_target_s if rto_target is None else rto_target,
    )
    wish = Wish(
        settings=settings,
        key_file=key_file or settings.key_file,
        dsn=_live(profile, dsn_env, state_dir),
        profile_words=tuple(profile_argv(profile)),
        profile_file=_profile_file(profile),
        pace=Pace(surprise_s=surprise),
        standby=chosen.services.postgres.standby or Standby(),
    )
    company = Company(targets, folder, scratch or cache_dir() / "drills", link_mbps, say=_say)
    with ends_in_order():
        played = play(names, wish, company)
    for one in played:
        raise_failure(one.record)
    return _result(played)


for _name, _help in _HELP.items():
    drill_app.command(_name, help=_help + _LONG)(rehearse)


@drill_app.command("history")
def history(state_dir: StateDirOption = None, as_json: JsonFlag = False) -> Result:
    """List the drills of this host with their trend. Exit code 1 if a record was changed, or is gone."""
    from dataclasses import asdict

    from dreamseed_cli.core.paths import StateDir
    from dreamseed_cli.drill.history import Folder, trends
    from dreamseed_cli.drill.view import history_view, record_data

    found = Folder.of(StateDir.locate(state_dir)).read()
    trend = trends(found.records)
    data = {
        "drills": [record_data(record) for record in found.records],
        "trends": [asdict(one) for one in trend],
        "errors": [error.to_data() for error in found.errors],
    }
    return Result(data, history_view(found.records, trend, found.errors), target_met=not found.errors)


@drill_app.command("show")
def show(
    drill_id: Annotated[str, typer.Argument(metavar="DRILL", help="Its id, or 'latest'.")] = "latest",
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            help="Also write its RPO and RTO into this folder, for dreamseed estimates --results FOLDER.",
            show_default=False,
        ),
    ] = None,
    state_dir: StateDirOption = None,
    as_json: JsonFlag = False,
) -> Result:
    """Show one drill whole, and where its page lies."""
    from dreamseed_cli.bench.where import this_device
    from dreamseed_cli.core.paths import StateDir
    from dreamseed_cli.drill.doors import Played
    from dreamseed_cli.drill.figures import write_result
    from dreamseed_cli.drill.history import Folder

    folder = Folder.of(StateDir.locate(state_dir))
    records = folder.read().records
    found = [one for one in records if drill_id == "latest" or one.id.startswith(drill_id)]
    if not found:
        raise MissingError("there is no such drill", place=drill_id, remedy="See dreamseed drill history.")
    if out is not None:
        written = write_result(out, found[-1], this_device(None))
        _say(f"For dreamseed estimates --results {out}: {written}")
    return _result([Played(found[-1], folder.root / f"{found[-1].id}.html")])


@drill_app.command("checklist")
def checklist(
    instance: Annotated[str, typer.Option("--instance", help="Cloud SQL's instance.")] = "dreamseed-dr",
    region: Annotated[str, typer.Option("--region", help="Where it runs.")] = "asia-northeast3",
    as_json: JsonFlag = False,
) -> Result:
    """Print §E3's steps with Cloud SQL: the exact commands, and what it cannot do. Runs none of them."""
    from dataclasses import asdict

    from rich.text import Text

    from dreamseed_cli.drill.cloud_sql import LIMITS
    from dreamseed_cli.drill.cloud_sql import checklist as steps

    items = steps(instance, region)
    said: list[Any] = []
    for item in items:
        said += [Text(item.step, style="bold"), *(Text(f"  {command}") for command in item.commands)]
        said += [Text(f"  {item.note}", style="dim")] if item.note else []
    said += [Text(limit, style="yellow") for limit in LIMITS]
    return Result({"steps": [asdict(item) for item in items], "limits": list(LIMITS)}, said)


def _result(played: list[Played]) -> Result:
    from dreamseed_cli.drill.view import record_data, record_view

    view: list[Any] = []
    for one in played:
        view += [*record_view(one.record), f"Page: {one.page}"]
    data = [{**record_data(one.record), "page": str(one.page)} for one in played]
    return Result({"drills": data}, view, target_met=all(one.record.passed for one in played))


def _live(profile: str | None, dsn_env: str | None, state_dir: Path | None) -> str | None:
    """The live database; None where nothing runs: a host that holds only the key can rehearse as well."""
    try:
        return chosen_database(profile, dsn_env, state_dir)
    except MissingError:
        if dsn_env is not None:
            raise
        return None


def _profile_file(profile: str | None) -> Path | None:
    from dreamseed_cli.profile.load import profile_path

    named = named_profile(profile)
    return None if named is None else profile_path(named)


def _due(folder: Folder, profile: str | None) -> list[str]:
    from dreamseed_cli.backup.doors import utc_now
    from dreamseed_cli.backup.lock import AlreadyRunning
    from dreamseed_cli.backup.records import read_record
    from dreamseed_cli.drill.doors import settle, standings

    with suppress(AlreadyRunning):  # that one is not over yet
        settle(folder)
    since = read_record(chosen_settings(profile, None).scheduled().runs).since
    found = standings(folder, chosen_profile(profile).drill, since, utc_now())
    return [one.scenario for one in found if one.due]


def _say(text: str) -> None:
    typer.echo(text, err=True)
