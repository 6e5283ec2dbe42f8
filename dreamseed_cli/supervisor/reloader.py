"""Reads the profile of a running stack again, and has taken what can be taken."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

from dreamseed_cli.core.errors import DreamseedError, FailedError
from dreamseed_cli.gateway.address import profile_listen_errors
from dreamseed_cli.plan.check import require_none, start_errors
from dreamseed_cli.profile.schema import Gateway, Profile
from dreamseed_cli.profile.select import Choice
from dreamseed_cli.supervisor.gateway_admin import GatewayAdmin
from dreamseed_cli.supervisor.reload import plan_reload, restart_command
from dreamseed_cli.supervisor.snapshot import ReloadOutcome


async def reload_profile(
    choice: Choice, running: Profile, admin_socket: Path | None, *, state_dir: str | None
) -> tuple[Profile, ReloadOutcome]:
    """The profile that runs from now on, and what came of it; the old one if the new one has a mistake, or
    if the gateway does not take it: it is told first, and everything else follows.

    admin_socket: the gateway's; None while there is none. state_dir: see `restart_command`.
    """
    now = time.time()
    try:
        new = await asyncio.to_thread(_read, choice)
        plan = plan_reload(running, new)
        if plan.profile.gateway != running.gateway:
            await _tell(admin_socket, plan.profile.gateway)
    except DreamseedError as error:
        return running, ReloadOutcome(now, errors=tuple(cause.to_data() for cause in error.causes()))
    restart = restart_command(choice.source, choice.gpus, state_dir) if plan.needs_restart else ""
    return plan.profile, ReloadOutcome(now, plan.taken, plan.needs_restart, restart)


def _read(choice: Choice) -> Profile:
    """As strict as a start: a profile that could not be started is not taken in part either."""
    profile = choice.read_again()
    require_none([*start_errors(profile), *profile_listen_errors(profile)])
    return profile


async def _tell(admin_socket: Path | None, gateway: Gateway) -> None:
    if admin_socket is None:
        raise FailedError(
            "the stack is still starting", place="gateway", remedy="Reload again when it serves."
        )
    admin = GatewayAdmin(admin_socket)
    try:
        await admin.set_settings(gateway)
    finally:
        await admin.close()
