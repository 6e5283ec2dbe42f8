"""What a changed profile means for a stack that runs: what it takes now, and what needs a restart. Pure."""

from __future__ import annotations

import shlex
import time
from collections.abc import Sequence
from dataclasses import dataclass

from dreamseed_cli.profile.difference import SettingChange, differences
from dreamseed_cli.profile.live import with_live
from dreamseed_cli.profile.schema import Profile
from dreamseed_cli.supervisor.snapshot import ReloadOutcome


@dataclass(frozen=True, slots=True)
class ReloadPlan:
    """profile: what runs after it: the old one with what is taken. Together the two lists hold every field
    that differs between what runs and the new profile.
    """

    profile: Profile
    taken: tuple[SettingChange, ...]
    needs_restart: tuple[SettingChange, ...]


def plan_reload(old: Profile, new: Profile) -> ReloadPlan:
    """What follows when `new` is read while `old` runs."""
    running = with_live(old, new)
    return ReloadPlan(running, differences(old, running), differences(running, new))


def restart_command(source: str, gpus: int | None, state_dir: str | None) -> str:
    """What takes a whole profile. state_dir: None for the user's own."""
    where = ["--state-dir", state_dir] if state_dir is not None else []
    cards = [] if gpus is None else ["--gpus", str(gpus)]
    stop = shlex.join(["dreamseed", "stop", *where])
    return f"{stop} && {shlex.join(['dreamseed', 'serve', '--profile', source, *cards, *where])}"


def reload_note(outcome: ReloadOutcome) -> str:
    """A reload in one line, for the snapshot's notes."""
    at = time.strftime("%H:%M:%S", time.localtime(outcome.at))
    if outcome.errors:
        causes = "; ".join(f"{error['place']}: {error['cause']}" for error in outcome.errors)
        return f"The reload at {at} changed nothing: {causes}."
    if not outcome.taken and not outcome.needs_restart:
        return f"The reload at {at} found nothing new."
    parts = []
    if outcome.taken:
        parts.append(f"took {_paths(outcome.taken)}")
    if outcome.needs_restart:
        parts.append(f"needs a restart for {_paths(outcome.needs_restart)}")
    return f"The reload at {at} {' and '.join(parts)}."


def _paths(changes: Sequence[SettingChange]) -> str:
    return ", ".join(change.path for change in changes)
