"""The ladder of one card: every rung, what leads to it and what leads away from it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from dreamseed_cli.supervisor.gpu.ladder import (
    Action,
    Card,
    CardState,
    Ended,
    EngineFailed,
    EngineReady,
    Event,
    FaultKind,
    FaultSeen,
    MemoryFree,
    MemoryHeld,
    Read,
    Reason,
    Released,
    ResetDone,
    ResetFailed,
    ResetTimedOut,
    Rules,
    Rung,
    Step,
    advance,
)

_BARRED, _ALLOWED = Rules(), Rules(allow_reset=True)
_ECC = FaultSeen("2 more errors", FaultKind.ECC)
_GONE = FaultSeen("GPU is lost", FaultKind.LOST)


def _xid(code: int) -> FaultSeen:
    return FaultSeen(f"Xid {code}", FaultKind.XID, code)


def _walk(*events: Event, rules: Rules = _BARRED, card: Card | None = None, at: float = 0.0) -> list[Step]:
    """The steps through the events, a second apart."""
    steps = [Step(card or Card(1, at))]
    for count, event in enumerate(events, start=1):
        steps.append(advance(steps[-1].card, event, at + count, rules))
    return steps


def _path(steps: list[Step]) -> list[tuple[str, str]]:
    return [(step.card.state.value, step.action.value) for step in steps[1:]]


def test_a_fault_ends_frees_and_restarts() -> None:
    """The first rung: our processes ended, their memory seen free, vLLM started, a token waited for."""
    steps = _walk(_ECC, Ended(), MemoryFree(), EngineReady())
    assert _path(steps) == [
        ("ending", "end_processes"),
        ("freeing", "check_memory"),
        ("restarting", "restart"),
        ("ok", "nothing"),
    ]
    assert steps[-1].card.detail == "recovered by a restart; 2 more errors"
    assert steps[-1].card.since == 4.0


@pytest.mark.parametrize(
    "fault",
    [_ECC, _xid(48), _xid(74), _xid(95), _xid(119), _xid(140), FaultSeen("died", FaultKind.ENGINE_FAULT)],
)
def test_what_is_a_fault_of_the_card(fault: FaultSeen) -> None:
    """Uncorrectable memory errors, an engine's own word, and the Xids for which NVIDIA wants a reset."""
    assert _walk(fault)[-1].action is Action.END_PROCESSES


@pytest.mark.parametrize(
    "sign",
    [_xid(13), _xid(31), _xid(43), _xid(94), _xid(63), _xid(92), _xid(9999), FaultSeen("", FaultKind.HANG)],
)
def test_what_is_only_a_sign(sign: FaultSeen) -> None:
    """A program's own errors, what is only to be known, and a hanging NVML: the engine serves on."""
    assert _path(_walk(sign)) == [("suspect", "nothing")]
    assert _path(_walk(sign, _ECC))[-1] == ("ending", "end_processes")


def test_the_echo_of_a_killed_program_is_nothing() -> None:
    """Xid 45 follows whenever we kill an engine."""
    assert _path(_walk(_xid(45))) == [("ok", "nothing")]


def test_without_leave_to_reset_an_engine_that_fails_is_followed_by_quarantine() -> None:
    """The second rung is left out."""
    steps = _walk(_ECC, Ended(), MemoryFree(), EngineFailed("no token"))
    assert _path(steps)[-1] == ("quarantined", "quarantine")
    assert steps[-1].card.reason is Reason.ENGINE_FAILED
    assert steps[-1].card.detail == "2 more errors; no token"
    assert "release the card" in steps[-1].card.advice


def test_the_second_rung_resets_after_ending_what_the_first_started() -> None:
    """The engine that failed is ended again; after the reset vLLM starts once more."""
    steps = _walk(
        *(_ECC, Ended(), MemoryFree(), EngineFailed()),
        *(Ended(), MemoryFree(), ResetDone("done"), EngineReady()),
        rules=_ALLOWED,
    )
    assert _path(steps)[3:] == [
        ("ending", "end_processes"),
        ("freeing", "check_memory"),
        ("resetting", "reset"),
        ("restarting", "restart"),
        ("ok", "nothing"),
    ]
    assert "recovered by a reset and a restart" in steps[-1].card.detail


@pytest.mark.parametrize(
    ("answer", "reason"),
    [(ResetFailed("in use"), Reason.RESET_FAILED), (ResetTimedOut("killed"), Reason.RESET_TIMED_OUT)],
)
def test_a_reset_that_does_not_work_is_followed_by_quarantine(answer: Event, reason: Reason) -> None:
    """What it printed stays to be read."""
    steps = _walk(_ECC, Ended(), MemoryFree(), EngineFailed(), Ended(), MemoryFree(), answer, rules=_ALLOWED)
    assert _path(steps)[-1] == ("quarantined", "quarantine")
    assert (steps[-1].card.reason, answer.detail in steps[-1].card.detail) == (reason, True)


def test_an_engine_that_fails_after_the_reset_is_followed_by_quarantine() -> None:
    """There is no rung left."""
    fault = (_ECC, Ended(), MemoryFree(), EngineFailed(), Ended(), MemoryFree(), ResetDone(), EngineFailed())
    assert _path(_walk(*fault, rules=_ALLOWED))[-1] == ("quarantined", "quarantine")


def test_memory_that_stays_held() -> None:
    """A restart cannot work then: a reset, where allowed, or quarantine."""
    held = (_ECC, Ended(), MemoryHeld("3.0 GiB in use"))
    assert _path(_walk(*held))[-1] == ("quarantined", "quarantine")
    assert _path(_walk(*held, rules=_ALLOWED))[-1] == ("resetting", "reset")
    again = (_ECC, Ended(), MemoryFree(), EngineFailed(), Ended(), MemoryHeld())
    assert _path(_walk(*again, rules=_ALLOWED))[-1] == ("resetting", "reset")
    due = Card(1, 0.0, recovery_action="node_reboot", state=CardState.FREEING, rung=Rung.RESTART)
    assert _path(_walk(MemoryHeld(), rules=_ALLOWED, card=due)) == [("quarantined", "quarantine")]


@pytest.mark.parametrize("fault", [_GONE, _xid(79)])
@pytest.mark.parametrize("rules", [_BARRED, _ALLOWED])
def test_off_the_bus_is_out_at_once_with_a_reboot_recommended(fault: FaultSeen, rules: Rules) -> None:
    """Neither a restart nor a reset reaches a card that is not there."""
    steps = _walk(fault, rules=rules)
    assert _path(steps) == [("lost", "quarantine")]
    assert steps[-1].card.advice.startswith("Reboot this machine")


@pytest.mark.parametrize("before", [(_ECC,), (_ECC, Ended()), (_ECC, Ended(), MemoryFree())])
def test_lost_while_an_action_is_under_way(before: tuple[Event, ...]) -> None:
    """It is taken out when the action has ended, not beside it."""
    answer = {1: Ended(), 2: MemoryHeld(), 3: EngineFailed()}[len(before)]
    assert _path(_walk(*before, _GONE, answer))[-2:] == [
        (_path(_walk(*before))[-1][0], "nothing"),
        ("lost", "quarantine"),
    ]


def test_a_card_that_is_back_before_the_action_ends_is_not_lost() -> None:
    """A reset takes a card away for a moment."""
    assert _path(_walk(_ECC, _GONE, Read(recovery_action="none"), Ended()))[-1] == ("freeing", "check_memory")


def test_a_quarantined_card_that_falls_off_the_bus() -> None:
    """It is out of use already; only what is said of it changes."""
    out = _walk(_ECC, Ended(), MemoryHeld(), _GONE, _GONE, _ECC)
    assert _path(out)[-3:] == [("lost", "nothing")] * 3


def test_a_card_whose_driver_demands_a_reset() -> None:
    """No engine could start on it: the reset comes first, or quarantine with the advice to reset."""
    demand = FaultSeen("refused", FaultKind.RESET_REQUIRED)
    allowed = _walk(demand, Ended(), MemoryFree(), ResetDone(), EngineReady(), rules=_ALLOWED)
    assert [action for _, action in _path(allowed)] == [
        *("end_processes", "check_memory", "reset", "restart", "nothing")
    ]
    barred = _walk(demand)
    assert _path(barred) == [("quarantined", "quarantine")]
    assert "nvidia-smi --gpu-reset -i 1" in barred[-1].card.advice


def test_a_reboot_that_nvml_recommends_is_shown_and_no_engine_ended_for_it() -> None:
    """While its engine works the card serves on; at its first fault it is taken out instead of restarted."""
    steps = _walk(Read(recovery_action="node_reboot"), Read(recovery_action="node_reboot"))
    assert _path(steps) == [("suspect", "nothing")] * 2
    assert steps[-1].card.advice.startswith("Reboot this machine: NVML says")
    assert steps[-1].card.since == 1.0
    assert _path(_walk(_ECC, card=steps[-1].card, rules=_ALLOWED)) == [("quarantined", "quarantine")]


def test_a_reboot_recommended_during_the_climb() -> None:
    """NVML says it after the Xid: nothing is started then."""
    steps = _walk(_ECC, Ended(), Read(recovery_action="node_reboot"), MemoryFree(), rules=_ALLOWED)
    assert _path(steps)[-1] == ("quarantined", "quarantine")
    assert "Reboot" in steps[-1].card.advice


def test_a_reset_that_nvml_recommends_is_advice() -> None:
    """The operator chooses when."""
    steps = _walk(Read(recovery_action="gpu_reset"))
    assert (steps[-1].card.state, steps[-1].action) == (CardState.SUSPECT, Action.NOTHING)
    assert "nvidia-smi --gpu-reset -i 1" in steps[-1].card.advice


def test_a_suspect_card_is_ok_again_after_a_quiet_minute() -> None:
    """The minute counts from the last sign."""
    card = _walk(_xid(31), _xid(13))[-1].card
    assert advance(card, Read(), 61.0, _BARRED).card.state is CardState.SUSPECT
    assert advance(card, Read(), 62.0, _BARRED).card.state is CardState.OK


def test_a_card_that_answers_again_is_ok_at_once() -> None:
    """NVML hung, and no longer does."""
    for kind in (FaultKind.HANG, FaultKind.UNREADABLE):
        assert _path(_walk(FaultSeen("away", kind), Read()))[-1] == ("ok", "nothing")


def test_quarantined_while_nvml_hangs() -> None:
    """The driver hangs with it: a reboot is recommended."""
    steps = _walk(FaultSeen("hangs", FaultKind.HANG), _ECC, Ended(), MemoryHeld())
    assert "NVML hangs at card 1" in steps[-1].card.advice


def test_a_second_fault_within_the_stable_period_goes_on_above_the_last_rung() -> None:
    """A card climbs once: what did not last is not tried again."""
    recovered = _walk(_ECC, Ended(), MemoryFree(), EngineReady())[-1].card
    soon = advance(recovered, _ECC, 600.0, _BARRED)
    assert (soon.card.state, soon.action) == (CardState.QUARANTINED, Action.QUARANTINE)
    reset_next = advance(recovered, _ECC, 600.0, _ALLOWED)
    assert (reset_next.card.rung, reset_next.action) == (Rung.RESET, Action.END_PROCESSES)
    late = advance(recovered, _ECC, 604.0, _BARRED)
    assert (late.card.rung, late.action) == (Rung.RESTART, Action.END_PROCESSES)


def test_a_stable_card_is_forgiven() -> None:
    """Ten minutes after its recovery nothing is said of it any more."""
    recovered = _walk(_ECC, Ended(), MemoryFree(), EngineReady())[-1].card
    assert advance(recovered, Read(), 603.0, _BARRED).card.rung is Rung.RESTART
    forgiven = advance(recovered, Read(), 604.0, _BARRED).card
    assert (forgiven.rung, forgiven.detail, forgiven.reason) == (Rung.GROUND, "", Reason.NOTHING_WRONG)


@pytest.mark.parametrize("start", [CardState.QUARANTINED, CardState.LOST])
def test_released_by_an_operator(start: CardState) -> None:
    """Its engine is started; if that fails, the ladder goes on from there."""
    out = Card(1, 0.0, state=start, rung=Rung.OUT)
    steps = _walk(Released("by me"), card=out)
    assert _path(steps) == [("restarting", "restart")]
    assert _path(_walk(Released(), EngineReady(), card=out))[-1] == ("ok", "nothing")
    assert _path(_walk(Released(), EngineFailed(), card=out))[-1] == ("quarantined", "quarantine")
    assert _path(_walk(Released(), EngineFailed(), card=out, rules=_ALLOWED))[-1] == (
        "ending",
        "end_processes",
    )


def test_only_a_card_that_is_out_of_use_can_be_released() -> None:
    """Anything else is in use, or being seen to."""
    for events in ((), (_xid(31),), (_ECC,), (_ECC, Ended(), MemoryFree())):
        before = _walk(*events)[-1].card
        assert advance(before, Released(), 9.0, _BARRED) == Step(before)


@pytest.mark.parametrize("answer", [Ended(), MemoryFree(), EngineReady(), EngineFailed(), ResetDone()])
def test_an_answer_that_nobody_waits_for_changes_nothing(answer: Event) -> None:
    """An action that was cancelled may still answer."""
    card = Card(1, 0.0)
    assert advance(card, answer, 5.0, _ALLOWED) == Step(card)
    out = replace(card, state=CardState.QUARANTINED)
    assert advance(out, answer, 5.0, _ALLOWED) == Step(out)
