"""What systemd is told of the supervisor (sd_notify(3)): ready, what it does, that it still makes progress.

Outside a unit of `Type=notify` there is nobody to tell, and nothing happens.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Mapping

from dreamseed_cli.supervisor.snapshot import StackSnapshot

MANAGER_VARIABLES = frozenset({"NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"})
"""Meant for this process alone: an engine that inherited them could call itself ready in our place."""


class Notifier:
    """Sends datagrams to the service manager's socket. None of its methods raises or waits.

    address: a path, or `@` and a name in Linux's abstract namespace; None or anything else: nobody listens.
    """

    def __init__(self, address: str | None) -> None:
        self._address: str | None = None
        if address and address[0] in "/@" and len(address) > 1:
            self._address = f"\0{address[1:]}" if address[0] == "@" else address

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> Notifier:
        """To whoever started this process."""
        return cls(environment.get("NOTIFY_SOCKET"))

    @property
    def active(self) -> bool:
        """Whether anybody listens."""
        return self._address is not None

    def ready(self) -> None:
        """It serves; after `reloading`: it is done with that."""
        self._send(f"READY=1\nMAINPID={os.getpid()}")

    def status(self, text: str) -> None:
        """One line for `systemctl status`."""
        self._send(f"STATUS={' '.join(text.split())}")

    def watchdog(self) -> None:
        """It still makes progress."""
        self._send("WATCHDOG=1")

    def reloading(self) -> None:
        """It reads its settings again; `ready` must follow."""
        # systemd 253 and later tell a new reload from a late word about an old one by this clock.
        self._send(f"RELOADING=1\nMONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}")

    def stopping(self) -> None:
        """It stops in order."""
        self._send("STOPPING=1")

    def _send(self, message: str) -> None:
        if self._address is None:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
                sender.setblocking(False)  # a manager that does not read must not stop us
                sender.sendto(message.encode(), self._address)
        except OSError:
            return


def watchdog_interval_s(environment: Mapping[str, str] = os.environ, pid: int | None = None) -> float | None:
    """How often systemd wants a sign of life: half of its patience. None: it does not wait for any.

    pid: this process, unless it is given.
    """
    meant_for = environment.get("WATCHDOG_PID", "")
    if meant_for and meant_for != str(os.getpid() if pid is None else pid):
        return None
    try:
        patience_us = int(environment.get("WATCHDOG_USEC", ""))
    except ValueError:
        return None
    return patience_us / 2e6 if patience_us > 0 else None


def status_line(snapshot: StackSnapshot) -> str:
    """The stack in one line: `serving: 2 of 3 replicas ready; without redis`. Pure."""
    serving = snapshot.gateway.state == "serving" and snapshot.ready > 0
    line = "serving" if serving else snapshot.activity
    if snapshot.replicas:
        line += f": {snapshot.ready} of {len(snapshot.replicas)} replicas ready"
    away = ", ".join(service.name for service in snapshot.services if service.away)
    return f"{line}; without {away}" if away else line


class Reports:
    """What a notifier tells of one stack: ready once a replica serves, and from then on with each tick of the
    supervisor that it is alive. No thread of its own: a loop that hangs must fall silent.
    """

    def __init__(self, notifier: Notifier, *, watchdog: bool) -> None:
        self._notifier = notifier
        self._watchdog = watchdog
        self._ready = False
        self._said = ""

    @classmethod
    def from_environment(cls) -> Reports:
        """To whoever started this process, if it wants to know."""
        return cls(Notifier.from_environment(), watchdog=watchdog_interval_s() is not None)

    def tick(self, snapshot: Callable[[], StackSnapshot]) -> None:
        """The supervisor has looked after everything once more."""
        if not self._notifier.active:
            return
        if self._watchdog:
            self._notifier.watchdog()
        now = snapshot()
        line = status_line(now)
        if line != self._said:
            self._said = line
            self._notifier.status(line)
        if not self._ready and now.gateway.state == "serving" and now.ready:
            self._ready = True
            self._notifier.ready()

    def reloading(self) -> None:
        """It begins to read its settings again."""
        if self._ready:
            self._notifier.reloading()

    def reloaded(self) -> None:
        """It is done with that, well or not."""
        if self._ready:
            self._notifier.ready()

    def stopping(self) -> None:
        """It stops in order."""
        self._notifier.stopping()
