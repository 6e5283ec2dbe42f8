"""Children of a supervisor that died: found by proof, ended before anything new is started.

Whether one is ended or adopted is decided elsewhere (`supervisor.takeover`).
"""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from dreamseed_cli.core.errors import FailedError, MissingError
from dreamseed_cli.core.paths import StateDir
from dreamseed_cli.core.processes import ProcessIdentity, end_all
from dreamseed_cli.supervisor.family import living_family
from dreamseed_cli.supervisor.state import ChildRecord, read_children, read_supervisor

_GRACE_S = 10.0
_DOCKER_TIMEOUT_S = 30.0


@dataclass(frozen=True, slots=True)
class Orphan:
    """A recorded child of which at least one proven process still lives."""

    record: ChildRecord
    members: tuple[ProcessIdentity, ...]

    def __str__(self) -> str:
        pids = ", ".join(str(member.pid) for member in self.members)
        return f"{self.record.name} (pid {pids})" if pids else f"{self.record.name} (container)"


def find_orphans(state: StateDir) -> list[Orphan]:
    """The recorded children that still live. Only meaningful while no supervisor runs here.

    A pid that another process has by now (another start time) is not among them.
    """
    found = [Orphan(record, living_family(record.leader, record.members)) for record in read_children(state)]
    return [orphan for orphan in found if orphan.members or orphan.record.container]


def left_by_killed(state: StateDir) -> MissingError | None:
    """What to tell of a supervisor that was killed and left something running; None if there is no such."""
    record = read_supervisor(state)
    orphans = [] if record is None or record.alive() else find_orphans(state)
    if record is None or not orphans:
        return None
    left = ", ".join(str(orphan) for orphan in orphans)
    return MissingError(
        f"the supervisor (pid {record.identity.pid}) was killed; still running: {left}",
        place=str(state.root),
        remedy="`dreamseed serve` goes on with those that are healthy, `dreamseed stop` ends them all.",
    )


def end_orphans(orphans: Sequence[Orphan], *, grace_s: float = _GRACE_S) -> None:
    """Ask, wait up to `grace_s`, SIGKILL. FailedError if one outlives even that. Blocks.

    Services go last: a gateway that ends in order hands them what it still has.
    """
    services = [orphan for orphan in orphans if orphan.record.role == "service"]
    others = [orphan for orphan in orphans if orphan.record.role != "service"]
    survivors = end_all([member for orphan in others for member in orphan.members], grace_s=grace_s)
    survivors += _end_services(services, grace_s)
    for orphan in orphans:
        if orphan.record.container:
            remove_container(orphan.record.container)
    if survivors:
        raise FailedError(
            f"processes of the last run do not end: pid {', '.join(str(s.pid) for s in survivors)}",
            remedy="They hang in the kernel, often in a GPU driver: see `ps -o pid,stat,wchan`; "
            "a reboot ends them.",
        )


def _end_services(orphans: Sequence[Orphan], grace_s: float) -> list[ProcessIdentity]:
    """Their leaders end their helpers in order, if only the leaders are asked, and with the right signal."""
    asked: dict[int, list[ProcessIdentity]] = {}
    for orphan in orphans:
        leaders = [member for member in orphan.members if member == orphan.record.leader]
        asked.setdefault(orphan.record.stop_signal, []).extend(leaders)
    for signum, leaders in asked.items():
        end_all(leaders, grace_s=grace_s, ask=signal.Signals(signum))
    return end_all([member for orphan in orphans for member in orphan.members], grace_s=1.0)


def remove_stale_sockets(state: StateDir, keep: Collection[Path] = ()) -> None:
    """Remove what dead processes left; only for the holder of the folder's lock.

    keep: the sockets of those that live.
    """
    for path in state.socket_dir.glob("*.sock"):
        if path not in keep:
            path.unlink(missing_ok=True)


def remove_container(name: str) -> None:
    """End and remove a container of ours, if it is there: it outlives a killed `docker run`. Blocks."""
    try:
        subprocess.run(
            ["docker", "rm", "--force", name],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_DOCKER_TIMEOUT_S,
            check=False,
        )
    except (FileNotFoundError, subprocess.TimeoutExpired):
        return
