"""Looks, draws, takes keys, until it is told to end."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol

from rich.console import Console
from rich.live import Live

from dreamseed_cli.core.errors import DreamseedError
from dreamseed_cli.core.paths import StateDir
from dreamseed_cli.gateway.security.folder import CertificateFolder
from dreamseed_cli.monitoring.collect import Exposition
from dreamseed_cli.monitoring.serve import collectors
from dreamseed_cli.supervisor.control import begin_restart, drain, fetch_snapshot
from dreamseed_cli.supervisor.snapshot import ReplicaSnapshot, StackSnapshot
from dreamseed_cli.top.figures import figures
from dreamseed_cli.top.first_tokens import FirstTokens
from dreamseed_cli.top.keys import Key
from dreamseed_cli.top.reading import Reading
from dreamseed_cli.top.screen import Seen, screen

EVERY_S = 1.0


@dataclass(frozen=True, slots=True)
class Looker:
    """Reads the stack and its metrics."""

    state: StateDir
    exposition: Exposition

    @classmethod
    def at(cls, state: StateDir) -> Looker:
        parts = collectors(state, CertificateFolder.locate(None))
        shown = {name: parts[name] for name in ("gateway", "backups", "ups")}
        # A line of log would be written across the screen, which says of the gateway itself how it is.
        return cls(state, Exposition(shown, logs=False))

    def seen(self) -> Seen:
        """A first look, without figures. FailedError if the supervisor does not answer."""
        return Seen(fetch_snapshot(self.state), None)

    def restart(self, name: str) -> None:
        """Drain this replica and start it again. UsageError if it cannot be now."""
        begin_restart(self.state, [name])

    def drain(self, name: str, *, drained: bool) -> None:
        """Send it nothing new, or requests again. UsageError if it cannot be now."""
        drain(self.state, name, drained=drained)

    def reading(self) -> Reading:
        """The metrics now."""
        return Reading.parse(time.monotonic(), asyncio.run(self.exposition.text()).decode())


def run(looker: Looker, console: Console, key: Callable[[float], Key | None]) -> Seen:
    """Until q or Ctrl-C; the last that was seen. A supervisor that is away is told, and looked for again."""
    seen, before, first_tokens = looker.seen(), looker.reading(), FirstTokens()
    first_tokens.add(before)
    with Live(
        screen(seen), console=console, screen=True, auto_refresh=False, vertical_overflow="crop"
    ) as live:
        while (pressed := key(EVERY_S)) is not Key.QUIT:
            seen = act(seen, pressed, looker)
            if pressed is None:
                seen, before = _look(looker, seen, before, first_tokens)
            live.update(screen(seen), refresh=True)
    return seen


class Doer(Protocol):
    """Does what keys ask for. Each may raise a DreamseedError: it cannot be now."""

    def restart(self, name: str) -> None: ...
    def drain(self, name: str, *, drained: bool) -> None: ...


def act(seen: Seen, pressed: Key | None, doer: Doer) -> Seen:
    """What a key changes. What takes an engine that serves from its callers asks for the key twice."""
    replicas = seen.snapshot.replicas
    if pressed in (Key.UP, Key.DOWN) and replicas:
        step = 1 if pressed is Key.DOWN else -1
        return replace(seen, selected=(seen.selected + step) % len(replicas), notice="")
    if pressed in (Key.RESTART, Key.DRAIN) and replicas:
        one = replicas[min(seen.selected, len(replicas) - 1)]
        asked = _question(pressed, one, seen.snapshot)
        if asked and seen.notice != asked:
            return replace(seen, notice=asked)
        try:
            return replace(seen, notice=_do(pressed, one, doer))
        except DreamseedError as error:
            return replace(seen, notice=error.cause)
    return seen if pressed is None else replace(seen, notice="")


def _question(pressed: Key, one: ReplicaSnapshot, stack: StackSnapshot) -> str:
    """What must be confirmed; empty for what takes nothing from anybody."""
    if pressed is Key.RESTART:
        return f"Drain and restart {one.name}? Press r again."
    if one.drained:
        return ""
    last = " No other serves!" if not any(other.takes for other in stack.replicas if other != one) else ""
    return f"Drain {one.name}: finish its requests, get none?{last} Press d again."


def _do(pressed: Key, one: ReplicaSnapshot, doer: Doer) -> str:
    """Do it; what to say then."""
    if pressed is Key.RESTART:
        doer.restart(one.name)
        return f"{one.name} drains, then restarts."
    doer.drain(one.name, drained=not one.drained)
    if one.drained:
        return f"{one.name} takes requests again."
    return f"{one.name} gets nothing new until d is pressed there again, or a new dreamseed serve."


def _look(looker: Looker, seen: Seen, before: Reading, first_tokens: FirstTokens) -> tuple[Seen, Reading]:
    try:
        snapshot, reading = fetch_snapshot(looker.state), looker.reading()
    except DreamseedError as error:
        return replace(seen, away=error.cause), before
    first_tokens.add(reading)
    found = figures(before, reading, first_tokens, time.time())
    return replace(seen, snapshot=snapshot, figures=found, away=""), reading
