"""Whether a server can take a restore: all that can be known before anything is changed."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from dreamseed_cli.backup.logical.mark import Got
from dreamseed_cli.backup.logical.server import Connection, connect, missing_extensions, read_server, value
from dreamseed_cli.backup.manifest import Manifest
from dreamseed_cli.core.errors import ErrorGroup, UsageError

_MAJOR: Final = 10_000

# Anything that somebody made there: relations, functions, large objects.
_EMPTY: Final = r"""
SELECT NOT EXISTS (SELECT FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE n.nspname !~ '^pg_' AND n.nspname <> 'information_schema')
    AND NOT EXISTS (SELECT FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
        WHERE n.nspname !~ '^pg_' AND n.nspname <> 'information_schema')
    AND NOT EXISTS (SELECT FROM pg_largeobject_metadata)
"""
_USERS: Final = (
    "SELECT count(*) FROM pg_stat_activity WHERE datname = %s AND pid <> pg_backend_pid()"
    " AND backend_type = 'client backend'"
)
_OTHERS: Final = f"{_USERS} AND application_name <> 'pg_restore'"
"""Whose session may outlive a restore that was killed, and is of no use any more."""


class TargetUnfit(UsageError):
    """The restore would fail or destroy something; nothing was changed."""

    kind = "target_unfit"


@dataclass(frozen=True, slots=True)
class Plan:
    """databases: names in the backup and in the target. globals: roles are restored too. replace: databases
    of the target that may be dropped. programs: pg_restore's version. marks: of databases of the target in
    which a restore of this backup was interrupted.
    """

    databases: Mapping[str, str]
    globals: bool
    replace: frozenset[str]
    programs: str
    marks: Mapping[str, Got] = field(default_factory=dict)


def check_target(connection: Connection, dsn: str, manifest: Manifest, plan: Plan) -> None:
    """TargetUnfit, or an ErrorGroup of them with every reason; ServerUnreachable.

    connection: to a database that is neither dropped nor made.
    """
    errors = [
        *_databases_in_backup(manifest, plan),
        *_server(connection, manifest, plan),
        *_room(connection, manifest, plan),
        *_occupied(connection, dsn, plan),
    ]
    if errors:
        raise errors[0] if len(errors) == 1 else ErrorGroup(errors)


def _databases_in_backup(manifest: Manifest, plan: Plan) -> Iterator[TargetUnfit]:
    for name in sorted(plan.databases.keys() - {database.name for database in manifest.databases}):
        yield TargetUnfit(
            "the backup holds no such database", place=name, remedy="dreamseed backup show lists them."
        )
    if len(set(plan.databases.values())) < len(plan.databases):
        yield TargetUnfit("two databases would get the same name", remedy="Give each a name of its own.")


def _server(connection: Connection, manifest: Manifest, plan: Plan) -> Iterator[TargetUnfit]:
    server = read_server(connection)
    needed = manifest.versions.server_version_num // _MAJOR
    if server.version_num // _MAJOR < needed:
        yield TargetUnfit(
            f"PostgreSQL {server.version} is older than the backup's {manifest.versions.server}",
            place="PostgreSQL",
            remedy=f"Restore into version {needed} or newer.",
        )
    if int(plan.programs.split(".")[0]) > server.version_num // _MAJOR:
        # A newer pg_restore sets parameters that an older server does not know.
        yield TargetUnfit(
            f"pg_restore {plan.programs} is newer than PostgreSQL {server.version}",
            place="pg_restore",
            remedy="Use the programs of the server's version.",
        )
    wanted = tuple(extension for extension in manifest.extensions if extension.database in plan.databases)
    for name in missing_extensions(connection, wanted):
        yield TargetUnfit("this extension is not installed", place=name, remedy="Install its package there.")
    absent = set() if plan.globals else set(manifest.roles) - set(server.roles)
    if absent:
        yield TargetUnfit(
            f"roles of the backup are not there: {', '.join(sorted(absent))}",
            place="PostgreSQL",
            remedy="Create them, or restore the roles too.",
        )


def _room(connection: Connection, manifest: Manifest, plan: Plan) -> Iterator[TargetUnfit]:
    """Only where the server's folder is on this host; elsewhere the server itself will say so."""
    folder = Path(str(value(connection, "SHOW data_directory")))
    if not folder.is_dir():
        return
    needed = sum(
        database.size
        for database in manifest.databases
        if database.name in plan.databases and plan.marks.get(plan.databases[database.name]) is not Got.FILLED
    )
    free = shutil.disk_usage(folder).free
    if free < needed:
        yield TargetUnfit(
            f"{free:,} bytes are free and about {needed:,} are needed", place=str(folder), remedy="Make room."
        )


def _occupied(connection: Connection, dsn: str, plan: Plan) -> Iterator[TargetUnfit]:
    there = {name for (name,) in connection.execute("SELECT datname FROM pg_database")}
    for name in sorted(there.intersection(plan.databases.values()) - plan.replace):
        got = plan.marks.get(name)
        if got is Got.FILLED:
            continue
        with connect(dsn, name) as database:
            empty = got is Got.BEGUN or value(database, _EMPTY)
            users = value(database, _OTHERS if got is Got.BEGUN else _USERS, (name,))
        if not empty:
            yield TargetUnfit(
                "this database is not empty",
                place=name,
                remedy="Restore under another name, or say that it may be replaced.",
            )
        elif users:
            yield TargetUnfit(
                f"{users} sessions are using this database",
                place=name,
                remedy="End them, or say that it may be replaced.",
            )
