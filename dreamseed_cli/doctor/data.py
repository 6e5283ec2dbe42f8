"""What keeps data safe: the store, its key and rights, the age of backups, the schedule."""

from __future__ import annotations

import getpass
from collections.abc import Iterator
from datetime import UTC, datetime

from dreamseed_cli.backup.keys import NoKey
from dreamseed_cli.backup.records import RunRecord, read_record
from dreamseed_cli.backup.schedule.due import late
from dreamseed_cli.backup.schedule.install import SYSTEM_UNITS, System, installed, lacks_look
from dreamseed_cli.backup.schedule.tick import daily_of, history_of, zone_of
from dreamseed_cli.backup.schedule.units import LOOK, NAME
from dreamseed_cli.backup.settings import Settings
from dreamseed_cli.backup.store.base import LIFECYCLE_REMEDY
from dreamseed_cli.core.counting import counted
from dreamseed_cli.core.paths import StateDir
from dreamseed_cli.deploy.catalog import COMMAND
from dreamseed_cli.doctor.finding import Finding, off, ok, problem, warning
from dreamseed_cli.drill.doors import alarm, standings
from dreamseed_cli.drill.history import Folder
from dreamseed_cli.profile.schema import Profile

_AREA = "backup"


def store(profile: Profile) -> Iterator[Finding]:
    """The key to encrypt to, and what the store lets us do."""
    settings = Settings(profile.backup)
    try:
        settings.recipients()
    except NoKey:
        yield _not_begun(profile)
        return
    rights = settings.open().rights()
    for rule in rights.expiry:
        yield warning(
            _AREA,
            "lifecycle",
            f"{settings.store_url}: {rule}, pinned and proven backups and the WAL they need too",
            LIFECYCLE_REMEDY,
        )
    lacking = [name for name in ("read", "write", "list") if getattr(rights, name) is False]
    if lacking:
        yield problem(
            _AREA,
            "store",
            f"{settings.store_url}: our key may not {', '.join(lacking)}",
            "docs/runbooks/backup.md: keys.",
        )
    elif rights.delete and not settings.store_url.startswith("local:"):
        yield warning(
            _AREA,
            "store",
            f"{settings.store_url}: the daily key may delete backups",
            "Give it one without deleteFiles; pruning uses another (docs/runbooks/backup.md).",
        )
    else:
        yield ok(_AREA, "store", settings.store_url)


def _not_begun(profile: Profile) -> Finding:
    """A box that was never meant to keep anything is not at fault; one with a store of its own is."""
    if profile.backup.store is None:
        return off(_AREA, "store", "no backups here (dreamseed backup init begins)")
    return problem(
        _AREA, "store", "no key to encrypt to", "dreamseed backup init, and keep the recovery key elsewhere."
    )


def drills(profile: Profile, state: StateDir) -> Iterator[Finding]:
    """Rehearsals that failed, missed a target, or are overdue: a backup that was never restored is a hope."""
    record = read_record(Settings(profile.backup).scheduled().runs)
    if record.since is None and profile.backup.store is None:
        yield off(_AREA, "drills", "nothing is scheduled here, so none is due")
        return
    folder = Folder.of(state)
    told = alarm(standings(folder, profile.drill, record.since, datetime.now(UTC)))
    broken = folder.read().errors
    if broken:
        said = "; ".join([*map(str, broken), *([told] if told else [])])
        yield warning(_AREA, "drills", said, "dreamseed drill history names each file.")
    elif told is None:
        yield ok(_AREA, "drills", "none is overdue, none failed")
    else:
        yield warning(_AREA, "drills", told, "dreamseed drill history, then dreamseed drill due.")


def schedule(profile: Profile) -> Iterator[Finding]:
    """Whether backups run by themselves, and how the last ended."""
    record = read_record(Settings(profile.backup).scheduled().runs)
    system = System.look()
    there = installed(system)
    if not there and profile.backup.store is None and not record.backup_id:
        yield off(_AREA, "schedule", "no backups here")
        return
    now = datetime.now(UTC)
    table = profile.backup.schedule
    daily = daily_of(table, zone_of(table.timezone))
    newest = f"the newest: {record.ended:%Y-%m-%d %H:%M} UTC" if record.ended else "none yet"
    if not there:
        yield problem(_AREA, "schedule", f"none; {newest}", _begin(system))
    elif record.last_failed:
        yield problem(
            _AREA,
            "schedule",
            f"failed {counted(record.failures_in_a_row, 'time')}: {record.error}",
            "dreamseed backup.",
        )
    elif record == RunRecord() and _of_another(profile):
        user = profile.deploy.host.user
        said = f"the system's timer, which runs as {user}: how it went is kept there"
        yield warning(_AREA, "schedule", said, f"Look as that user: {COMMAND} doctor (deploy render host).")
    elif late(daily, history_of(record), now):
        yield problem(_AREA, "schedule", f"late; {newest}", "dreamseed backup status, then dreamseed backup.")
    elif lacks_look(system):
        said = f"no {LOOK}.timer: nobody looks at lateness and the RPO while a backup runs or hangs; {newest}"
        yield warning(_AREA, "schedule", said, _begin(system, LOOK))
    else:
        yield ok(_AREA, "schedule", newest)


def _of_another(profile: Profile) -> bool:
    """Whether backups are the units' that `deploy` puts in place, and their user is not who looks."""
    return (SYSTEM_UNITS / f"{NAME}.timer").exists() and getpass.getuser() != profile.deploy.host.user


def _begin(system: System, name: str = NAME) -> str:
    """How to begin. name: of the timer that is not there.

    Root's `schedule install` would write over the units that `deploy` put into /etc.
    """
    if system.units == SYSTEM_UNITS and (SYSTEM_UNITS / f"{NAME}.service").exists():
        return f"dreamseed deploy render systemd --apply, then systemctl enable --now {name}.timer."
    return "dreamseed schedule install."
