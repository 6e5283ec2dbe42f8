"""All processes that belong to one child, also those whose parent has died."""

from __future__ import annotations

import os
from collections.abc import Iterable

from dreamseed_cli.core.processes import ProcessIdentity, session_members


def living_family(
    leader: ProcessIdentity, known: Iterable[ProcessIdentity] = ()
) -> tuple[ProcessIdentity, ...]:
    """The living processes that are provably the child's.

    Proven are those whose pid and start time are on record, their descendants, and whoever shares the
    child's session with one of them: vLLM's EngineCore and Worker outlive a killed parent, and a
    session id is not given out again while one member lives.
    """
    proven = {member for member in (leader, *known) if member.alive()}
    family = {relative for member in proven for relative in member.family()}
    if any(_session(member) == leader.pid for member in family):
        family.update(session_members(leader.pid))
    return tuple(sorted(family, key=lambda member: (member.started, member.pid)))


def _session(member: ProcessIdentity) -> int | None:
    try:
        return os.getsid(member.pid)
    except ProcessLookupError:
        return None
