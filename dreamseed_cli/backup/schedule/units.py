"""The files that make the schedule run: systemd's unit and timer, or a line for cron. Pure text.

Both call `dreamseed schedule run` every five minutes, which does nothing unless a backup is due. So a machine
that was off at 03:00 makes up for it as soon as it is on, and neither a clock that skips 03:00 nor one that
passes it twice loses or doubles a run.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from typing import Final

NAME: Final = "dreamseed-backup"
BEGIN: Final = "# dreamseed backup: begin (written by dreamseed schedule install)"
END: Final = "# dreamseed backup: end"
EVERY_MIN: Final = 5


def service_unit(argv: Sequence[str], environment: Mapping[str, str]) -> str:
    """systemd.service(5). argv: the tick. environment: paths only; secrets come from environment_file."""
    lines = [f"Environment={_quoted(f'{name}={value}')}" for name, value in sorted(environment.items())]
    return "\n".join(
        [
            "[Unit]",
            "Description=Backup of dreamseed's database, if one is due",
            "Wants=network-online.target",
            "After=network-online.target",
            "",
            "[Service]",
            "Type=oneshot",
            # 5: another run is at work. 1: made, and something beside it failed, which was told of.
            "SuccessExitStatus=5",
            "Nice=10",
            "IOSchedulingClass=idle",
            "EnvironmentFile=-%E/dreamseed/backup.env",
            *lines,
            f"ExecStart={' '.join(_quoted(word) for word in argv)}",
            "",
        ]
    )


def timer_unit() -> str:
    """systemd.timer(5)."""
    return "\n".join(
        [
            "[Unit]",
            "Description=Looks every five minutes whether dreamseed's backup is due",
            "",
            "[Timer]",
            f"OnCalendar=*:0/{EVERY_MIN}",
            "AccuracySec=10s",
            "Persistent=true",
            "",
            "[Install]",
            "WantedBy=timers.target",
            "",
        ]
    )


def cron_block(argv: Sequence[str], environment: Mapping[str, str], log: str) -> str:
    """crontab(5): `%` ends a command there, so it is escaped. log: where output goes."""
    words = [*(f"{name}={shlex.quote(value)}" for name, value in sorted(environment.items()))]
    words += [shlex.quote(word) for word in argv]
    command = f"{' '.join(words)} >>{shlex.quote(log)} 2>&1".replace("%", r"\%")
    return f"{BEGIN}\n*/{EVERY_MIN} * * * * {command}\n{END}\n"


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


def _quoted(word: str) -> str:
    """systemd.syntax(7): in double quotes, with `%` and `$` doubled."""
    escaped = word.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%").replace("$", "$$")
    return f'"{escaped}"'
