"""Looks after the cards: reads them, feeds their ladders, and has done what those decide."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from enum import StrEnum

import structlog

from dreamseed_cli.core.waiting import set_within
from dreamseed_cli.profile.resilience import GpuCare
from dreamseed_cli.supervisor.gpu import places
from dreamseed_cli.supervisor.gpu.actions import Actions
from dreamseed_cli.supervisor.gpu.ladder import (
    Action,
    Card,
    Event,
    FaultKind,
    FaultSeen,
    Released,
    Rules,
    advance,
)
from dreamseed_cli.supervisor.gpu.owner import CardOwner
from dreamseed_cli.supervisor.gpu.reading import Poll, Problem, XidEvent
from dreamseed_cli.supervisor.gpu.snapshot import CardSnapshot, card_snapshot
from dreamseed_cli.supervisor.gpu.telemetry import CHILD, Telemetry
from dreamseed_cli.supervisor.gpu.watched import Watched
from dreamseed_cli.supervisor.gpu.xids import xid

log = structlog.get_logger("supervisor")


class CareState(StrEnum):
    """Whether the cards are looked after."""

    STARTING = "starting"
    """Nothing could be read yet."""
    WATCHING = "watching"
    OFF = "off"
    """The profile says so."""
    NO_CARDS = "no_cards"
    """No engine of ours uses a card."""
    NO_DRIVER = "no_driver"
    """There is nothing to read on this machine."""


@dataclass(frozen=True, slots=True)
class Care:
    """Whether the cards are looked after, and why not."""

    state: CareState
    detail: str = ""


class CardCare:
    """The care of our cards. Make and use it inside a running event loop.

    Where there is nothing to watch, `run` says why in `care`, and ends: no process is started for it.
    """

    def __init__(
        self,
        owner: CardOwner,
        settings: GpuCare,
        *,
        rules: Rules | None = None,
        reader: tuple[str, ...] = CHILD,
    ) -> None:
        self.care = Care(CareState.STARTING)
        self._owner = owner
        self._settings = settings
        self._rules = rules or Rules(allow_reset=settings.allow_reset)
        self._telemetry = Telemetry(call_timeout_s=settings.call_timeout_s, on_xid=self._on_xid, argv=reader)
        self._actions = Actions(owner, self._telemetry, self._look, settings)
        self._watched: dict[int, Watched] = {}
        self._climbs: set[asyncio.Task[None]] = set()
        self._look_now = asyncio.Event()
        self._stopping = asyncio.Event()

    async def run(self) -> None:
        """Watch until `stop`, or until there proves to be nothing to watch."""
        watching = asyncio.create_task(self._watch())
        stopping = asyncio.create_task(self._stopping.wait())
        try:
            await asyncio.wait({watching, stopping}, return_when=asyncio.FIRST_COMPLETED)
            if watching.done():
                watching.result()
        finally:
            tasks = [watching, stopping, *self._climbs]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await self._telemetry.close()

    def stop(self) -> None:
        """Let `run` end soon: what is under way is cancelled, a reset is killed."""
        self._stopping.set()

    def minds(self, card: int) -> bool:
        """Whether faults of this card are taken care of here. If not, its engine is just restarted."""
        known = card in self._watched or card in self._owner.cards()
        return self.care.state is CareState.WATCHING and known and not self._stopping.is_set()

    def engine_fault(self, card: int, detail: str) -> bool:
        """An engine on the card ended with a GPU fault. False: nothing is done about it here."""
        if not self.minds(card):
            return False
        self._feed(self._keep(card), FaultSeen(detail, FaultKind.ENGINE_FAULT))
        return True

    def release(self, card: int) -> bool:
        """Put a card that is out of use to use again; False if it is not out of use."""
        watched = self._watched.get(card)
        if watched is None or not watched.out_of_use:
            return False
        self._feed(watched, Released("released by the operator"))
        return True

    def snapshot(self) -> tuple[CardSnapshot, ...]:
        """Every card that is watched, by its index."""
        epoch = time.time() - time.monotonic()
        return tuple(
            card_snapshot(
                watched.card,
                watched.reading,
                since=epoch + watched.card.since,
                read_at=None if watched.read_at is None else epoch + watched.read_at,
                hot_c=self._settings.hot_c,
            )
            for _, watched in sorted(self._watched.items())
        )

    async def _watch(self) -> None:
        if not self._settings.watch:
            self.care = Care(CareState.OFF, "gpu.watch is false in the profile")
            return
        if not self._owner.cards():
            self.care = Care(CareState.NO_CARDS, "no engine of ours uses a card")
            return
        while True:
            await self._look()
            if self.care.state is CareState.NO_DRIVER:
                return
            await set_within(self._look_now, self._settings.poll_s)
            self._look_now.clear()

    async def _look(self) -> Poll:
        """Read all cards and feed their ladders. A card at which NVML hangs is left out of a second try."""
        skip = {watched.uuid for watched in self._watched.values() if watched.given_up}
        poll = await self._telemetry.poll(frozenset(skip))
        while poll.problem is Problem.HANG and poll.at_uuid and poll.at_uuid not in skip:
            self._hang_at(poll.at_uuid, poll.detail)
            skip.add(poll.at_uuid)
            poll = await self._telemetry.poll(frozenset(skip))
        if self._took_up(poll):
            self._take(poll, skip)
        return poll

    def _took_up(self, poll: Poll) -> bool:
        """Whether cards are watched, from the first reading on. A machine without a driver gets no second."""
        if self.care.state is CareState.WATCHING:
            return True
        if poll.problem is None:
            self.care = Care(CareState.WATCHING)
            for index in self._owner.cards():
                self._keep(index)
        elif poll.problem in {Problem.DRIVER_MISSING, Problem.NO_CARDS}:
            self.care = Care(CareState.NO_DRIVER, poll.detail)
        else:
            self.care = Care(CareState.STARTING, poll.detail)
        return poll.problem is None

    def _take(self, poll: Poll, skip: set[str]) -> None:
        now = time.monotonic()
        for watched in [*self._watched.values()]:
            if watched.uuid and watched.uuid in skip:
                continue
            if poll.problem is None:
                told = places.find(poll, watched.card.index, watched.uuid)
                events: list[Event] = watched.take(told, now)
            else:
                events = [FaultSeen(poll.detail, _UNREAD.get(poll.problem, FaultKind.UNREADABLE))]
            for event in events:
                self._feed(watched, event)

    def _hang_at(self, uuid: str, detail: str) -> None:
        for watched in self._watched.values():
            if watched.uuid == uuid:
                self._feed(watched, FaultSeen(detail, FaultKind.HANG))

    def _on_xid(self, event: XidEvent) -> None:
        meaning = xid(event.xid)
        log.warning("gpu_xid", card=event.index, xid=event.xid, meaning=meaning.meaning)
        self._look_now.set()
        for watched in self._watched.values():
            if watched.uuid == event.uuid if watched.uuid else watched.card.index == event.index:
                self._feed(watched, FaultSeen(str(meaning), FaultKind.XID, event.xid))

    def _keep(self, index: int) -> Watched:
        return self._watched.setdefault(index, Watched(Card(index, time.monotonic())))

    def _feed(self, watched: Watched, event: Event) -> None:
        """Tell the ladder; what it decides begins at once, and goes on until it decides nothing more."""
        action = self._advance(watched, event)
        if action is not Action.NOTHING:
            climb = asyncio.create_task(self._climb(watched, action))
            self._climbs.add(climb)
            climb.add_done_callback(self._climbs.discard)

    async def _climb(self, watched: Watched, action: Action) -> None:
        async with watched.busy:
            while action is not Action.NOTHING:
                event = await self._actions.do(watched, action)
                action = Action.NOTHING if event is None else self._advance(watched, event)

    def _advance(self, watched: Watched, event: Event) -> Action:
        before = watched.card
        step = advance(before, event, time.monotonic(), self._rules)
        watched.card = after = step.card
        if (before.state, before.reason, before.detail) != (after.state, after.reason, after.detail):
            words = " ".join(part for part in (after.detail and f"{after.detail}.", after.advice) if part)
            self._owner.told(after.index, after.state, after.reason, words)
        return step.action


_UNREAD = {Problem.HANG: FaultKind.HANG, Problem.NO_CARDS: FaultKind.LOST}
