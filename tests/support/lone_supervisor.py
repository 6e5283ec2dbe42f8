"""What a supervisor does for one emulated engine, without the rest of it, until it is killed.

argv: the state folder. The engine's pid goes to stdout once it is on record.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from dreamseed_cli.core.files import write_atomically
from dreamseed_cli.core.paths import StateDir
from dreamseed_cli.profile.load import load_profile
from dreamseed_cli.profile.schema import Postgres, Profile, Redis, Services
from dreamseed_cli.supervisor.child import Child
from dreamseed_cli.supervisor.stack import ReplicaPlan, plan_stack
from dreamseed_cli.supervisor.state import write_children


def profile(**engine: object) -> Profile:
    """One emulated engine without services."""
    base = load_profile("emulated-rtx5090x3")
    settings = {"replicas": 1, "shutdown_timeout_s": 1, **engine}
    services = Services(postgres=Postgres(mode="off"), redis=Redis(mode="off"))
    return base.model_copy(update={"engine": base.engine.model_copy(update=settings), "services": services})


def planned(state: StateDir, chosen: Profile) -> ReplicaPlan:
    """The plan of its only replica."""
    return plan_stack(chosen, state).replicas[0]


async def _supervise(state: StateDir) -> None:
    spec = planned(state, profile()).spec
    assert spec
    write_atomically(state.root / "engine.json", spec.config.encode())
    child = await Child.start(spec)
    await asyncio.to_thread(child.refresh)
    write_children(state, [child.record()])
    sys.stdout.write(f"{child.identity.pid}\n")
    sys.stdout.flush()
    await child.wait()


if __name__ == "__main__":
    asyncio.run(_supervise(StateDir(Path(sys.argv[1]))))
