"""Work on a stack of one's own: what it waits for, how it is interrupted, and what its stack is made of."""

from __future__ import annotations

import asyncio
import io
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from stack_snapshots import stack_snapshot

from dreamseed_cli.core.errors import FailedError
from dreamseed_cli.core.paths import StateDir
from dreamseed_cli.core.result import Provenance
from dreamseed_cli.profile.load import load_profile
from dreamseed_cli.profile.resilience import Failover
from dreamseed_cli.profile.schema import Postgres, Redis, Services, Tls
from dreamseed_cli.supervisor import visit
from dreamseed_cli.supervisor.snapshot import (
    GatewaySnapshot,
    ReplicaSnapshot,
    ServiceSnapshot,
    StackSnapshot,
)
from dreamseed_cli.supervisor.visit import Host, own_profile


class _Session:
    """As much of a session as a viewer of one uses."""

    def __init__(self) -> None:
        self.calls: list[str] = []

    def end(self) -> None:
        self.calls.append("end")

    def listen(self) -> None:
        self.calls.append("listen")
        for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            asyncio.get_running_loop().remove_signal_handler(signum)


def _stack(states: Sequence[str] = ("ready",), *, address: str | None = "h:1", service: str = "ready") -> Any:
    return stack_snapshot(
        provenance=Provenance.SIMULATED,
        activity="waiting for r0",
        gateway=GatewaySnapshot("serving", address),
        replicas=tuple(
            ReplicaSnapshot(f"r{index}", state, "crash_loop", "it ended", 0.0, "unix:/s")
            for index, state in enumerate(states)
        ),
        services=(ServiceSnapshot("postgres", "embedded", service),),
    )


def _visit(work: Any, *, lets_finish: bool = False) -> tuple[Any, _Session, io.StringIO]:
    session, said = _Session(), io.StringIO()
    state = StateDir(Path("/state"))
    made: Any = visit._Visit(
        session,  # type: ignore[arg-type]
        state,
        work,
        Console(file=said),
        lets_finish=lets_finish,
    )
    return made, session, said


async def test_the_work_begins_when_everything_is_ready(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every replica, every service, and the gateway; what it waits for is told."""
    monkeypatch.setattr(visit, "_POLL_S", 0.0)
    moments = [
        _stack(("ready", "starting")),
        _stack(("ready", "ready"), service="starting"),
        _stack(("ready", "ready"), address=None),
        _stack(("ready", "ready")),
    ]

    def snapshots() -> StackSnapshot:
        found: StackSnapshot = moments.pop(0) if len(moments) > 1 else moments[0]
        return found

    async def work(host: Host) -> str:
        assert host.snapshots() is moments[0]
        assert len(moments) == 1
        return "done"

    made, session, said = _visit(work)
    await made(snapshots)
    assert made.outcome() == "done"
    assert session.calls == ["listen", "end"]
    assert "waiting for r0 ..." in said.getvalue()


@pytest.mark.parametrize("state", ["failed", "quarantined"])
async def test_a_replica_that_was_given_up_is_not_waited_for(state: str) -> None:
    """The error names it with its reason and its log; the session is ended."""

    async def work(_: Host) -> None:
        raise AssertionError

    made, session, _ = _visit(work)
    await made(lambda: _stack(("ready", state)))
    with pytest.raises(
        FailedError, match=r"r1 cannot be started \(crash_loop\): it ended.*/state/logs/r1.log"
    ):
        made.outcome()
    assert session.calls == ["end"]


async def _waits(_: Host) -> None:
    signal.raise_signal(signal.SIGINT)
    await asyncio.Event().wait()


async def _finishes(host: Host) -> str:
    signal.raise_signal(signal.SIGINT)
    await host.interrupted.wait()
    return "partial"


async def _goes_on(host: Host) -> None:
    await _finishes(host)
    await _waits(host)


@pytest.mark.parametrize(("work", "lets_finish"), [(_waits, False), (_finishes, False), (_goes_on, True)])
async def test_an_interrupt_cancels_the_work(work: Any, lets_finish: bool) -> None:
    """The first one, unless it was asked to let the work finish; then the second one."""
    made, session, _ = _visit(work, lets_finish=lets_finish)
    with pytest.raises(asyncio.CancelledError):
        await made(_stack)
    with pytest.raises(KeyboardInterrupt):
        made.outcome()
    assert session.calls == ["listen", "end"]


async def test_the_work_may_finish_after_an_interrupt() -> None:
    """With what it has until then."""
    made, session, _ = _visit(_finishes, lets_finish=True)
    await made(_stack)
    assert made.outcome() == "partial"
    assert session.calls == ["listen", "end"]


async def _hangs_up(host: Host) -> str:
    for _ in range(2):  # the shell's and the kernel's
        signal.raise_signal(signal.SIGHUP)
    await host.interrupted.wait()
    return "partial"


async def test_a_terminal_that_is_closed_lets_the_work_finish() -> None:
    """However often that is told."""
    made, _, _ = _visit(_hangs_up, lets_finish=True)
    await made(_stack)
    assert made.outcome() == "partial"


async def test_of_several_failures_one_cause_is_told() -> None:
    """And among ours and the stack's, a mistake of ours: it must not be hidden."""

    async def fails(error: Exception) -> None:
        raise error

    async def work(_: Host) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(fails(FailedError("cut")))
            group.create_task(fails(ZeroDivisionError()))

    made, _, _ = _visit(work)
    await made(_stack)
    with pytest.raises(ZeroDivisionError):
        made.outcome()


@pytest.mark.parametrize("services", [True, False])
def test_a_stack_of_ones_own_touches_nothing_of_others(services: bool) -> None:
    """Neither a port, nor external servers, nor help that costs money; the engines are the profile's."""
    profile = load_profile("rtx5090x3")
    gateway = {
        "host": "0.0.0.0",  # noqa: S104 - what must not be taken over
        "metrics_port": 9100,
        "security": profile.gateway.security.model_copy(update={"tls": Tls(certificate="c", key="k")}),
    }
    external = Services(postgres=Postgres(mode="external"), redis=Redis(mode="external", nodes=("a:1",)))
    theirs = profile.model_copy(
        update={
            "gateway": profile.gateway.model_copy(update=gateway),
            "services": external,
            "failover": Failover(urls=("https://elsewhere",)),
        }
    )
    own = own_profile(theirs, services=services)
    assert (own.gateway.host, own.gateway.port, own.gateway.metrics_port) == ("127.0.0.1", 0, None)
    assert (own.gateway.security.tls, own.failover.urls) == (None, ())
    modes = {own.services.postgres.mode, own.services.redis.mode, own.services.kafka.mode}
    assert modes == {"embedded" if services else "off"}
    assert own.engine == theirs.engine
    assert own.gateway.generation == theirs.gateway.generation
