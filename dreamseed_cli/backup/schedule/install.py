"""Puts the schedule where this system looks for it: systemd's user or system units, else the crontab."""

from __future__ import annotations

import getpass
import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from dreamseed_cli.backup.schedule.units import (
    BEGIN,
    DRILL,
    LOOK,
    LOOK_LIMIT,
    NAME,
    cron_block,
    service_unit,
    timer_unit,
    with_block,
)
from dreamseed_cli.core.errors import FailedError, MissingError
from dreamseed_cli.core.files import write_atomically

Way = Literal["systemd", "cron"]
SYSTEM_UNITS = Path("/etc/systemd/system")
_WAIT_S = 30.0
_BACKUP = ("--only", "backup")
_LOOK = ("--only", "look")


@dataclass(frozen=True, slots=True)
class System:
    """What this machine has. units: the folder of systemd's units; None: no systemd runs here.

    cron: whether crontab is there. user: units of a user need systemctl --user.
    """

    units: Path | None
    cron: bool
    user: bool

    @classmethod
    def look(cls, environment: Mapping[str, str] | None = None) -> System:
        """sd_booted(3), and systemctl and crontab on the PATH."""
        environment = os.environ if environment is None else environment
        user = os.geteuid() != 0
        config = Path(environment.get("XDG_CONFIG_HOME") or Path.home() / ".config")
        units = config / "systemd" / "user" if user else SYSTEM_UNITS
        systemd = Path("/run/systemd/system").is_dir() and shutil.which("systemctl") is not None
        return cls(units if systemd else None, shutil.which("crontab") is not None, user)

    def sleeps_when_logged_out(self, lingering: Path = Path("/var/lib/systemd/linger")) -> bool:
        """Whether the timer would only run while its user is logged in; loginctl(1), enable-linger."""
        return self.way == "systemd" and self.user and not (lingering / getpass.getuser()).exists()

    @property
    def way(self) -> Way:
        """MissingError where neither is there."""
        if self.units is not None:
            return "systemd"
        if self.cron:
            return "cron"
        raise MissingError(
            "neither systemd nor cron is here",
            remedy="Install cron, or run `dreamseed schedule run` every five minutes by other means.",
        )


def install(
    system: System,
    argv: Sequence[str],
    environment: Mapping[str, str],
    log: Path,
    drill: Sequence[str] = (),
) -> list[str]:
    """Put it in place, again if it is there. What was written, for people. FailedError, MissingError.

    argv: `schedule run`. drill: the rehearsal's command, which gets a timer of its own; empty: none.
    """
    if system.way == "systemd" and system.units is not None:
        look = "Look at dreamseed's backups: whether they are late, and what would be lost"
        files = {
            system.units / f"{NAME}.service": service_unit([*argv, *_BACKUP], environment),
            system.units / f"{NAME}.timer": timer_unit(),
            system.units / f"{LOOK}.service": service_unit([*argv, *_LOOK], environment, look, LOOK_LIMIT),
            system.units / f"{LOOK}.timer": timer_unit(what="look at backups"),
        }
        if drill:
            what = "Rehearsal of a disaster, if one is due"
            files[system.units / f"{DRILL}.service"] = service_unit(drill, environment, what)
            files[system.units / f"{DRILL}.timer"] = timer_unit("*:30", "rehearsal")
        for path, text in files.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(path, text.encode(), mode=0o644)
        _call([*_systemctl(system), "daemon-reload"])
        timers = [path.name for path in files if path.suffix == ".timer"]
        _call([*_systemctl(system), "enable", "--now", *timers])
        return [str(path) for path in files]
    log.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    _call(["crontab", "-"], with_block(_crontab(), cron_block(argv, environment, str(log), drill)))
    return ["crontab"]


def remove(system: System) -> list[str]:
    """Take it away; fine if it is not there, or nothing that could run it. What was removed."""
    if system.units is None and not system.cron:
        return []
    if system.way == "systemd" and system.units is not None:
        names = (NAME, LOOK, DRILL)
        paths = [system.units / f"{name}.{kind}" for name in names for kind in ("timer", "service")]
        there = [path for path in paths if path.exists()]
        timers = [path.name for path in there if path.suffix == ".timer"]
        if timers:
            _call([*_systemctl(system), "disable", "--now", *timers])
        for path in there:
            path.unlink()
        if there:
            _call([*_systemctl(system), "daemon-reload"])
        return [str(path) for path in there]
    before = _crontab()
    if BEGIN not in before.splitlines():
        return []
    _call(["crontab", "-"], with_block(before, ""))
    return ["crontab"]


def installed(system: System) -> bool:
    """Whether the schedule is in place here: by `schedule install`, or the system's by `deploy`."""
    if system.units is not None:
        return _timed(system.units, NAME)
    return system.cron and BEGIN in _crontab().splitlines()


def lacks_look(system: System) -> bool:
    """Whether the timers in place are an older version's, whose backups alone looked at lateness and the RPO:
    not while one took long or hung. cron's line looks beside a run.
    """
    return system.units is not None and _timed(system.units, NAME) and not _timed(system.units, LOOK)


def _timed(units: Path, name: str) -> bool:
    return any((folder / f"{name}.timer").exists() for folder in (units, SYSTEM_UNITS))


def _systemctl(system: System) -> list[str]:
    return ["systemctl", "--user"] if system.user else ["systemctl"]


def _crontab() -> str:
    """The user's crontab; empty if there is none, which crontab tells with code 1."""
    argv = ["crontab", "-l"]
    done = _run(argv)
    if done.returncode != 0 and "no crontab" not in done.stderr:
        raise _failed(argv, done)
    return done.stdout if done.returncode == 0 else ""


def _call(argv: Sequence[str], stdin: str = "") -> None:
    done = _run(argv, stdin)
    if done.returncode != 0:
        raise _failed(argv, done)


def _run(argv: Sequence[str], stdin: str = "") -> subprocess.CompletedProcess[str]:
    """In English: what crontab says is looked at."""
    environment = {**os.environ, "LC_ALL": "C"}
    try:
        return subprocess.run(
            argv, input=stdin, capture_output=True, text=True, timeout=_WAIT_S, check=False, env=environment
        )
    except subprocess.TimeoutExpired as error:
        raise FailedError(f"did not end within {_WAIT_S:g} s", place=" ".join(argv)) from error


def _failed(argv: Sequence[str], done: subprocess.CompletedProcess[str]) -> FailedError:
    return FailedError(f"exited with code {done.returncode}: {done.stderr.strip()}", place=" ".join(argv))
