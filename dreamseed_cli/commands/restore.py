"""`dreamseed restore`: a backup into a new data folder or new databases, with a preview first."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from dreamseed_cli.commands.backup_choice import (
    KeyFileOption,
    StoreOption,
    chosen_database,
    chosen_settings,
)
from dreamseed_cli.commands.database_choice import DsnEnvOption
from dreamseed_cli.commands.options import JsonFlag, ProfileOption, StateDirOption
from dreamseed_cli.core.counting import counted
from dreamseed_cli.core.errors import UsageError
from dreamseed_cli.core.result import Result

if TYPE_CHECKING:
    from rich.console import RenderableType

    from dreamseed_cli.backup.names import Kind
    from dreamseed_cli.backup.physical.recovery import Goal
    from dreamseed_cli.backup.preview import Preview
    from dreamseed_cli.backup.recover import Recovery
    from dreamseed_cli.backup.settings import Settings

_PHYSICAL: Final = frozenset({"--into", "--quick", "--amcheck"})
_LOGICAL: Final = frozenset({"--database", "--replace"})
"""Options of one kind of backup only."""


def restore(
    backup_id: Annotated[
        str | None,
        typer.Argument(
            metavar="BACKUP",
            help="Its id, or the beginning of it. Default: the newest that fits.",
            show_default=False,
        ),
    ] = None,
    time: Annotated[
        str | None,
        typer.Option("--time", help="To this moment, such as 2025-11-10T03:00:00+09:00.", show_default=False),
    ] = None,
    lsn: Annotated[
        str | None, typer.Option("--lsn", help="To this place in the WAL.", show_default=False)
    ] = None,
    point: Annotated[
        str | None,
        typer.Option("--point", help="To this pg_create_restore_point().", show_default=False),
    ] = None,
    exclusive: Annotated[
        bool,
        typer.Option(
            "--exclusive",
            help="With --lsn or --time: without what begins right there, or was committed then.",
        ),
    ] = False,
    into: Annotated[
        Path | None,
        typer.Option("--into", help="A physical one: the data folder, new or empty.", show_default=False),
    ] = None,
    databases: Annotated[
        list[str] | None,
        typer.Option(
            "--database",
            metavar="NAME[=NEW]",
            help="A logical one: only this database, under a new name if one is given; several times.",
            show_default=False,
        ),
    ] = None,
    replace: Annotated[
        list[str] | None,
        typer.Option("--replace", help="This database of the target may be dropped.", show_default=False),
    ] = None,
    folders_into: Annotated[
        Path | None,
        typer.Option(
            "--folders-into",
            help="Restore only the folders of the backup, each below this one.",
            show_default=False,
        ),
    ] = None,
    quick: Annotated[
        bool,
        typer.Option(
            "--quick", help="A physical one: compare files by name and size only, and no table's content."
        ),
    ] = False,
    amcheck: Annotated[
        bool,
        typer.Option(
            "--amcheck",
            help="A physical one: look through every table and index at the end, if there is an amcheck.",
        ),
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do it. Without it only the preview is shown.")] = False,
    key_file: KeyFileOption = None,
    profile: ProfileOption = None,
    store: StoreOption = None,
    dsn_env: DsnEnvOption = None,
    state_dir: StateDirOption = None,
    as_json: JsonFlag = False,
) -> Result:
    """Restore a backup, and prove it. Shows what would happen first; --yes does it.

    A physical backup goes into a new data folder, to any moment that the archive reaches. A logical one goes
    into databases of a running server; one not empty or in use is refused unless --replace names it.
    """
    from dreamseed_cli.backup.ending import ends_in_order
    from dreamseed_cli.backup.recover import Recovery
    from dreamseed_cli.backup.view import skipped_lines

    settings = chosen_settings(profile, store)
    goal = _goal(time, lsn, point, exclusive=exclusive)
    with ends_in_order():
        options = {
            "--into": into,
            "--database": databases,
            "--replace": replace,
            "--quick": quick,
            "--amcheck": amcheck,
        }
        given = [name for name, value in options.items() if value]
        recovery = Recovery.look(settings, key_file, backup_id, goal, _kind_of(given))
        _check_options(recovery, given, folders=folders_into is not None)
        if not yes:
            names = _renamed(databases)
            return _shown(recovery.preview(folders=folders_into is not None, databases=names))
        for line in skipped_lines(recovery.skipped):
            _say(line)
        if folders_into is not None:
            return _folders(recovery, folders_into)
        if recovery.physical:
            wal_fetch = _wal_fetch(settings, profile, store, key_file)
            return _physical(recovery, into, wal_fetch=wal_fetch, quick=quick, look=amcheck)
        dsn = chosen_database(profile, dsn_env, state_dir)
        return _logical(recovery, dsn, _renamed(databases), frozenset(replace or ()))


def _kind_of(given: list[str]) -> Kind | None:
    """The kind of backup that options alone mean. given: their names."""
    from dreamseed_cli.backup.names import Kind

    if given and _PHYSICAL.issuperset(given):
        return Kind.PHYSICAL
    return Kind.LOGICAL if given and _LOGICAL.issuperset(given) else None


def _check_options(recovery: Recovery, given: list[str], *, folders: bool) -> None:
    """What would be passed over in silence is refused. given: options by name."""
    if folders and not recovery.entry.manifest.folders:
        raise UsageError(
            "this backup holds no folders",
            place=recovery.entry.id,
            remedy="Give the id of one that does: dreamseed backup show.",
        )
    if folders:
        what, fit = "of a restore of folders alone", frozenset[str]()
    elif recovery.physical:
        what, fit = "of a physical backup, which is the whole cluster", _PHYSICAL
    else:
        what, fit = "of a logical backup, which goes into a server", _LOGICAL
    for name in given:
        if name not in fit:
            raise UsageError(f"this is no option {what}", place=name, remedy="Leave it out.")


def _goal(time: str | None, lsn: str | None, point: str | None, *, exclusive: bool) -> Goal:
    from dreamseed_cli.backup.physical.recovery import Goal

    given = [name for name, value in (("--time", time), ("--lsn", lsn), ("--point", point)) if value]
    if len(given) > 1:
        raise UsageError(f"{' and '.join(given)} name a goal each", remedy="Leave one of them out.")
    if exclusive and not (time or lsn):
        raise UsageError(
            "it leaves out what is at a goal",
            place="--exclusive",
            remedy="Give --lsn or --time, or leave it out.",
        )
    if time is not None:
        try:
            goal = Goal("time", datetime.fromisoformat(time), inclusive=not exclusive)
        except ValueError as error:
            raise UsageError(
                "not a moment", place=f"--time {time}", remedy="Write 2025-11-10T03:00:00+09:00."
            ) from error
    else:
        goal = Goal("lsn", lsn, inclusive=not exclusive) if lsn else Goal("name", point) if point else Goal()
    goal.settings()
    return goal


def _shown(seen: Preview) -> Result:
    from dreamseed_cli.backup.progress import size_text, time_text
    from dreamseed_cli.backup.view import damaged_data, skipped_lines

    manifest = seen.entry.manifest
    data = {
        "id": seen.entry.id,
        "kind": manifest.identity.kind.value,
        "bytes": seen.bytes,
        "seconds": seen.seconds,
        "seconds_from": "restore" if seen.measured else "backup",
        "lost": seen.lost,
        "skipped": damaged_data(seen.skipped),
        "proof": seen.entry.proof.level.value,
        "done": False,
    }
    by = "the last restore's rate" if seen.measured else "the rate at which it was made"
    about = f", about {time_text(seen.seconds)} (computed from {by})" if seen.seconds else ""
    said = [
        f"Would restore {seen.entry.id} (proven: {seen.entry.proof.level}).",
        *skipped_lines(seen.skipped),
        f"To fetch: {size_text(seen.bytes)}{about}.",
        f"Lost: {seen.lost}",
        "Nothing was done. Add --yes to do it.",
    ]
    return Result(data, said)


def _physical(
    recovery: Recovery,
    into: Path | None,
    *,
    wal_fetch: list[str],
    quick: bool,
    look: bool,
) -> Result:
    from rich.text import Text

    from dreamseed_cli.backup.logical.proof import tables_text

    if into is None:
        raise UsageError(
            "a physical backup needs a data folder", place="--into", remedy="Give a new or empty folder."
        )
    done = recovery.physical_into(into.expanduser().absolute(), wal_fetch, _say, quick=quick, look=look)
    data: dict[str, Any] = {
        **_chosen(recovery),
        "into": str(into),
        "reached_lsn": done.reached.lsn,
        "timeline": done.reached.timeline,
        "last_commit": done.reached.last_commit.isoformat() if done.reached.last_commit else None,
        "lost": done.lost,
        "bytes": done.size,
        "kept_bytes": done.kept,
        "unpack_s": done.unpack_s,
        "verify_s": done.verify_s,
        "recover_s": done.recover_s,
        "resumed": done.resumed,
        "files": done.verified.value,
        "tables": done.content.tables if done.content else None,
        "rows": done.content.rows if done.content else None,
        "proof": done.proven.value,
        "checked": done.checked or None,
        "doubt": done.doubt or None,
        "done": True,
    }
    said: list[RenderableType] = [
        f"Restored {recovery.entry.id} into {into}: {done.verified} of all files compared, and a server "
        "recovered from it.",
        f"The contents of {tables_text(done.content.tables, done.content.rows)} are equal to the backup's."
        if done.content
        else "What its tables hold was not compared.",
        *([f"{done.checked}."] if done.checked else []),
        *([Text(done.doubt, style="yellow")] if done.doubt else []),
        f"It reached {done.reached.lsn} on timeline {done.reached.timeline}. Lost: {done.lost}",
        "Point postgres -D at it. Before it archives, give it a store of its own.",
    ]
    return Result(data, said)


def _logical(recovery: Recovery, dsn: str, names: dict[str, str] | None, replace: frozenset[str]) -> Result:
    from dreamseed_cli.backup.logical.proof import tables_text

    done = recovery.logical_into(dsn, names, replace, _say)
    data = {
        **_chosen(recovery),
        "databases": [{"name": name, "as": new} for name, new in done.databases],
        "tables": done.tables,
        "rows": done.rows,
        "refreshed": list(done.refreshed),
        "seconds": done.duration_s,
        "proof": "restored-and-digests-equal",
        "done": True,
    }
    said = [
        f"Restored {recovery.entry.id}: {', '.join(new for _, new in done.databases)}.",
        f"The contents of {tables_text(done.tables, done.rows)} are equal to the backup's.",
    ]
    return Result(data, said)


def _folders(recovery: Recovery, to: Path) -> Result:
    done = recovery.folders_into(to, _say)
    said = [
        f"Restored {to / name}: {counted(files, 'file')}, each proven by its SHA-256."
        for name, files in done.files.items()
    ]
    data = {
        **_chosen(recovery),
        "folders": done.files,
        "kept_bytes": done.kept,
        "resumed": done.resumed,
        "done": True,
    }
    return Result(data, said)


def _chosen(recovery: Recovery) -> dict[str, Any]:
    from dreamseed_cli.backup.view import damaged_data

    return {"id": recovery.entry.id, "skipped": damaged_data(recovery.skipped)}


def _renamed(databases: list[str] | None) -> dict[str, str] | None:
    """NAME or NAME=NEW; None: all of them under their own names."""
    if not databases:
        return None
    pairs = (text.partition("=") for text in databases)
    return {name: new or name for name, _, new in pairs}


def _wal_fetch(
    settings: Settings, profile: str | None, store: str | None, key_file: Path | None
) -> list[str]:
    from dreamseed_cli.commands.wal import wal_argv

    argv = wal_argv("fetch", settings, profile, store)
    return [*argv, "--key-file", str(key_file.absolute())] if key_file else argv


def _say(text: str) -> None:
    typer.echo(text, err=True)
