"""PostgreSQL: its connections, and its settings against those that its box gives."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg

from dreamseed_cli.core.counting import counted
from dreamseed_cli.core.errors import DreamseedError
from dreamseed_cli.core.paths import StateDir
from dreamseed_cli.database.address import resolve_dsn
from dreamseed_cli.database.connection import connected
from dreamseed_cli.database.tuning.ask import box_of, differences, is_here
from dreamseed_cli.database.tuning.box import Box, Storage
from dreamseed_cli.doctor.finding import Finding, off, ok, warning
from dreamseed_cli.profile.schema import Profile
from dreamseed_cli.supervisor.running import gateway_settings, require_running

_AREA = "data"
_FEW_CONNECTIONS = 10


def database(profile: Profile, state: StateDir) -> Iterator[Finding]:
    """Of the running stack, or the external one of the profile."""
    dsn = _dsn(profile, state)
    if dsn is None:
        yield off(_AREA, "PostgreSQL", "no server runs here for this profile")
        return
    with connected(dsn) as connection:
        yield _connections(connection)
        yield _settings(connection, profile)


def _connections(connection: psycopg.Connection) -> Finding:
    """How many are left, and settings that wait for a restart."""
    row = connection.execute(
        "SELECT current_setting('server_version'), current_setting('max_connections')::int,"
        " (SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'),"
        " (SELECT count(*) FROM pg_settings WHERE pending_restart AND source <> 'command line')"
    ).fetchone()
    assert row is not None  # noqa: S101 - it has no condition
    version, most, used, pending = row
    said = f"{version}, {used} of {most} connections in use"
    if most - used < _FEW_CONNECTIONS:
        remedy = "See who holds them in pg_stat_activity; dreamseed db tune."
        return warning(_AREA, "PostgreSQL", said, remedy)
    if pending:
        said = f"{said}; {counted(pending, 'setting waits', 'settings wait')} for a restart"
        return warning(_AREA, "PostgreSQL", said, "Restart it when it suits.")
    return ok(_AREA, "PostgreSQL", said)


def _settings(connection: psycopg.Connection, profile: Profile) -> Finding:
    """Against what `db tune` derives from this machine, and `deploy render postgres` from the profile.

    The embedded one is small on purpose: there it is a note, not a warning.
    """
    name = "PostgreSQL settings"
    if not is_here(connection):
        return off(_AREA, name, "it runs on another machine: dreamseed db tune there")
    told = profile.deploy.database
    try:
        boxes = (
            box_of(connection),
            box_of(connection, told.memory_gib, told.cores, Storage(told.storage), told.connections),
        )
    except psycopg.errors.InsufficientPrivilege:
        connection.rollback()
        return off(_AREA, name, "this user may not read them all: dreamseed db tune as a superuser")
    count = len(set.intersection(*(_to_change(connection, box) for box in boxes)))
    if count == 0:
        return ok(_AREA, name, "as this box gives them")
    said = f"{count} differ from what this box gives"
    if profile.services.postgres.mode == "embedded":
        return ok(_AREA, name, f"{said} (dreamseed db tune)")
    return warning(_AREA, name, said, "dreamseed db tune shows which, and --apply sets them.")


def _to_change(connection: psycopg.Connection, box: Box) -> set[str]:
    return {one.derived.name for one in differences(connection, box) if one.appliable}


def _dsn(profile: Profile, state: StateDir) -> str | None:
    postgres = profile.services.postgres
    if postgres.mode == "external":
        return resolve_dsn(None, postgres.dsn_env)
    try:
        require_running(state)
    except DreamseedError:
        return None
    settings = gateway_settings(state)
    return settings.services.postgres_dsn if settings is not None and settings.services is not None else None
