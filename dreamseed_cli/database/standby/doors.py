"""From a profile to its two servers, and the loop that ends in order: for the commands."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable
from pathlib import Path

from dreamseed_cli.core.errors import UsageError
from dreamseed_cli.core.paths import StateDir
from dreamseed_cli.core.waiting import set_by_signals
from dreamseed_cli.database.address import resolve_dsn
from dreamseed_cli.database.standby.keep import Turn, keep
from dreamseed_cli.database.standby.pair import Pair
from dreamseed_cli.database.standby.service_file import ServiceFile
from dreamseed_cli.database.standby.watch import Watch
from dreamseed_cli.profile.schema import Postgres
from dreamseed_cli.profile.standby import Standby


def open_standby(postgres: Postgres, state: StateDir) -> tuple[Standby, Pair, ServiceFile]:
    """What the profile says. UsageError if it names no standby, MissingError if a variable is not set."""
    settings = postgres.standby
    if settings is None:
        raise UsageError(
            "this profile has no standby",
            place="services.postgres.standby",
            remedy="Name one: see docs/runbooks/db.md.",
        )
    primary, replica = (
        resolve_dsn(None, name) or "" for name in (settings.primary_dsn_env, settings.replica_dsn_env)
    )
    if primary == replica:
        raise UsageError("both are the same server", place=f"${settings.replica_dsn_env}", remedy="Mend it.")
    chosen = settings.service_file
    path = Path(chosen).expanduser() if chosen else state.root / "database.service"
    return settings, Pair(primary, replica), ServiceFile(path, settings.service)


async def watch_until_signalled(
    pair: Pair, file: ServiceFile, settings: Standby, tell: Callable[[Turn], None]
) -> tuple[Watch, signal.Signals]:
    """Watch until SIGINT or SIGTERM, whichever it was. What clients use stays as it is then."""
    stopping = asyncio.Event()
    came = set_by_signals(stopping)
    return await keep(pair, file, settings, stopping, tell), came[0]
