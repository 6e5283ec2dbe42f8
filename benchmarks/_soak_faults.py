"""The faults of a soak: which of them may come when, and how each is done to a stack."""

from __future__ import annotations

import asyncio
import random
import signal
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import aiohttp

from benchmarks._fire import Stack
from dreamseed_cli.core.errors import UsageError
from dreamseed_cli.supervisor.control import begin_restart
from dreamseed_cli.supervisor.reload_request import request_reload
from dreamseed_cli.supervisor.snapshot import StackSnapshot

_MOST_VICTIMS = 2
"""Of three: one engine stays well, since with none nobody could be answered in time."""
_SLOW_S = 6.0
_DRAIN_S = ("drain_timeout_s = 10.0", "drain_timeout_s = 9.0")


@dataclass(frozen=True, slots=True)
class Kind:
    """strikes: an engine, which is then a victim until it is ready again; else the stack as a whole.

    often: its share among all. rest_s: from one to the next of its kind. unnoticed: nothing ends, so its
    requests wait until it is noticed; one of these at a time, for a caller's deadline holds one such wait.
    breaks_series: gateway or supervisor is another process afterwards.
    """

    name: str
    strikes: bool = True
    often: int = 2
    rest_s: float = 0.0
    unnoticed: bool = False
    breaks_series: bool = False


KINDS = (
    Kind("crash", often=4),
    Kind("hang", unnoticed=True, often=3),
    Kind("freeze", unnoticed=True),
    Kind("slow_then_healed", unnoticed=True),
    Kind("garbage"),
    Kind("refuse"),
    # More than 8 of these in a row, none of them a minute old, and the supervisor gives up, as it should.
    Kind("gateway_crash", strikes=False, rest_s=61.0, breaks_series=True),
    Kind("supervisor_crash", strikes=False, rest_s=20.0, breaks_series=True),
    Kind("rolling_restart", strikes=False, rest_s=20.0),
    Kind("reload", strikes=False, often=1, rest_s=5.0),
)


@dataclass
class Faults:
    """Draws faults and does them. `done`: what was done, in order."""

    stand: Stack
    rng: random.Random
    done: list[tuple[float, str, str]] = field(default_factory=list)
    _victims: dict[str, tuple[float, Kind]] = field(default_factory=dict)
    _last: dict[str, float] = field(default_factory=dict)
    _healing: set[asyncio.Task[None]] = field(default_factory=set)

    async def one(self, snapshot: StackSnapshot, *, unbroken: bool) -> bool:
        """Do one fault, if one may be done now. unbroken: gateway and supervisor are spared."""
        self._forget_recovered(snapshot)
        kinds = [
            kind for kind in KINDS if self._may(kind, snapshot) and not (unbroken and kind.breaks_series)
        ]
        if not kinds:
            return False
        (kind,) = self.rng.choices(kinds, [kind.often for kind in kinds])
        victim = self.rng.choice(self._well(snapshot)) if kind.strikes else ""
        self._last[kind.name] = time.monotonic()
        if victim:
            self._victims[victim] = time.time(), kind
        self.done.append((time.time(), kind.name, victim))
        await _DEEDS[kind.name](self, victim)
        return True

    async def over(self) -> None:
        """What heals by itself has healed."""
        await asyncio.gather(*self._healing)

    def _may(self, kind: Kind, snapshot: StackSnapshot) -> bool:
        if time.monotonic() - self._last.get(kind.name, -1e9) < kind.rest_s:
            return False
        rolling = snapshot.rolling is not None and snapshot.rolling.finished_at is None
        if kind.name == "rolling_restart":
            return not rolling and not self._victims
        if kind.unnoticed and any(other.unnoticed for _, other in self._victims.values()):
            return False
        room = _MOST_VICTIMS - len(self._victims) - rolling
        return not kind.strikes or (room > 0 and len(self._well(snapshot)) > 1)

    def _well(self, snapshot: StackSnapshot) -> list[str]:
        ready = [replica.name for replica in snapshot.replicas if replica.state == "ready"]
        return [name for name in ready if name not in self._victims]

    def _forget_recovered(self, snapshot: StackSnapshot) -> None:
        for replica in snapshot.replicas:
            since, kind = self._victims.get(replica.name, (0.0, None))
            healed = kind is not None and kind.name != "slow_then_healed"
            if healed and replica.state == "ready" and replica.since > since:
                del self._victims[replica.name]

    async def crash(self, victim: str) -> None:
        self.stand.kill(victim)

    async def hang(self, victim: str) -> None:
        await self.stand.order(victim, fault="hang")

    async def freeze(self, victim: str) -> None:
        self.stand.kill(victim, signal.SIGSTOP)

    async def slow_then_healed(self, victim: str) -> None:
        await self.stand.order(victim, fault="slow", factor=20.0)
        self._healing.add(asyncio.create_task(self._heal(victim)))

    async def _heal(self, victim: str) -> None:
        await asyncio.sleep(_SLOW_S)
        connector = aiohttp.UnixConnector(str(self.stand.state.socket(victim)))
        try:
            async with aiohttp.ClientSession(connector=connector) as session:
                await session.delete("http://engine/control/fault")
        except aiohttp.ClientError:
            pass  # it was restarted meanwhile, which heals too
        finally:
            self._victims.pop(victim, None)

    async def garbage(self, victim: str) -> None:
        await self.stand.order(victim, fault="garbage")

    async def refuse(self, victim: str) -> None:
        await self.stand.order(victim, fault="refuse")

    async def gateway_crash(self, _: str) -> None:
        self.stand.kill("gateway")

    async def supervisor_crash(self, _: str) -> None:
        """And a new `serve`, as systemd would start it."""
        process = self.stand.process
        assert process
        process.kill()
        await asyncio.to_thread(process.wait)
        self.stand.start()

    async def rolling_restart(self, _: str) -> None:
        try:
            await asyncio.to_thread(begin_restart, self.stand.state, [])
        except UsageError:
            self.done.pop()  # one is under way: it began since we looked

    async def reload(self, _: str) -> None:
        """The profile says something else, and the stack goes by it."""
        path = self.stand.folder / "profile.toml"
        text = path.read_text()
        before, after = _DRAIN_S if _DRAIN_S[0] in text else reversed(_DRAIN_S)
        path.write_text(text.replace(before, after))
        outcome = await asyncio.to_thread(request_reload, self.stand.state)
        assert not outcome.errors, outcome
        assert [change.path for change in outcome.taken] == ["gateway.drain_timeout_s"], outcome


_DEEDS: dict[str, Callable[[Faults, str], Awaitable[None]]] = {
    kind.name: getattr(Faults, kind.name) for kind in KINDS
}
