"""A snapshot as people see it."""

from __future__ import annotations

from dataclasses import replace

import pytest
from rich.console import Console
from rich.spinner import Spinner

from dreamseed_cli.core.result import Provenance
from dreamseed_cli.supervisor.snapshot import GatewaySnapshot, ReplicaSnapshot, ServiceSnapshot, StackSnapshot
from dreamseed_cli.supervisor.view import clock, stack_view

_READY = ReplicaSnapshot(
    "r0", "ready", "answered", "", 1000.0, "unix:/r0", 7, (0,), 3, 1, 1234.5, 0.25, finished=9, failed=2
)
_STACK = StackSnapshot(
    profile="laptop",
    why="NVML sees no card",
    served_name="small",
    provenance=Provenance.MEASURED,
    pid=42,
    started_at=1000.0,
    taken_at=1090.0,
    activity="serving",
    gateway=GatewaySnapshot("serving", "127.0.0.1:50051", 8),
    replicas=(_READY,),
)


def _text(stack: StackSnapshot, spinner: Spinner | None = None) -> str:
    console = Console(width=120)
    with console.capture() as shown:
        console.print(stack_view(stack, spinner=spinner))
    return shown.get()


def test_who_runs_the_stack_sees_how_it_ends() -> None:
    """At the foot of the live view; `status`, which ends nothing, does not say so."""
    assert "Ctrl-C drains and stops it" in _text(_STACK, Spinner("dots")).splitlines()[-1]
    assert "Ctrl-C" not in _text(_STACK)


def test_a_serving_stack_shows_where_and_how_it_does() -> None:
    """Address, model, why this profile, and each replica's load with its provenance."""
    text = _text(_STACK)
    for word in ("127.0.0.1:50051", "small", "NVML sees no card", "1m30s", "1,234", "25%", "measured"):
        assert word in text
    assert "imulated" not in text.lower()


def test_a_simulated_stack_says_so_in_its_title() -> None:
    """Nobody takes an emulated figure for a measured one."""
    text = _text(replace(_STACK, provenance=Provenance.SIMULATED))
    assert "SIMULATED" in text.splitlines()[0]
    assert "measured" not in text


def test_a_starting_replica_shows_its_last_log_line() -> None:
    """The operator sees progress; what is unknown is a dash, not a zero."""
    starting = ReplicaSnapshot(
        "r0", "starting", "launched", "", 1080.0, "u", last_log="[weights] loading 3/7"
    )
    text = _text(replace(_STACK, replicas=(starting,)))
    assert "[weights] loading 3/7" in text
    assert "10s" in text
    assert "-" in next(line for line in text.splitlines() if "starting" in line)


def test_a_failed_replica_says_why() -> None:
    """The cause stands under the table, word by word."""
    failed = replace(
        _READY, state="failed", reason="exited", detail="exited with code 1; its last lines:\n  oom"
    )
    text = _text(replace(_STACK, replicas=(failed,), notes=("Ended what a killed run had left: r0.",)))
    assert "r0 exited: exited with code 1" in text
    assert "oom" in text
    assert "killed run" in text


def test_services_say_what_is_missing_without_them() -> None:
    """A ready one is a line; one that is away, its cause and its consequence as well."""
    ready = ServiceSnapshot("postgres", "embedded", "ready", "answered", since=1030.0, endpoint="unix:/s/run")
    away = ServiceSnapshot(
        "valkey-1",
        "embedded",
        "restarting",
        "exited",
        "was killed by signal 9 without a word",
        "a third of the answer cache is away",
        since=1088.0,
    )
    outbox = ServiceSnapshot("kafka", "embedded", "outbox", means="events stay in the outbox")
    text = _text(replace(_STACK, services=(ready, away, outbox)))
    line = next(line for line in text.splitlines() if "unix:/s/run" in line)
    assert "1m00s" in line
    for words in (
        "valkey-1 exited: was killed by signal 9",
        "a third of the answer cache",
        "stay in the out",
    ):
        assert words in text
    assert [service.away for service in (ready, away, outbox)] == [False, True, False]


@pytest.mark.parametrize(("seconds", "text"), [(-1, "0s"), (59.9, "59s"), (187, "3m07s"), (7500, "2h05m")])
def test_durations_as_people_read_them(seconds: float, text: str) -> None:
    """Two units at most."""
    assert clock(seconds) == text
