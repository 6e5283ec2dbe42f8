"""Children that a killed supervisor left: which of them go on under a new one, and how they are watched."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass

import structlog

from dreamseed_cli.core.processes import ProcessIdentity
from dreamseed_cli.supervisor.child import UNKNOWN_EXIT, Child, ChildSpec
from dreamseed_cli.supervisor.family import living_family
from dreamseed_cli.supervisor.orphans import Orphan, end_orphans
from dreamseed_cli.supervisor.state import ChildRecord

log = structlog.get_logger("supervisor")


@dataclass(frozen=True, slots=True)
class Sighting:
    """What a recorded leader is found to be now.

    alive: it is that very process. leads: it leads a session of its own, as our children do. paused: a signal
    stopped it. watchable: this kernel tells us when it ends.
    """

    alive: bool
    leads: bool = True
    paused: bool = False
    watchable: bool = True


def look_at(leader: ProcessIdentity) -> Sighting:
    """Look at the process that a record names."""
    if not leader.alive():
        return Sighting(alive=False)
    try:
        leads = os.getsid(leader.pid) == leader.pid
        os.close(os.pidfd_open(leader.pid))
    except ProcessLookupError:
        return Sighting(alive=False)
    except OSError:
        return Sighting(alive=True, watchable=False)
    return Sighting(alive=leader.alive(), leads=leads, paused=leader.paused())


def adoptable(record: ChildRecord, spec: ChildSpec, seen: Sighting) -> str | None:
    """Why a recorded child cannot stand for the one that `spec` would start; None: it can. Pure.

    The record must be of this boot: `state.read_children` knows no others. Services are always started anew,
    which takes them a second: their preparation is a part of their start.
    """
    obstacles = (
        ("service" in {record.role, spec.role}, "services are started anew"),
        ((record.name, record.role) != (spec.name, spec.role), f"it is {record.name}, not {spec.name}"),
        (not seen.alive, "its process has ended"),
        (
            record.fingerprint != spec.fingerprint(),
            "it was started with other settings, or by another version",
        ),
        (not seen.leads, "it leads no session of its own"),
        (seen.paused, "a signal has stopped it"),
        (not seen.watchable, "this kernel does not tell when it ends (pidfd)"),
    )
    return next((reason for found, reason in obstacles if found), None)


class AdoptedChild(Child):
    """A process that another supervisor started. It is not our child, so its exit code is not ours to know.

    Watched and signalled through a pidfd, which means this very process even when its pid is given out again.
    """

    def __init__(self, spec: ChildSpec, record: ChildRecord, pidfd: int) -> None:
        """pidfd: of the record's leader, proven; closed at its end."""
        super().__init__(spec, record.leader, log_start=record.log_start, members=record.members)
        self._pidfd = pidfd
        self._over = asyncio.Event()
        asyncio.get_running_loop().add_reader(pidfd, self._ended)

    @classmethod
    def take(cls, spec: ChildSpec, record: ChildRecord) -> AdoptedChild | None:
        """Watch it from now on, inside a running event loop; None if it has just ended."""
        try:
            pidfd = os.pidfd_open(record.leader.pid)
        except OSError:
            return None
        # Proven after the descriptor is open: it cannot become another's any more.
        if not record.leader.alive():
            os.close(pidfd)
            return None
        return cls(spec, record, pidfd)

    @property
    def exit_code(self) -> int | None:
        """None while it runs, then UNKNOWN_EXIT."""
        return UNKNOWN_EXIT if self._over.is_set() else None

    async def wait(self) -> int:
        await self._over.wait()
        return UNKNOWN_EXIT

    def _send(self, signum: signal.Signals) -> None:
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._pidfd, signum)

    def _ended(self) -> None:
        asyncio.get_running_loop().remove_reader(self._pidfd)
        os.close(self._pidfd)
        self._over.set()


async def adopt_or_start(spec: ChildSpec, left: Mapping[str, ChildRecord]) -> Child:
    """Go on with the recorded child of this name if it provably is the same, else end it and start anew.

    left: the records of what a killed supervisor left, by name. Whether an adopted engine works shows as for
    any other: it has to generate a token. MissingError if the program to start is not there.
    """
    record = left.get(spec.name)
    if record is not None:
        reason = adoptable(record, spec, await asyncio.to_thread(look_at, record.leader))
        adopted = AdoptedChild.take(spec, record) if reason is None else None
        if adopted is not None:
            log.info("adopted", child=spec.name, pid=record.leader.pid)
            return adopted
        await _end(record, reason or "its process has ended")
    return await Child.start(spec)


def records_of(children: Iterable[Child], left: Mapping[str, ChildRecord]) -> list[ChildRecord]:
    """What `children.json` must say: every child, and what is left and has not been adopted yet, so that it
    stays known whenever this supervisor is killed.
    """
    records = [child.record() for child in children]
    names = {record.name for record in records}
    return [*records, *(record for name, record in left.items() if name not in names)]


async def _end(record: ChildRecord, reason: str) -> None:
    members = await asyncio.to_thread(living_family, record.leader, record.members)
    if members or record.container:
        log.warning("not_adopted", child=record.name, cause=reason)
        await asyncio.to_thread(end_orphans, [Orphan(record, members)])
