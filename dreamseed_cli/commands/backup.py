"""`dreamseed backup`, and `init|list|show|verify|pin|unpin|prune|status` below it."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dreamseed_cli.commands.backup_choice import (
    IdArgument,
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
    from dreamseed_cli.backup.doors import Doors
    from dreamseed_cli.backup.names import Kind
    from dreamseed_cli.backup.settings import Settings

backup_app = typer.Typer(
    help="Back up the database; list, verify and prune backups; show what would be lost now.\n\n"
    "A backup is encrypted here, read back from the store, and only then called one. Exit code 1: it was "
    "made, but the second copy or the deleting of old ones failed. 5: another is running.",
    invoke_without_command=True,
)


@backup_app.callback()
def backup(
    context: typer.Context,
    kind: Annotated[
        str | None,
        typer.Option("--kind", help="logical or physical. Default: the profile's.", show_default=False),
    ] = None,
    pin: Annotated[bool, typer.Option("--pin", help="Never delete this one.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check everything, and store nothing.")] = False,
    profile: ProfileOption = None,
    store: StoreOption = None,
    dsn_env: DsnEnvOption = None,
    state_dir: StateDirOption = None,
    as_json: JsonFlag = False,
) -> Result | None:
    """Make a backup: encrypted here, read back from the store, and only then called one."""
    if context.invoked_subcommand is not None:
        return None
    if not dry_run:
        _refuse_second()
    from dreamseed_cli.backup.attend import attended_run
    from dreamseed_cli.backup.doors import Doors, utc_now
    from dreamseed_cli.backup.ending import ends_in_order
    from dreamseed_cli.backup.view import report_data, report_view

    settings = chosen_settings(profile, store)
    doors = Doors(settings, lambda: chosen_database(profile, dsn_env, state_dir))
    wanted = _kind(kind or settings.table.kind)
    if dry_run:
        return _rehearse(doors, wanted)
    with ends_in_order():
        done = attended_run(settings, lambda: doors.backup(wanted, pin=pin), utc_now)
    data = report_data(done.report)
    data["store"] = settings.store_url
    data["hook_errors"] = [error.to_data() for error in done.hook_errors]
    view = [*report_view(done.report), *(f"Nobody could be told: {error}" for error in done.hook_errors)]
    return Result(data, view, target_met=not done.report.problems and not done.hook_errors)


@backup_app.command("init")
def init(
    locked: Annotated[
        bool,
        typer.Option(
            "--locked", help="Lock the key file with the passphrase in $DREAMSEED_BACKUP_PASSPHRASE."
        ),
    ] = False,
    profile: ProfileOption = None,
    store: StoreOption = None,
    as_json: JsonFlag = False,
) -> Result:
    """Make the keys and the store. Prints the recovery key, once: write it down, it is kept nowhere.

    Where there are keys already they stay, and only the store is made.
    """
    from rich.text import Text

    from dreamseed_cli.backup.keys import (
        NewKeys,
        NoKey,
        write_identity,
        write_locked_identity,
        write_recipients,
    )

    settings = chosen_settings(profile, store)
    passphrase = settings.passphrase() if locked else None
    if locked and passphrase is None:
        raise NoKey("no passphrase to lock the key with", place="$DREAMSEED_BACKUP_PASSPHRASE")
    if settings.recipients_file.exists() and not settings.key_file.exists():
        raise UsageError(
            "there are public keys already",
            place=str(settings.recipients_file),
            remedy="Bring their private key to this host instead, or move the file away yourself.",
        )
    if settings.recipients_file.exists() and settings.key_file.exists() and not locked:
        return _another_store(settings)
    keys = NewKeys.create()
    settings.home.mkdir(mode=0o700, parents=True, exist_ok=True)
    opened, rules = _made_store(settings)
    for path in (settings.key_file, settings.recipients_file):
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    if passphrase is None:
        write_identity(settings.key_file, keys.daily)
    else:
        write_locked_identity(settings.key_file, keys.daily, passphrase)
    write_recipients(settings.recipients_file, keys.recipients)
    data = {**opened, "recipients": list(keys.recipients), "recovery_key": keys.recovery.reveal()}
    said = [
        Text(f"The store: {settings.store_url}"),
        Text(f"The daily key: {settings.key_file}. Only restoring needs it."),
        Text("\nThe recovery key. It opens every backup and is shown only now: write it down.\n"),
        Text(f"  {keys.recovery.reveal()}\n", style="bold"),
    ]
    if settings.table.store is None:
        said.append(
            Text(
                "This store is a folder on this machine: it does not outlive its disk. Name another in the "
                "profile: [backup] store = ...",
                style="yellow",
            )
        )
    said += [Text(rule, style="red") for rule in rules]
    return Result(data, said)


def _another_store(settings: Settings) -> Result:
    """A store for keys that are here: a second key would leave what the first one opens without it."""
    opened, rules = _made_store(settings)
    said = [
        f"The store: {settings.store_url}",
        f"The keys stay: {settings.key_file}. Their recovery key was shown when they were made.",
        *rules,
    ]
    return Result({**opened, "recipients": settings.recipients(), "recovery_key": None}, said)


def _made_store(settings: Settings) -> tuple[dict[str, Any], list[str]]:
    """Make it; what is told of it as data, and in words those of its bucket's rules that delete."""
    from dreamseed_cli.backup.store.base import LIFECYCLE_REMEDY

    with_store = settings.open(create=True)
    rights = with_store.rights()
    with_store.close()
    data = {
        "store": settings.store_url,
        "key_file": str(settings.key_file),
        "recipients_file": str(settings.recipients_file),
        "may_delete": rights.delete,
        "object_lock": rights.retention,
        "expiry": list(rights.expiry),
    }
    return data, [f"The bucket: {rule}. {LIFECYCLE_REMEDY}" for rule in rights.expiry]


@backup_app.command("list")
def list_backups(
    profile: ProfileOption = None, store: StoreOption = None, as_json: JsonFlag = False
) -> Result:
    """List the backups, newest first, and what only looks like one.

    Exit code 1: one is damaged, lacks contents of its folders, or is hidden.
    """
    from dreamseed_cli.backup.catalog import hidden_if_told, read_catalog
    from dreamseed_cli.backup.view import catalog_data, catalog_view

    settings = chosen_settings(profile, store)
    opened = settings.open()
    catalog = read_catalog(opened)
    hidden = hidden_if_told(opened, catalog)
    view = catalog_view(catalog, settings.store_url, hidden)
    good = not (catalog.damaged or hidden or any(entry.lost for entry in catalog.backups))
    return Result(catalog_data(catalog, settings.store_url, hidden), view, target_met=good)


@backup_app.command("show")
def show(
    backup_id: IdArgument = "latest",
    profile: ProfileOption = None,
    store: StoreOption = None,
    as_json: JsonFlag = False,
) -> Result:
    """Show one backup: what it holds, what made it, what was proven of it."""
    from dreamseed_cli.backup.catalog import read_catalog
    from dreamseed_cli.backup.verify import choose
    from dreamseed_cli.backup.view import entry_data, manifest_view

    entry = choose(read_catalog(chosen_settings(profile, store).open()), backup_id)
    data = {**entry_data(entry), "manifest": entry.manifest.model_dump(mode="json")}
    return Result(data, manifest_view(entry))


@backup_app.command("verify")
def verify(
    backup_id: IdArgument = "latest",
    key_file: KeyFileOption = None,
    profile: ProfileOption = None,
    store: StoreOption = None,
    as_json: JsonFlag = False,
) -> Result:
    """Read every part again and compare; with the private key, open it too. Exit code 1 if one is damaged."""
    from rich.text import Text

    from dreamseed_cli.backup.catalog import read_catalog
    from dreamseed_cli.backup.doors import utc_now
    from dreamseed_cli.backup.ending import ends_in_order
    from dreamseed_cli.backup.progress import Progress, size_text
    from dreamseed_cli.backup.verify import choose, offer
    from dreamseed_cli.backup.verify import verify as prove

    settings = chosen_settings(profile, store)
    keys = settings.identities(key_file) if key_file else settings.identities_if_any()
    opened = settings.open()
    with ends_in_order():
        catalog = read_catalog(opened)
        entry = choose(catalog, backup_id)
        progress = Progress(sys.stderr, entry.manifest.plain_bytes if keys else entry.manifest.stored_bytes)
        try:
            threads = settings.table.threads
            done = prove(opened, entry.manifest, keys, utc_now(), threads=threads, told=progress.told)
        finally:
            progress.end()
    data = {
        "id": entry.id,
        "good": done.good,
        "opened": done.opened,
        "objects": done.objects,
        "stored_bytes": done.stored_bytes,
        "errors": [error.to_data() for error in done.errors],
    }
    how = "read and opened" if done.opened else "read (not opened: no private key here)"
    said = [Text(f"{entry.id}: {counted(done.objects, 'object')}, {size_text(done.stored_bytes)}, {how}.")]
    said += [Text(f"Damaged: {error}", style="red") for error in done.errors]
    said.append(Text("All are as they were made.") if done.good else Text(offer(catalog, entry.id)))
    return Result(data, said, target_met=done.good)


@backup_app.command("pin")
def pin_backup(
    backup_id: IdArgument, profile: ProfileOption = None, store: StoreOption = None, as_json: JsonFlag = False
) -> Result:
    """Keep a backup for ever, and the WAL that makes it consistent."""
    from dreamseed_cli.backup.catalog import read_catalog
    from dreamseed_cli.backup.names import pin_name
    from dreamseed_cli.backup.verify import choose

    opened = chosen_settings(profile, store).open()
    entry = choose(read_catalog(opened), backup_id)
    opened.put(pin_name(entry.id), b"")
    return Result({"id": entry.id, "pinned": True}, [f"Pinned {entry.id}."])


@backup_app.command("unpin")
def unpin_backup(
    backup_id: IdArgument, profile: ProfileOption = None, store: StoreOption = None, as_json: JsonFlag = False
) -> Result:
    """Let retention decide about a backup again. Needs the key that may delete."""
    from dreamseed_cli.backup.catalog import read_catalog
    from dreamseed_cli.backup.names import pin_name
    from dreamseed_cli.backup.verify import choose

    opened = chosen_settings(profile, store).open("prune")
    entry = choose(read_catalog(opened), backup_id)
    if entry.manifest.pinned:
        raise UsageError("it was made with --pin, which stays", place=entry.id)
    opened.delete(pin_name(entry.id))
    return Result({"id": entry.id, "pinned": False}, [f"Unpinned {entry.id}."])


@backup_app.command("prune")
def prune(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would go, and why.")] = False,
    profile: ProfileOption = None,
    store: StoreOption = None,
    as_json: JsonFlag = False,
) -> Result:
    """Delete what no rule keeps. Never the newest or newest proven backup, a pin, or WAL that one needs."""
    from dreamseed_cli.backup.doors import utc_now
    from dreamseed_cli.backup.ending import ends_in_order
    from dreamseed_cli.backup.lock import only_one
    from dreamseed_cli.backup.prune import plan_pruning
    from dreamseed_cli.backup.prune import prune as delete
    from dreamseed_cli.backup.records import read_record
    from dreamseed_cli.backup.view import pruning_data, pruning_view

    settings = chosen_settings(profile, store)
    opened = settings.open("daily" if dry_run else "prune")
    with ends_in_order(), only_one(settings.home, "prune"):
        failed = read_record(settings.runs).last_failed
        pruning = plan_pruning(opened, settings.rules, utc_now(), last_run_failed=failed)
        pruned = None if dry_run else delete(opened, pruning)
    data = {**pruning_data(pruning, pruned), "done": not dry_run}
    return Result(data, pruning_view(pruning, pruned))


@backup_app.command("status")
def status(profile: ProfileOption = None, store: StoreOption = None, as_json: JsonFlag = False) -> Result:
    """Show what would be lost now, gaps in the WAL, the newest proven restore.

    Exit code 1: over the target, WAL that cannot be archived fills the disk, or contents of folders are lost.
    """
    from dreamseed_cli.backup.doors import Doors, utc_now
    from dreamseed_cli.backup.view import status_data, status_view

    settings = chosen_settings(profile, store)
    found = Doors(settings, lambda: "").status()
    data = status_data(found, settings.store_url, utc_now())
    return Result(data, status_view(found, settings.store_url), target_met=found.good)


def _kind(word: str) -> Kind:
    from dreamseed_cli.backup.names import Kind

    try:
        return Kind(word)
    except ValueError as error:
        raise UsageError(
            f"there is no kind '{word}'", place="--kind", remedy="Give logical or physical."
        ) from error


def _refuse_second() -> None:
    """Before all that a run needs is loaded, which takes longer than all the rest of a refusal."""
    import os

    from dreamseed_cli.backup.home import backup_home
    from dreamseed_cli.backup.lock import refuse_second

    refuse_second(backup_home(os.environ))


def _rehearse(doors: Doors, kind: Kind) -> Result:
    """Everything a run asks for before it reads a byte."""
    from dreamseed_cli.backup.progress import size_text

    ready = doors.rehearse(kind)
    keys = counted(len(ready.recipients), "key")
    said = [
        f"A {kind} backup of about {size_text(ready.expected_bytes)} would go to {doors.settings.store_url}.",
        f"Encrypted to {keys}; folders: {', '.join(ready.folders) or 'none'}.",
        f"Nothing was stored. Good backups there: {ready.backups}.",
    ]
    data = {
        "kind": kind.value,
        "store": doors.settings.store_url,
        "expected_bytes": ready.expected_bytes,
        "recipients": list(ready.recipients),
        "folders": list(ready.folders),
        "backups": ready.backups,
    }
    return Result(data, said)
