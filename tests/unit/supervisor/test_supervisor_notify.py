"""What systemd is told, against a real datagram socket."""

from __future__ import annotations

import os
import socket
import time
import uuid
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from stack_snapshots import stack_snapshot

from dreamseed_cli.core.result import Provenance
from dreamseed_cli.supervisor.child import child_environment
from dreamseed_cli.supervisor.notify import Notifier, Reports, status_line, watchdog_interval_s
from dreamseed_cli.supervisor.snapshot import (
    GatewaySnapshot,
    ReplicaSnapshot,
    ServiceSnapshot,
    StackSnapshot,
)


class Manager:
    """The service manager's end."""

    def __init__(self, address: str) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(address)
        self.socket.settimeout(5)

    def said(self) -> list[str]:
        """The lines of the next message."""
        return self.socket.recv(4096).decode().split("\n")

    def silent(self) -> bool:
        """Whether nothing more has come."""
        self.socket.setblocking(False)
        try:
            self.socket.recv(4096)
        except BlockingIOError:
            return True
        finally:
            self.socket.settimeout(5)
        return False


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[Manager]:
    """A manager that listens in the file system."""
    listening = Manager(str(tmp_path / "n"))
    yield listening
    listening.socket.close()


def _snapshot(*states: str, gateway: str = "serving", activity: str = "serving") -> StackSnapshot:
    return stack_snapshot(
        provenance=Provenance.SIMULATED,
        activity=activity,
        gateway=GatewaySnapshot(gateway),
        replicas=tuple(
            ReplicaSnapshot(f"r{index}", state, "", "", 0.0, "unix:/x") for index, state in enumerate(states)
        ),
    )


def test_each_word_of_the_protocol(manager: Manager, tmp_path: Path) -> None:
    """The messages of sd_notify(3); a status stays on one line."""
    notifier = Notifier.from_environment({"NOTIFY_SOCKET": str(tmp_path / "n")})
    notifier.ready()
    assert manager.said() == ["READY=1", f"MAINPID={os.getpid()}"]
    notifier.status("two\nlines")
    assert manager.said() == ["STATUS=two lines"]
    notifier.watchdog()
    assert manager.said() == ["WATCHDOG=1"]
    notifier.stopping()
    assert manager.said() == ["STOPPING=1"]
    before = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
    notifier.reloading()
    first, clock = manager.said()
    assert first == "RELOADING=1"
    assert before <= int(clock.removeprefix("MONOTONIC_USEC=")) <= before + 5_000_000


def test_a_socket_in_the_abstract_namespace() -> None:
    """Written with @ in the environment, with NUL for the kernel."""
    name = f"ds-{uuid.uuid4().hex}"
    listening = Manager(f"\0{name}")
    Notifier(f"@{name}").watchdog()
    assert listening.said() == ["WATCHDOG=1"]
    listening.socket.close()


@pytest.mark.parametrize("address", [None, "", "/", "@", "vsock:2:1", "/no/such/socket"])
def test_without_a_manager_nothing_happens(address: str | None) -> None:
    """No address, one we cannot speak to, one that is gone: it never raises."""
    Notifier(address).ready()


def test_a_manager_that_does_not_read_is_not_waited_for(manager: Manager, tmp_path: Path) -> None:
    """Its queue is full: the words are lost, the supervisor goes on."""
    notifier = Notifier(str(tmp_path / "n"))
    began = time.monotonic()
    for _ in range(2000):
        notifier.watchdog()
    assert time.monotonic() - began < 60
    assert manager.said() == ["WATCHDOG=1"]


@pytest.mark.parametrize(
    ("environment", "interval_s"),
    [
        ({}, None),
        ({"WATCHDOG_USEC": "30000000"}, 15.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "7"}, 15.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "8"}, None),
        ({"WATCHDOG_USEC": "soon", "WATCHDOG_PID": "7"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
    ],
)
def test_half_of_the_managers_patience(environment: dict[str, str], interval_s: float | None) -> None:
    """None where nobody waits for us, or for another process."""
    assert watchdog_interval_s(environment, pid=7) == interval_s


def test_children_do_not_inherit_it() -> None:
    """An engine must neither call itself ready nor be waited for in our place."""
    ours = {"PATH": "/bin", "NOTIFY_SOCKET": "/n", "WATCHDOG_USEC": "1", "WATCHDOG_PID": "2", "A": "ours"}
    assert child_environment(ours, {"A": "own"}) == {"PATH": "/bin", "A": "own"}


def test_the_status_in_one_line() -> None:
    """What it does, how many serve, what is missing."""
    assert status_line(_snapshot("ready", "starting", "ready")) == "serving: 2 of 3 replicas ready"
    waiting = _snapshot("starting", activity="waiting for r0")
    assert status_line(waiting) == "waiting for r0: 0 of 1 replicas ready"
    assert status_line(_snapshot(gateway="waiting", activity="checking")) == "checking"
    away = (ServiceSnapshot("postgres", "embedded", "hung"), ServiceSnapshot("redis", "off", "off"))
    assert status_line(replace(_snapshot("ready"), services=away)) == (
        "serving: 1 of 1 replicas ready; without postgres"
    )


def test_ready_once_and_a_sign_of_life_with_every_tick(manager: Manager, tmp_path: Path) -> None:
    """Ready only when a replica serves; the status when it changes; nothing of its own accord."""
    reports = Reports(Notifier(str(tmp_path / "n")), watchdog=True)
    reports.reloading()  # before it was ready: systemd would not know what to make of it
    assert manager.silent()
    reports.tick(lambda: _snapshot("starting", activity="waiting"))
    assert [manager.said()[0] for _ in range(2)] == ["WATCHDOG=1", "STATUS=waiting: 0 of 1 replicas ready"]
    reports.tick(lambda: _snapshot("ready"))
    said = [manager.said()[0] for _ in range(3)]
    assert said == ["WATCHDOG=1", "STATUS=serving: 1 of 1 replicas ready", "READY=1"]
    reports.tick(lambda: _snapshot("ready"))
    assert manager.said() == ["WATCHDOG=1"]
    reports.reloading()
    reports.reloaded()
    assert [manager.said()[0] for _ in range(2)] == ["RELOADING=1", "READY=1"]
    assert manager.silent()
