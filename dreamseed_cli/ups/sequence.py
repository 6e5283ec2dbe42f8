"""The shutdown: step after step, each within its time, whatever becomes of the one before."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

import structlog

from dreamseed_cli.core.errors import DreamseedError
from dreamseed_cli.ups.journal import Shutdown, StepRecord, StepState, UpsFolder

HARD_S = 20.0
"""What killing may take beyond a step's time. After that the step is left behind, and the next begins."""

log = structlog.get_logger("ups")


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a step ended, and a detail for people."""

    state: StepState = StepState.DONE
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Step:
    """One step. run: does it within so many seconds; doing it again changes nothing.

    reversible: the mains' return may still cancel the shutdown. optional: left out where time is short.
    firm: gets its whole time whatever the battery says, and the steps before it leave it that.
    """

    name: str
    box_s: float
    run: Callable[[float], Awaitable[Outcome]]
    reversible: bool = False
    optional: bool = False
    firm: bool = False


@dataclass(frozen=True, slots=True)
class Course:
    """How a shutdown is steered. time_left_s: what the battery lasts, without end on mains. reopen: undoes
    the reversible steps. on_commit: told when nothing can be undone any more. cancelled: set when the mains
    are back.
    """

    time_left_s: Callable[[], float]
    cancelled: asyncio.Event
    reopen: Callable[[], Awaitable[None]]
    on_commit: Callable[[], None] = lambda: None


async def run_steps(steps: Sequence[Step], shutdown: Shutdown, folder: UpsFolder, course: Course) -> Shutdown:
    """Do the steps that are not done yet. The shutdown as it ended: finished, or cancelled."""
    for index, step in enumerate(steps):
        if shutdown.done(step.name):
            continue
        if not step.reversible and not shutdown.committed:
            if course.cancelled.is_set():
                break
            shutdown.committed = True
            folder.save(shutdown)
            course.on_commit()
        later = steps[index + 1 :]
        rest_s = sum(one.box_s for one in later if step.reversible or one.firm)
        record = await _run(step, course, rest_s)
        shutdown.whole = shutdown.whole and not _cut(step, record)
        shutdown.steps.append(record)
        folder.save(shutdown)
        tell = log.warning if record.state in {StepState.FORCED, StepState.FAILED} else log.info
        tell("ups_step", step=step.name, **_said(record))
    if not shutdown.committed:
        shutdown.cancelled = course.cancelled.is_set()
    if shutdown.cancelled:
        await _reopen(course)
    folder.finish(shutdown)
    return shutdown


def _cut(step: Step, record: StepRecord) -> bool:
    """Whether the battery left it less than its time, or none."""
    return record.box_s < step.box_s


async def _reopen(course: Course) -> None:
    """A stack that does not answer keeps no watch from going on: the order to refuse ends by itself."""
    try:
        await course.reopen()
    except DreamseedError as error:
        log.warning("ups_not_reopened", cause=str(error))


async def _run(step: Step, course: Course, rest_s: float) -> StepRecord:
    spare_s = course.time_left_s() - rest_s
    if step.optional and spare_s < step.box_s:
        return StepRecord(step.name, StepState.SKIPPED, 0.0, 0.0, "the battery does not last for it")
    # What can be cut short is, where the battery does not last for all; but never to nothing. Callers leave
    # every later step its time; engines that end slowly leave it to the database, which has data to lose.
    box_s = step.box_s if step.firm else min(step.box_s, max(1.0, spare_s))
    loop = asyncio.get_running_loop()
    began = loop.time()
    outcome = await _outcome(step, box_s, course)
    return StepRecord(step.name, outcome.state, round(loop.time() - began, 3), box_s, outcome.detail)


async def _outcome(step: Step, box_s: float, course: Course) -> Outcome:
    """Whatever happens in a step, the next one comes."""
    running = asyncio.ensure_future(step.run(box_s))
    waits = {running}
    called_off = asyncio.ensure_future(course.cancelled.wait()) if step.reversible else None
    try:
        everything = waits | ({called_off} if called_off else set())
        await asyncio.wait(everything, timeout=box_s + HARD_S, return_when=asyncio.FIRST_COMPLETED)
        if running.done():
            return running.result()
        why = "the mains are back" if course.cancelled.is_set() else f"left behind after {box_s + HARD_S:g} s"
        return Outcome(StepState.SKIPPED if course.cancelled.is_set() else StepState.FAILED, why)
    except DreamseedError as error:
        return Outcome(StepState.FAILED, str(error))
    except Exception as error:  # noqa: BLE001 - a mistake of ours must not keep the box from stopping
        return Outcome(StepState.FAILED, f"{type(error).__name__}: {error}")
    finally:
        running.cancel()
        if called_off is not None:
            called_off.cancel()


def _said(record: StepRecord) -> dict[str, object]:
    return {
        "state": record.state.value,
        "took_s": record.took_s,
        "box_s": record.box_s,
        "detail": record.detail,
    }
