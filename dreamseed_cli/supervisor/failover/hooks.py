"""Runs the start and the stop command: an argument list without a shell, time-boxed, its last words kept."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import structlog

from dreamseed_cli.core.errors import DreamseedError
from dreamseed_cli.engine.types import Command
from dreamseed_cli.supervisor.child import Child, ChildSpec
from dreamseed_cli.supervisor.failover.hook_result import HookResult
from dreamseed_cli.supervisor.logfile import bound_log

_GRACE_S = 2.0
"""How long a hook may take to end after SIGTERM before it is killed with its family."""
_POLL_S = 0.25
_LAST_LINES, _LONGEST_LINE = 8, 300

log = structlog.get_logger("supervisor")


class HookRunner:
    """Runs one hook at a time. Their output is in `log_path`. Use it inside a running event loop.

    on_start: told that a child was started, for whoever keeps record of them.
    """

    def __init__(
        self, log_path: Path, *, timeout_s: float, dry_run: bool, on_start: Callable[[], None] = lambda: None
    ) -> None:
        self.child: Child | None = None
        """The hook that runs, or ran last."""
        self._log_path = log_path
        self._timeout_s = timeout_s
        self._dry_run = dry_run
        self._on_start = on_start

    async def run(self, hook: str, argv: tuple[str, ...], abort: asyncio.Event) -> HookResult:
        """Run it to its end, up to the time box or until `abort` is set, then end it with its family.

        What a hook that succeeded leaves running, such as a tunnel, goes on. Nothing is raised.
        """
        started, self.child = time.monotonic(), None
        log.info("failover_hook", hook=hook, argv=list(argv), dry_run=self._dry_run)
        if self._dry_run or not argv:
            nothing = HookResult(hook, argv, ok=True, seconds=0.0, exit_code=None, dry=self._dry_run)
            return replace(nothing, ended_at=time.time())
        cause, code = "", None
        try:
            cause, code = await self._run(hook, argv, abort)
        except DreamseedError as error:
            cause = f"cannot be run: {error}"
        except OSError as error:
            cause = f"cannot be run: {error.strerror or error}"
        result = HookResult(
            hook,
            argv,
            ok=not cause,
            seconds=round(time.monotonic() - started, 3),
            exit_code=code,
            last_lines=self._last_lines(),
            cause=cause,
            ended_at=time.time(),
        )
        self._tell(result)
        return result

    async def _run(self, hook: str, argv: tuple[str, ...], abort: asyncio.Event) -> tuple[str, int | None]:
        """Why it is not ok, if it is not, and its exit code."""
        self.child = child = await Child.start(self._spec(hook, argv))
        self._on_start()
        over = await self._ended_within(child, abort)
        at_leisure = asyncio.Event()
        if over:
            await child.stop(at_leisure)
            return over, None
        code = child.exit_code
        if code == 0:
            return "", code
        await child.sweep(at_leisure)
        how = f"was killed by signal {-code}" if code is not None and code < 0 else f"exited with code {code}"
        return how, code

    async def _ended_within(self, child: Child, abort: asyncio.Event) -> str:
        """Wait for its end; why it has to be ended instead."""
        deadline = time.monotonic() + self._timeout_s
        waiting = [asyncio.ensure_future(child.wait()), asyncio.ensure_future(abort.wait())]
        try:
            while not waiting[0].done():
                if abort.is_set():
                    return "was ended before it was done: the stack goes down"
                if time.monotonic() >= deadline:
                    return f"did not end within {self._timeout_s:g} s (failover.hook_timeout_s)"
                # Its helpers are looked for while it lives: afterwards nobody could tell that they are its.
                await asyncio.to_thread(child.refresh)
                await asyncio.to_thread(bound_log, child.spec.log)
                await asyncio.wait(waiting, timeout=_POLL_S, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for each in waiting:
                each.cancel()
        return ""

    def _spec(self, hook: str, argv: tuple[str, ...]) -> ChildSpec:
        name = f"failover-{hook}"
        return ChildSpec(name, "service", Command(argv), endpoint="", log=self._log_path, grace_s=_GRACE_S)

    def _last_lines(self) -> tuple[str, ...]:
        lines = self.child.last_lines(_LAST_LINES) if self.child is not None else []
        return tuple(line[:_LONGEST_LINE] for line in lines)

    def _tell(self, result: HookResult) -> None:
        tell = log.info if result.ok else log.error
        tell(
            "failover_hook_ended",
            hook=result.hook,
            ok=result.ok,
            seconds=result.seconds,
            exit_code=result.exit_code,
            cause=result.cause,
            last_lines=list(result.last_lines),
        )
