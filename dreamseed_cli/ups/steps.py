"""The steps of the shutdown over a real stack (§H3's order, with what it leaves out)."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from dreamseed_cli.core.counting import counted
from dreamseed_cli.core.errors import DreamseedError, FailedError
from dreamseed_cli.core.files import write_atomically
from dreamseed_cli.core.paths import StateDir
from dreamseed_cli.core.threads import in_daemon_thread
from dreamseed_cli.gateway.doorway import DoorOrder, Letting
from dreamseed_cli.profile.schema import Profile
from dreamseed_cli.supervisor.control import NoAnswer
from dreamseed_cli.supervisor.ending import end_left, end_stack, kill_supervisor
from dreamseed_cli.supervisor.power_control import (
    ANSWERS_WITHIN_S,
    Inside,
    answers,
    set_doorway,
    wind_down,
)
from dreamseed_cli.supervisor.state import read_supervisor
from dreamseed_cli.supervisor.winding import PartEnded, StackPart
from dreamseed_cli.ups.command import run_command
from dreamseed_cli.ups.database import checkpoint, push_wal, shut_down_cleanly
from dreamseed_cli.ups.journal import StepState
from dreamseed_cli.ups.sequence import Outcome, Step

_POLL_S = 0.2
_AGAIN_S = 1.0
"""How long one who did not answer is listened to the next time."""
_LEASE_S = 30.0
"""How long the gateway's order holds beyond the one step that does not renew it."""
_NOTHING = Outcome(StepState.SKIPPED, "no stack runs here")

POWER_FLAGS: Mapping[str, tuple[Path, bytes]] = {
    # /lib/systemd/system-shutdown/apcupsd_shutdown looks for it, and runs apcupsd --killpower.
    "apcupsd": (Path("/etc/apcupsd/powerfail"), b""),
    # .../nutshutdown asks `upsmon -K`, which looks for these words in POWERDOWNFLAG.
    "nut": (Path("/etc/killpower"), b"upsmon-shutdown-file"),
}


class Steps:
    """host: whether the UPS and the host are told, or only what would be said."""

    def __init__(self, state: StateDir, profile: Profile, *, host: bool) -> None:
        self._state = state
        self._services = profile.services
        self._rules = profile.ups
        self._patience_s = ANSWERS_WITHIN_S
        self.host = host

    def all(self) -> list[Step]:
        """In order; the point of no return is before `gateway`."""
        boxes = self._rules.boxes
        return [
            Step("refuse", ANSWERS_WITHIN_S, self._refuse, reversible=True),
            Step("streams", boxes.streams_s, self._finish_streams, reversible=True),
            Step("flush", boxes.flush_s, self._flush, reversible=True),
            Step("wal", boxes.wal_s, self._push_wal, reversible=True, optional=True),
            Step("gateway", boxes.gateway_s, lambda box_s: self._end(StackPart.GATEWAY, box_s)),
            Step("engines", boxes.engines_s, lambda box_s: self._end(StackPart.ENGINES, box_s)),
            Step("relay", boxes.relay_s, lambda box_s: self._end(StackPart.RELAY, box_s)),
            Step("postgres", boxes.postgres_s, self._end_postgres, firm=True),
            Step("redis", boxes.redis_s, self._end_redis),
            Step("rest", boxes.rest_s, self._end_rest),
            Step("cycle", boxes.command_s, self._tell_ups, firm=True),
            Step("host", boxes.command_s, self._stop_host, firm=True),
        ]

    def running(self) -> bool:
        """Whether there is a stack to stop in order; where the disk does not tell, its socket will."""
        try:
            record = read_supervisor(self._state)
        except OSError:
            return True
        return record is not None and record.alive()

    async def shed(self) -> None:
        """Refuse BATCH for a while. FailedError if nobody answers."""
        await self._order(Letting.NO_BATCH)

    async def reopen(self) -> None:
        """Let everybody in again."""
        if self.running():
            await self._order(Letting.ALL)

    async def inside(self, within_s: float = ANSWERS_WITHIN_S) -> Inside:
        """Refuse everybody for a while longer; what the gateway still has. FailedError if nobody answers."""
        return await self._order(Letting.NOBODY, within_s)

    async def _order(self, letting: Letting, within_s: float = ANSWERS_WITHIN_S) -> Inside:
        """Silence is waited for in full once, not by every step: what comes later needs the time."""
        order = DoorOrder(letting=letting, for_s=self._rules.boxes.wal_s + _LEASE_S)
        try:
            inside = await set_doorway(self._state, order, min(within_s, self._patience_s))
        except NoAnswer:
            self._patience_s = _AGAIN_S
            raise
        self._patience_s = ANSWERS_WITHIN_S
        return inside

    async def _refuse(self, box_s: float) -> Outcome:
        if not self.running():
            return _NOTHING
        inside = await self.inside(box_s)
        return Outcome(detail=f"{inside.calls} calls are under way")

    async def _finish_streams(self, box_s: float) -> Outcome:
        left = await self._until_none("calls", box_s)
        if left is None:
            return _NOTHING
        return Outcome(StepState.FORCED, f"{left} calls are cut") if left else Outcome()

    async def _flush(self, box_s: float) -> Outcome:
        if not self.running():
            return _NOTHING
        # Beside the events: what they add to it is small.
        written = asyncio.ensure_future(
            in_daemon_thread(lambda: checkpoint(self._state, self._services.postgres, box_s))
        )
        loop = asyncio.get_running_loop()
        deadline = loop.time() + box_s
        try:
            left = await self._until_none("journal_bytes", box_s)
            await asyncio.wait({written}, timeout=max(0.0, deadline - loop.time()))
        finally:
            written.cancel()
        said = written.result() if written.done() and not written.cancelled() else "the checkpoint goes on"
        if left:
            return Outcome(StepState.FORCED, f"{left} bytes of events stay in the journal on disk; {said}")
        return Outcome(detail=said)

    async def _until_none(self, what: str, box_s: float) -> int | None:
        """Wait until the gateway has none of it; what is left. None: there is no stack."""
        if not self.running():
            return None
        loop = asyncio.get_running_loop()
        deadline = loop.time() + box_s
        while left := int(getattr(await self.inside(), what)):
            if loop.time() > deadline:
                return left
            await asyncio.sleep(_POLL_S)
        return 0

    async def _push_wal(self, box_s: float) -> Outcome:
        return await in_daemon_thread(lambda: push_wal(self._state, self._services.postgres, box_s))

    async def _end(self, part: StackPart, box_s: float) -> Outcome:
        if not self.running():
            return await self._end_left(part, box_s)
        ended = await self._wind_down(part, box_s)
        if ended is None:
            # The battery does not wait for one that is deaf; PostgreSQL is to be asked while there is time.
            await in_daemon_thread(lambda: kill_supervisor(self._state))
            left = await self._end_left(part, box_s)
            said = "the supervisor did not answer and was killed"
            return Outcome(StepState.FORCED, f"{said}; {left.detail}" if left.detail else said)
        if ended.survivors:
            return Outcome(
                StepState.FAILED, f"{counted(ended.survivors, 'process', 'processes')} outlived SIGKILL"
            )
        return Outcome(StepState.FORCED, "killed: it did not end in its time") if ended.forced else Outcome()

    async def _wind_down(self, part: StackPart, box_s: float) -> PartEnded | None:
        """None if the supervisor does not answer; it is asked for a word first, which takes it no time."""
        if not await answers(self._state, self._patience_s):
            return None
        try:
            return await wind_down(self._state, part, box_s)
        except NoAnswer:
            return None

    async def _end_left(self, part: StackPart, box_s: float) -> Outcome:
        """What a supervisor that died has left of it."""
        ended = await in_daemon_thread(lambda: end_left(self._state, part, box_s))
        if ended is None:
            return _NOTHING
        return Outcome(StepState.FORCED, "killed: it did not end in its time") if ended.forced else Outcome()

    async def _end_postgres(self, box_s: float) -> Outcome:
        if self._services.postgres.mode == "external":
            return await self._external("postgres", box_s)
        ended = await self._end(StackPart.POSTGRES, box_s)
        if self._services.postgres.mode == "off" or ended.state not in {StepState.DONE, StepState.FORCED}:
            return ended
        proof = await in_daemon_thread(lambda: shut_down_cleanly(self._state))
        forced = ended.state is StepState.FORCED
        return replace(ended, detail=f"{ended.detail}; {proof.detail}") if forced else proof

    async def _end_redis(self, box_s: float) -> Outcome:
        outcomes = [await self._end(StackPart.REDIS, box_s)]
        outcomes += [await self._external(name, box_s) for name in ("redis", "kafka")]
        worst = [one for one in outcomes if one.state in {StepState.FAILED, StepState.FORCED}]
        return (worst or outcomes)[0]

    async def _external(self, name: str, box_s: float) -> Outcome:
        argv = self._rules.stop_external.get(name)  # type: ignore[call-overload]
        if not argv:
            return Outcome(StepState.SKIPPED, "yours: it ends with the host")
        return Outcome(detail=await run_command(argv, box_s))

    async def _end_rest(self, box_s: float) -> Outcome:
        """The supervisor, and whatever one that was killed or hangs left behind."""
        record = read_supervisor(self._state)

        def end() -> str:
            return end_stack(self._state, progress=lambda _: None).sentence

        try:
            async with asyncio.timeout(box_s):
                return Outcome(detail=await in_daemon_thread(end))
        except (TimeoutError, DreamseedError):
            if record is not None and record.alive():
                os.kill(record.identity.pid, signal.SIGKILL)
            return Outcome(StepState.FORCED, await in_daemon_thread(end))

    async def _tell_ups(self, box_s: float) -> Outcome:
        """To switch off when the host has, and to come back with the mains: else a box whose mains returned
        meanwhile would stay down.
        """
        argv = self._rules.cycle
        flag, content = POWER_FLAGS.get(self._rules.source, (None, b""))
        if not argv and flag is None:
            return Outcome(StepState.SKIPPED, "no UPS")
        if not self.host:
            return Outcome(StepState.SKIPPED, f"dry run: {' '.join(argv) or f'would write {flag}'}")
        if argv:
            return Outcome(detail=await run_command(argv, box_s))
        if flag is not None:
            write_atomically(flag, content)
        return Outcome(detail=str(flag))

    async def _stop_host(self, box_s: float) -> Outcome:
        argv = self._rules.host_shutdown
        if not self.host:
            return Outcome(StepState.SKIPPED, f"dry run: {' '.join(argv)}")
        try:
            return Outcome(detail=await run_command(argv, box_s))
        except FailedError as error:
            hard = self._rules.host_shutdown_hard
            if not hard:
                raise
            said = await run_command(hard, box_s)
            return Outcome(StepState.FORCED, f"{error}; then {' '.join(hard)}: {said or 'done'}")
