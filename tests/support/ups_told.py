"""A UPS that tells what a test wants, and a shutdown of two steps that counts what it does."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from dreamseed_cli.core.paths import StateDir
from dreamseed_cli.profile.load import load_profile
from dreamseed_cli.profile.ups import Ups
from dreamseed_cli.ups.observation import Observation
from dreamseed_cli.ups.sequence import Outcome, Step
from dreamseed_cli.ups.source import NoWord, Source
from dreamseed_cli.ups.steps import Steps

RULES = Ups(source="nut", poll_s=0.01)
_LOOKS = 5


class Told(Source):
    """A UPS that tells what the test wants; None: nothing. enough: after a few looks."""

    kind, port, remedy = "made up", 1, ""

    def __init__(self, tell: Callable[[], Observation | None]) -> None:
        super().__init__(RULES)
        self._tell = tell
        self._looks = 0
        self.enough = asyncio.Event()

    async def look(self) -> Observation:
        told = self._tell()
        self._looks += 1
        if self._looks > _LOOKS:
            self.enough.set()
        if told is None:
            raise NoWord("nothing", place=self.place, remedy=self.remedy)
        return told

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> Observation:
        raise NotImplementedError


class Counted(Steps):
    """One step that can be undone and one that cannot, which hangs where the test wants it to."""

    def __init__(self, state: StateDir, *, host: bool, hangs: bool = False) -> None:
        super().__init__(state, load_profile("emulated-rtx5090x3"), host=host)
        self.done: list[str] = []
        self.began = asyncio.Event()
        self._hangs = hangs

    def all(self) -> list[Step]:
        return [
            Step("refuse", 1.0, lambda _: self._do("refuse"), reversible=True),
            Step("engines", 5.0, lambda _: self._do("engines")),
        ]

    async def _do(self, name: str) -> Outcome:
        self.done.append(name)
        if name == "engines":
            self.began.set()
            if self._hangs:
                await asyncio.Event().wait()
        return Outcome()


def mains() -> Observation:
    """A full battery on mains."""
    return Observation(
        time.monotonic(), on_battery=False, status="OL", charge_percent=100.0, runtime_s=3000.0
    )
