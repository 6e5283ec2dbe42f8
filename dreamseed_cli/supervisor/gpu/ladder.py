"""The ladder of recovery of one card, as a state machine over plain data with time passed in (§H1).

Its rungs, each tried only after the one before did not help: end our processes on the card, see its memory
free and start vLLM again; reset the card, if the operator allowed that; take the card out of use. A card
that fell off the bus is taken out at once. While an action is under way no other is begun.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from enum import IntEnum, StrEnum

from dreamseed_cli.supervisor.gpu.reading import NO_ACTION, REBOOTS, RESETS
from dreamseed_cli.supervisor.gpu.xids import Severity, xid


class CardState(StrEnum):
    """Where a card stands."""

    OK = "ok"
    SUSPECT = "suspect"
    """Something was seen that is no fault by itself. Its engine serves on."""
    ENDING = "ending"
    """Our processes on it are being ended."""
    FREEING = "freeing"
    """Its memory is waited for."""
    RESTARTING = "restarting"
    """vLLM has been started on it again, and has not generated a token yet."""
    RESETTING = "resetting"
    QUARANTINED = "quarantined"
    """Out of use until an operator releases it."""
    LOST = "lost"
    """Fallen off the bus: out of use, and a reboot is due."""


IN_HAND = frozenset({CardState.ENDING, CardState.FREEING, CardState.RESTARTING, CardState.RESETTING})
"""States in which an action is under way."""
OUT_OF_USE = frozenset({CardState.QUARANTINED, CardState.LOST})


class Action(StrEnum):
    """What to do next. Each but NOTHING and QUARANTINE is answered with an event."""

    NOTHING = "nothing"
    END_PROCESSES = "end_processes"
    """Answered by Ended."""
    CHECK_MEMORY = "check_memory"
    """Answered by MemoryFree or MemoryHeld."""
    RESTART = "restart"
    """Answered by EngineReady or EngineFailed."""
    RESET = "reset"
    """Answered by ResetDone, ResetFailed or ResetTimedOut."""
    QUARANTINE = "quarantine"


class FaultKind(StrEnum):
    """How a fault was seen."""

    XID = "xid"
    ECC = "ecc"
    LOST = "lost"
    RESET_REQUIRED = "reset_required"
    ENGINE_FAULT = "engine_fault"
    HANG = "hang"
    """NVML hangs. An engine that still generates tokens is not ended for that."""
    UNREADABLE = "unreadable"
    """NVML answers, and gives no figures."""


class Reason(StrEnum):
    """Why a card came to stand there."""

    NOTHING_WRONG = "nothing_wrong"
    XID = "xid"
    ECC = "ecc"
    LOST = "lost"
    RESET_REQUIRED = "reset_required"
    ENGINE_FAULT = "engine_fault"
    HANG = "hang"
    UNREADABLE = "unreadable"
    RECOVERY_ACTION = "recovery_action"
    PROCESSES_ENDED = "processes_ended"
    MEMORY_FREE = "memory_free"
    MEMORY_HELD = "memory_held"
    ENGINE_READY = "engine_ready"
    ENGINE_FAILED = "engine_failed"
    RESET_DONE = "reset_done"
    RESET_FAILED = "reset_failed"
    RESET_TIMED_OUT = "reset_timed_out"
    RELEASED = "released"


class Rung(IntEnum):
    """How far up the ladder a card has been."""

    GROUND = 0
    RESTART = 1
    RESET = 2
    OUT = 3


@dataclass(frozen=True, slots=True)
class Rules:
    """What the operator allows, and for how long things are remembered."""

    allow_reset: bool = False
    stable_s: float = 600.0
    """A fault sooner than this after a recovery goes on from the rung above the last one."""
    suspect_s: float = 60.0
    """How long a card without a further sign stays suspect."""


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened to a card; detail says it to people."""

    detail: str = ""


@dataclass(frozen=True, slots=True)
class FaultSeen(Event):
    """A fault, or a sign of one."""

    kind: FaultKind = FaultKind.ENGINE_FAULT
    xid: int | None = None

    @property
    def severity(self) -> Severity:
        if self.kind is FaultKind.XID and self.xid is not None:
            return xid(self.xid).severity
        return _SEVERITIES[self.kind]


@dataclass(frozen=True, slots=True)
class Read(Event):
    """The card's figures were read, so it is there. recovery_action: as NVML recommends, None if untold."""

    recovery_action: str | None = None


class Ended(Event):
    """Our processes on the card have been ended."""


class MemoryFree(Event):
    """What they held of its memory is free."""


class MemoryHeld(Event):
    """It did not become free in time, or could not be read."""


class EngineReady(Event):
    """The engine has generated a token."""


class EngineFailed(Event):
    """It did not come up."""


class ResetDone(Event):
    """The card has been reset."""


class ResetFailed(Event):
    """It could not be reset."""


class ResetTimedOut(Event):
    """The reset did not end in time and was killed."""


class Released(Event):
    """An operator puts the card to use again."""


@dataclass(frozen=True, slots=True)
class Card:
    """One card's state, why, and since when. Times are monotonic seconds."""

    index: int
    since: float
    state: CardState = CardState.OK
    reason: Reason = Reason.NOTHING_WRONG
    detail: str = ""
    rung: Rung = Rung.GROUND
    """The highest rung since the card was last stable."""
    recovered_at: float | None = None
    hung: bool = False
    """NVML has not answered since it last hung at this card."""
    recovery_action: str | None = None
    doomed: str = ""
    """Why the card is to be taken out as lost once the action under way has ended, if it stays away."""

    @property
    def advice(self) -> str:
        """What an operator should do; empty while there is nothing to do."""
        for applies, text in _ADVICE:
            if applies(self):
                return text.format(index=self.index)
        return ""


@dataclass(frozen=True, slots=True)
class Step:
    """The card after an event, and the one thing to do next."""

    card: Card
    action: Action = Action.NOTHING


def advance(card: Card, event: Event, now: float, rules: Rules) -> Step:
    """The card after an event. An event that does not answer the action under way changes nothing."""
    if isinstance(event, FaultSeen):
        return _fault_seen(card, event, now, rules)
    if isinstance(event, Read):
        return Step(_read(card, event, now, rules))
    if isinstance(event, Released):
        return _released(card, event, now)
    awaited, handler = _ANSWERS[type(event)]
    if card.state is not awaited:
        return Step(card)
    if card.doomed:
        return _out(replace(card, doomed=""), CardState.LOST, Reason.LOST, card.doomed, now)
    return handler(card, event, now, rules)


def _fault_seen(card: Card, event: FaultSeen, now: float, rules: Rules) -> Step:
    reason = Reason(event.kind.value)
    if event.kind is FaultKind.HANG:
        card = replace(card, hung=True)
    if event.severity is Severity.ECHO:
        return Step(card)
    gone = event.severity is Severity.REBOOT
    if card.state in IN_HAND:
        return Step(replace(card, doomed=event.detail) if gone and not card.doomed else card)
    if card.state in OUT_OF_USE:
        seen = gone and card.state is not CardState.LOST
        return Step(_enter(card, CardState.LOST, reason, event.detail, now) if seen else card)
    if gone:
        return _out(card, CardState.LOST, reason, event.detail, now)
    if event.severity is not Severity.RESET:
        return Step(_suspect(card, reason, event.detail, now))
    fresh = replace(card, rung=Rung.GROUND) if _stable(card, now, rules) else card
    if event.kind is FaultKind.RESET_REQUIRED:
        # The driver refuses all work on it: starting an engine there would only cost time.
        fresh = replace(fresh, rung=max(fresh.rung, Rung.RESTART))
    return _climb(fresh, reason, event.detail, now, rules)


def _suspect(card: Card, reason: Reason, detail: str, now: float) -> Card:
    """Time counts from the last sign on."""
    return replace(_enter(card, CardState.SUSPECT, reason, detail, now), since=now)


def _read(card: Card, event: Read, now: float, rules: Rules) -> Card:
    card = replace(card, hung=False, doomed="", recovery_action=event.recovery_action)
    if card.state not in {CardState.OK, CardState.SUSPECT}:
        return card
    if event.recovery_action not in {None, NO_ACTION}:
        detail = f"NVML recommends a recovery action: {event.recovery_action}"
        already = card.reason is Reason.RECOVERY_ACTION and card.detail == detail
        return card if already else _suspect(card, Reason.RECOVERY_ACTION, detail, now)
    passing = {Reason.HANG, Reason.UNREADABLE, Reason.RECOVERY_ACTION}
    if card.state is CardState.SUSPECT and (card.reason in passing or now - card.since >= rules.suspect_s):
        return _enter(card, CardState.OK, Reason.NOTHING_WRONG, "", now)
    if card.rung is not Rung.GROUND and _stable(card, now, rules):
        card = replace(card, rung=Rung.GROUND, recovered_at=None)
        return _enter(card, card.state, Reason.NOTHING_WRONG, "", now)
    return card


def _released(card: Card, event: Event, now: float) -> Step:
    if card.state not in OUT_OF_USE:
        return Step(card)
    fresh = replace(card, rung=Rung.RESTART, recovered_at=None, hung=False)
    return Step(_enter(fresh, CardState.RESTARTING, Reason.RELEASED, event.detail, now), Action.RESTART)


def _ended(card: Card, _: Event, now: float, __: Rules) -> Step:
    # What went wrong stays to be read until the card has recovered.
    freeing = _enter(card, CardState.FREEING, Reason.PROCESSES_ENDED, card.detail, now)
    return Step(freeing, Action.CHECK_MEMORY)


def _memory_free(card: Card, event: Event, now: float, _: Rules) -> Step:
    detail = _join(card.detail, event.detail)
    if card.rung is Rung.RESET:
        return Step(_enter(card, CardState.RESETTING, Reason.MEMORY_FREE, detail, now), Action.RESET)
    if card.recovery_action in REBOOTS:
        return _out(card, CardState.QUARANTINED, Reason.RECOVERY_ACTION, detail, now)
    return Step(_enter(card, CardState.RESTARTING, Reason.MEMORY_FREE, detail, now), Action.RESTART)


def _memory_held(card: Card, event: Event, now: float, rules: Rules) -> Step:
    detail = _join(card.detail, event.detail)
    if card.rung is Rung.RESTART and _above(card.rung, rules) is Rung.RESET and not _reboot_due(card):
        card = replace(card, rung=Rung.RESET)
    elif card.rung is not Rung.RESET:
        return _out(card, CardState.QUARANTINED, Reason.MEMORY_HELD, detail, now)
    # Our processes have been ended already: what is left is the driver's, and nvidia-smi will say so.
    return Step(_enter(card, CardState.RESETTING, Reason.MEMORY_HELD, detail, now), Action.RESET)


def _engine_ready(card: Card, event: Event, now: float, _: Rules) -> Step:
    how = "a reset and a restart" if card.rung is Rung.RESET else "a restart"
    detail = _join(f"recovered by {how}", _join(card.detail, event.detail))
    card = replace(card, recovered_at=now)
    return Step(_enter(card, CardState.OK, Reason.ENGINE_READY, detail, now))


def _engine_failed(card: Card, event: Event, now: float, rules: Rules) -> Step:
    return _climb(card, Reason.ENGINE_FAILED, _join(card.detail, event.detail), now, rules)


def _reset_done(card: Card, event: Event, now: float, _: Rules) -> Step:
    detail = _join(card.detail, event.detail)
    return Step(_enter(card, CardState.RESTARTING, Reason.RESET_DONE, detail, now), Action.RESTART)


def _reset_failed(card: Card, event: Event, now: float, _: Rules) -> Step:
    reason = Reason.RESET_TIMED_OUT if isinstance(event, ResetTimedOut) else Reason.RESET_FAILED
    return _out(card, CardState.QUARANTINED, reason, _join(card.detail, event.detail), now)


def _climb(card: Card, reason: Reason, detail: str, now: float, rules: Rules) -> Step:
    """One rung up, from the ending of our processes on; or out of use, where there is no rung left."""
    above = _above(card.rung, rules)
    if above is Rung.OUT or _reboot_due(card):
        return _out(card, CardState.QUARANTINED, reason, detail, now)
    entered = _enter(replace(card, rung=above), CardState.ENDING, reason, detail, now)
    return Step(entered, Action.END_PROCESSES)


def _above(rung: Rung, rules: Rules) -> Rung:
    if rung is Rung.GROUND:
        return Rung.RESTART
    return Rung.RESET if rung is Rung.RESTART and rules.allow_reset else Rung.OUT


def _reboot_due(card: Card) -> bool:
    return card.recovery_action in REBOOTS


def _out(card: Card, state: CardState, reason: Reason, detail: str, now: float) -> Step:
    return Step(_enter(replace(card, rung=Rung.OUT), state, reason, detail, now), Action.QUARANTINE)


def _stable(card: Card, now: float, rules: Rules) -> bool:
    return card.recovered_at is None or now - card.recovered_at >= rules.stable_s


def _enter(card: Card, state: CardState, reason: Reason, detail: str, now: float) -> Card:
    since = card.since if card.state is state else now
    return replace(card, state=state, reason=reason, detail=detail, since=since)


def _join(first: str, second: str) -> str:
    return "; ".join(part for part in (first, second) if part)


_SEVERITIES: Mapping[FaultKind, Severity] = {
    FaultKind.XID: Severity.APP,
    FaultKind.ECC: Severity.RESET,
    FaultKind.LOST: Severity.REBOOT,
    FaultKind.RESET_REQUIRED: Severity.RESET,
    FaultKind.ENGINE_FAULT: Severity.RESET,
    FaultKind.HANG: Severity.NOTE,
    FaultKind.UNREADABLE: Severity.NOTE,
}

_ANSWERS: Mapping[type[Event], tuple[CardState, Callable[[Card, Event, float, Rules], Step]]] = {
    Ended: (CardState.ENDING, _ended),
    MemoryFree: (CardState.FREEING, _memory_free),
    MemoryHeld: (CardState.FREEING, _memory_held),
    EngineReady: (CardState.RESTARTING, _engine_ready),
    EngineFailed: (CardState.RESTARTING, _engine_failed),
    ResetDone: (CardState.RESETTING, _reset_done),
    ResetFailed: (CardState.RESETTING, _reset_failed),
    ResetTimedOut: (CardState.RESETTING, _reset_failed),
}

_ADVICE: tuple[tuple[Callable[[Card], bool], str], ...] = (
    (
        lambda card: card.state is CardState.LOST,
        "Reboot this machine; if the card falls off the bus again, check its seat, its power and its riser.",
    ),
    (_reboot_due, "Reboot this machine: NVML says that nothing less makes card {index} whole."),
    (
        lambda card: card.state is CardState.QUARANTINED and card.hung,
        "Reboot this machine: NVML hangs at card {index}, so its driver does, too.",
    ),
    (
        lambda card: card.recovery_action in RESETS or card.reason is Reason.RESET_REQUIRED,
        "Reset the card when its engine is stopped: `nvidia-smi --gpu-reset -i {index}`, as root.",
    ),
    (
        lambda card: card.state is CardState.QUARANTINED,
        "Look for the cause (`nvidia-smi -q -i {index}`, `dmesg | grep -i xid`), then release the card.",
    ),
)
