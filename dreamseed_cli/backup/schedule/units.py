"""The files that make the schedule run: systemd's unit and timer, or a line for cron. Pure text.

Both call `dreamseed schedule run` every five minutes, which makes no backup unless one is due. So a machine
that was off at 03:00 makes up for it as soon as it is on, and neither a clock that skips 03:00 nor one that
passes it twice loses or doubles a run. cron calls it again beside one that still runs, which then only looks;
systemd does not, so looking has a unit of its own there.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from typing import Final

NAME: Final = "dreamseed-backup"
LOOK: Final = "dreamseed-look"
"""A unit of its own: a backup takes long, or hangs, and no look at lateness and the RPO may wait for it."""
LOOK_LIMIT: Final = "30min"
"""More than a store's calls are tried for, which a look then tells of; what hangs longer makes way."""
DRILL: Final = "dreamseed-drill"
"""A unit of its own: a rehearsal takes long, and no look at the RPO may wait for it."""
BEGIN: Final = "# dreamseed backup: begin (written by dreamseed schedule install)"
END: Final = "# dreamseed backup: end"
EVERY_MIN: Final = 5
_TIMED: Final = """while IFS= read -r line; do printf '%s %s\\n' "$(date -u +%FT%TZ)" "$line"; done"""
"""Puts the moment before every line, as systemd's journal does by itself."""


def service_unit(
    argv: Sequence[str],
    environment: Mapping[str, str],
    what: str = "Backup of dreamseed's database, if one is due",
    limit: str = "infinity",
) -> str:
    """systemd.service(5). argv: the tick. environment: paths only; secrets come from environment_file.

    limit: systemd ends what takes longer.
    """
    lines = [f"Environment={_quoted(f'{name}={value}')}" for name, value in sorted(environment.items())]
    return "\n".join(
        [
            "[Unit]",
            f"Description={what}",
            "Wants=network-online.target",
            "After=network-online.target",
            "",
            "[Service]",
            "Type=oneshot",
            # 5: another run is at work. 1: made, and something beside it failed, which was told of.
            "SuccessExitStatus=5",
            f"TimeoutStartSec={limit}",
            "Nice=10",
            "IOSchedulingClass=idle",
            "EnvironmentFile=-%E/dreamseed/backup.env",
            *lines,
            f"ExecStart={' '.join([_quoted(argv[0]), *(_argument(word) for word in argv[1:])])}",
            "",
        ]
    )


def timer_unit(calendar: str = f"*:0/{EVERY_MIN}", what: str = "backup") -> str:
    """systemd.timer(5)."""
    return "\n".join(
        [
            "[Unit]",
            f"Description=Times dreamseed's {what}",
            "",
            "[Timer]",
            f"OnCalendar={calendar}",
            "AccuracySec=10s",
            "Persistent=true",
            "",
            "[Install]",
            "WantedBy=timers.target",
            "",
        ]
    )


def cron_block(
    argv: Sequence[str], environment: Mapping[str, str], log: str, drill: Sequence[str] = ()
) -> str:
    """crontab(5): `%` ends a command there, so it is escaped. log: where output goes, each line with its
    moment in UTC. drill: the rehearsal, asked for at half past every hour.
    """
    lines = [f"*/{EVERY_MIN} * * * * {_cron_command(argv, environment, log)}"]
    lines += [f"30 * * * * {_cron_command(drill, environment, log)}"] if drill else []
    return "".join(f"{line}\n" for line in (BEGIN, *lines, END))


def with_block(crontab: str, block: str) -> str:
    """A crontab with our block in the place of an older one of ours; everything else stays as it is.

    block: empty removes ours.
    """
    kept: list[str] = []
    inside = False
    for line in crontab.splitlines():
        if line == BEGIN:
            inside = True
        if not inside:
            kept.append(line)
        if line == END:
            inside = False
    text = "".join(f"{line}\n" for line in kept)
    return text + block


def _cron_command(argv: Sequence[str], environment: Mapping[str, str], log: str) -> str:
    words = [*(f"{name}={shlex.quote(value)}" for name, value in sorted(environment.items()))]
    words += [shlex.quote(word) for word in argv]
    return f"{' '.join(words)} 2>&1 | {_TIMED} >>{shlex.quote(log)}".replace("%", r"\%")


def _quoted(word: str) -> str:
    """systemd.syntax(7): in double quotes, `%` doubled."""
    escaped = word.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%")
    return f'"{escaped}"'


def _argument(word: str) -> str:
    """systemd.service(5): variables are replaced in a program's arguments, not in its path."""
    return _quoted(word).replace("$", "$$")
