"""The faults that can be rehearsed, by name."""

from __future__ import annotations

import signal
from dataclasses import dataclass
from typing import Literal

from dreamseed_cli.core.errors import UsageError
from dreamseed_cli.engine.emulated.faults import FaultOrder, Garbage, Hang, Refuse, Slow

Where = Literal["engine", "gateway", "supervisor"]


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault: what it does, and what a stack in order makes of it.

    signum: sent to every process of what it strikes. order: what the emulated engine is told. Without
    either it heals.
    """

    name: str
    does: str
    expect: str
    where: Where = "engine"
    signum: signal.Signals | None = None
    order: FaultOrder | None = None

    @property
    def heals(self) -> bool:
        """Whether it ends faults instead of making one."""
        return self.where == "engine" and self.signum is None and self.order is None


SUPERVISOR_CRASH = Fault(
    "supervisor-crash",
    "SIGKILL of the supervisor; by hand only",
    "nothing restarts it here: under systemd, systemd does",
    where="supervisor",
)
FAULTS = (
    Fault(
        "crash",
        "SIGKILL of the engine's processes",
        "restarted; its calls go on elsewhere",
        signum=signal.SIGKILL,
    ),
    Fault(
        "hang",
        "the engine says it is healthy and generates nothing",
        "ejected once a canary or a call shows it, and restarted",
        order=Hang(),
    ),
    Fault(
        "freeze",
        "SIGSTOP of the engine's processes: it does not even answer",
        "as after hang",
        signum=signal.SIGSTOP,
    ),
    Fault("slow", "every step takes ten times as long", "degraded: it gets less to do", order=Slow()),
    Fault("garbage", "bytes that are no answer in place of every answer", "ejected", order=Garbage()),
    Fault("refuse", "a 503 to every request", "calls go to the others", order=Refuse()),
    Fault(
        "gateway-crash",
        "SIGKILL of the gateway",
        "restarted; calls under way are cut",
        where="gateway",
        signum=signal.SIGKILL,
    ),
    SUPERVISOR_CRASH,
    Fault("heal", "ends hang, freeze, slow, garbage and refuse", "ready"),
)


def choose_fault(name: str | None) -> Fault:
    """The fault of that name. UsageError naming the known ones, or how to do by hand what is not done."""
    known = {fault.name: fault for fault in FAULTS}
    if name is None or name not in known:
        raise UsageError(
            "no fault was named" if name is None else f"there is no fault '{name}'",
            place="FAULT",
            remedy=f"Known are: {', '.join(known)}. See what they do with: dreamseed chaos --list.",
        )
    if known[name] is SUPERVISOR_CRASH:
        raise UsageError(
            "the supervisor is what watches the rehearsal and what would repair it: kill it by hand",
            place=name,
            remedy="`dreamseed status --json` shows its pid (data.pid): kill -9 it. Then `dreamseed status` "
            "says what still runs, and the next `dreamseed serve` takes care of that.",
        )
    return known[name]
