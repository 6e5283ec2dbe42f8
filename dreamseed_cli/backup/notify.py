"""Tells somebody that backups failed, are late, or lose too much, and that it is over: once for each.

A hook that fails changes nothing of the run; it is reported beside it, and told again with the next tick.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import Final

from dreamseed_cli.core.errors import DreamseedError, FailedError, MissingError, UsageError

_REST = 300
COMMAND: Final = "command"
WEBHOOK: Final = "webhook"


class Alarm(StrEnum):
    """What somebody is told of."""

    FAILED = "failed"
    """A run failed, or something after its backup did."""
    LATE = "late"
    """No backup was made since the last scheduled hour, with the time it may take."""
    RPO = "rpo"
    """More work than the target would be lost now."""
    WAL = "wal"
    """WAL that cannot be archived fills the database's disk, or waits for longer than the RPO's target."""
    BLIND = "blind"
    """For longer than the RPO's target nobody could see what would be lost."""
    DRILL = "drill"
    """A rehearsal failed, missed a target, or is overdue."""


@dataclass(frozen=True, slots=True)
class Message:
    """kind: an alarm, or one with `-over` at its end. text: for people. at: ISO 8601, UTC."""

    kind: str
    text: str
    host: str
    at: str

    @classmethod
    def of(cls, kind: str, text: str, host: str, now: datetime) -> Message:
        return cls(kind, text, host, now.isoformat(timespec="seconds"))

    @property
    def subject(self) -> str:
        return f"dreamseed backup on {self.host}: {self.text}"


@dataclass(frozen=True, slots=True)
class Hooks:
    """command: an argument list, empty for none. webhook_env: where its address is, None for none."""

    command: tuple[str, ...] = ()
    webhook_env: str | None = None
    timeout_s: float = 20.0

    def only(self, way: str) -> Hooks:
        """Without the others."""
        return replace(
            self,
            command=self.command if way == COMMAND else (),
            webhook_env=self.webhook_env if way == WEBHOOK else None,
        )

    @property
    def ways(self) -> tuple[str, ...]:
        """The names of those there are."""
        return tuple(way for way, there in ((COMMAND, self.command), (WEBHOOK, self.webhook_env)) if there)


_OVER: Mapping[Alarm, str] = {
    Alarm.FAILED: "backups work again",
    Alarm.LATE: "a backup was made, late",
    Alarm.RPO: "what would be lost is within its target again",
    Alarm.WAL: "WAL is archived again",
    Alarm.BLIND: "what would be lost can be seen again",
    Alarm.DRILL: "the rehearsals are in order again",
}


def changes(known: tuple[str, ...], found: Mapping[Alarm, str | None]) -> list[tuple[str, str]]:
    """What is to be told now: kind and text of alarms that are new, and of known ones that are over. Pure.

    found: what is wrong, None where it is fine; what was not looked at stays out of it.
    """
    told: list[tuple[str, str]] = []
    for alarm, text in found.items():
        if text is not None and alarm not in known:
            told.append((str(alarm), text))
        if text is None and alarm in known:
            told.append((f"{alarm}-over", _OVER[alarm]))
    return told


def still_known(known: tuple[str, ...], found: Mapping[Alarm, str | None]) -> tuple[str, ...]:
    """The alarms that are not over after this. Pure."""
    wrong = {str(alarm) for alarm, text in found.items() if text is not None}
    fine = {str(alarm) for alarm, text in found.items() if text is None}
    return tuple(sorted((set(known) | wrong) - fine))


def tell(
    hooks: Hooks, message: Message, environment: Mapping[str, str] | None = None
) -> list[DreamseedError]:
    """Run every hook there is; what went wrong with them. Takes two timeouts at most."""
    environment = os.environ if environment is None else environment
    ways: list[Callable[[], None]] = []
    if hooks.command:
        ways.append(lambda: _run(hooks.command, message, hooks.timeout_s, environment))
    if hooks.webhook_env:
        variable = hooks.webhook_env
        ways.append(lambda: _post(variable, message, hooks.timeout_s, environment))
    errors: list[DreamseedError] = []
    for way in ways:
        try:
            way()
        except DreamseedError as error:
            errors.append(error)
    return errors


def _run(argv: tuple[str, ...], message: Message, timeout_s: float, environment: Mapping[str, str]) -> None:
    """The text on its stdin; kind and subject in its environment, for a mail program's arguments."""
    own = {"DREAMSEED_ALARM": message.kind, "DREAMSEED_SUBJECT": message.subject}
    place = "backup.notify.command"
    try:
        process = subprocess.Popen(
            argv,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            env={**environment, **own},
            start_new_session=True,
        )
    except OSError as error:
        raise FailedError(
            f"cannot be run: {error.strerror}", place=place, remedy="Mend the command."
        ) from error
    try:
        _, stderr = process.communicate(f"{message.subject}\n\n{message.at}\n".encode(), timeout_s)
    except subprocess.TimeoutExpired as error:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        raise FailedError(f"did not end within {timeout_s:g} s", place=place) from error
    if process.returncode != 0:
        said = stderr.decode(errors="replace").strip()[-_REST:]
        raise FailedError(f"exited with code {process.returncode}: {said}", place=place)


def _post(variable: str, message: Message, timeout_s: float, environment: Mapping[str, str]) -> None:
    """POST it as JSON, with `text` for chat services. The address is a secret and never shown."""
    place = f"${variable}"
    address = environment.get(variable)
    if not address:
        raise MissingError("the webhook's address is not set", place=place, remedy=f"Set {variable}.")
    if not address.startswith(("https://", "http://")):
        raise UsageError("not an HTTP address", place=place, remedy="Write https://...")
    body = json.dumps({**asdict(message), "text": message.subject}).encode()
    request = urllib.request.Request(  # noqa: S310 (the scheme was checked)
        address, data=body, headers={"content-type": "application/json"}, method="POST"
    )
    try:
        with urllib.request.urlopen(request, timeout=timeout_s):  # noqa: S310
            return
    except urllib.error.HTTPError as error:
        error.close()
        raise FailedError(f"the webhook answered {error.code}", place=place) from error
    except (OSError, ValueError) as error:
        raise FailedError("the webhook does not answer", place=place) from error
