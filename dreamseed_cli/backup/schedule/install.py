"""Puts the schedule where this system looks for it: systemd's user or system units, else the crontab."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from dreamseed_cli.backup.schedule.units import (
    BEGIN,
    NAME,
    cron_block,
    service_unit,
    timer_unit,
    with_block,
)
from dreamseed_cli.core.errors import FailedError, MissingError
from dreamseed_cli.core.files import write_atomically

Way = Literal["systemd", "cron"]
_WAIT_S = 30


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
        units = config / "systemd" / "user" if user else Path("/etc/systemd/system")
        systemd = Path("/run/systemd/system").is_dir() and shutil.which("systemctl") is not None
        return cls(units if systemd else None, shutil.which("crontab") is not None, user)

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


def install(system: System, argv: Sequence[str], environment: Mapping[str, str], log: Path) -> list[str]:
    """Put it in place, again if it is there. What was written, for people. FailedError, MissingError."""
    if system.way == "systemd" and system.units is not None:
        files = {
            system.units / f"{NAME}.service": service_unit(argv, environment),
            system.units / f"{NAME}.timer": timer_unit(),
        }
        for path, text in files.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(path, text.encode(), mode=0o644)
        _call([*_systemctl(system), "daemon-reload"])
        _call([*_systemctl(system), "enable", "--now", f"{NAME}.timer"])
        return [str(path) for path in files]
    log.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    _call(["crontab", "-"], with_block(_crontab(), cron_block(argv, environment, str(log))))
    return ["crontab"]


def remove(system: System) -> list[str]:
    """Take it away; fine if it is not there. What was removed."""
    if system.way == "systemd" and system.units is not None:
        paths = [system.units / f"{NAME}.{kind}" for kind in ("timer", "service")]
        there = [path for path in paths if path.exists()]
        if there:
            _call([*_systemctl(system), "disable", "--now", f"{NAME}.timer"])
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
    """Whether the schedule is in place here."""
    if system.units is not None:
        return (system.units / f"{NAME}.timer").exists()
    return system.cron and BEGIN in _crontab().splitlines()


def _systemctl(system: System) -> list[str]:
    return ["systemctl", "--user"] if system.user else ["systemctl"]


def _crontab() -> str:
    """The user's crontab; empty if there is none, which crontab tells with code 1."""
    done = subprocess.run(["crontab", "-l"], capture_output=True, text=True, timeout=_WAIT_S, check=False)
    if done.returncode != 0 and "no crontab" not in done.stderr:
        raise FailedError(f"exited with code {done.returncode}: {done.stderr.strip()}", place="crontab -l")
    return done.stdout if done.returncode == 0 else ""


def _call(argv: Sequence[str], stdin: str = "") -> None:
    try:
        done = subprocess.run(argv, input=stdin, capture_output=True, text=True, timeout=_WAIT_S, check=False)
    except subprocess.TimeoutExpired as error:
        raise FailedError(f"did not end within {_WAIT_S} s", place=" ".join(argv)) from error
    if done.returncode != 0:
        raise FailedError(f"exited with code {done.returncode}: {done.stderr.strip()}", place=" ".join(argv))
