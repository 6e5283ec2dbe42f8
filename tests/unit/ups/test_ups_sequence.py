"""Step after step, each within its time, whatever becomes of the one before."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
import structlog

from dreamseed_cli.core.errors import FailedError
from dreamseed_cli.core.paths import StateDir
from dreamseed_cli.profile.load import load_profile
from dreamseed_cli.ups import sequence
from dreamseed_cli.ups.journal import Shutdown, StepRecord, StepState, UpsFolder, append_line
from dreamseed_cli.ups.sequence import Course, Outcome, Step, run_steps
from dreamseed_cli.ups.steps import Steps


class Log:
    """What was done, in order."""

    def __init__(self) -> None:
        self.done: list[str] = []

    def step(
        self,
        name: str,
        *,
        reversible: bool = False,
        optional: bool = False,
        firm: bool = False,
        box_s: float = 5.0,
    ) -> Step:
        async def run(within_s: float) -> Outcome:
            self.done.append(f"{name} {within_s:g}")
            return Outcome()

        return Step(name, box_s, run, reversible, optional, firm)

    async def reopen(self) -> None:
        self.done.append("reopen")

    def course(self, time_left_s: float = 1000.0) -> Course:
        return Course(lambda: time_left_s, asyncio.Event(), self.reopen, lambda: self.done.append("commit"))


@pytest.fixture
def log() -> Log:
    """An empty one."""
    return Log()


@pytest.fixture
def folder(tmp_path: Path) -> UpsFolder:
    """One that nobody has written into."""
    return UpsFolder(tmp_path / "ups")


def _failing(action: Callable[[], Awaitable[Outcome]], *, reversible: bool = False) -> Step:
    return Step("first", 0.01, lambda _: action(), reversible)


async def test_every_step_comes_and_the_length_is_kept(log: Log, folder: UpsFolder) -> None:
    """The point of no return is told before the first step that cannot be undone."""
    steps = [log.step("a", reversible=True), log.step("b"), log.step("c")]
    done = await run_steps(steps, Shutdown.begin("test"), folder, log.course())
    assert log.done == ["a 5", "commit", "b 5", "c 5"]
    assert [record.name for record in done.steps] == ["a", "b", "c"]
    assert folder.measured_s() == done.took_s
    assert folder.unfinished() is None


async def test_a_step_that_fails_keeps_nothing_from_happening(log: Log, folder: UpsFolder) -> None:
    """Neither one that says so, nor a mistake of ours."""

    async def refuse() -> Outcome:
        raise FailedError("no answer", place="control")

    async def err() -> Outcome:
        raise ValueError("oops")

    for action, said in ((refuse, "at 'control': no answer"), (err, "ValueError: oops")):
        shutdown = await run_steps(
            [_failing(action), log.step("last")], Shutdown.begin("x"), folder, log.course()
        )
        first, last = shutdown.steps
        assert (first.state, first.detail, last.state) == (StepState.FAILED, said, StepState.DONE)


async def test_a_step_that_hangs_is_left_behind(
    log: Log, folder: UpsFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After its time, and what killing may take."""
    monkeypatch.setattr(sequence, "HARD_S", 0.02)

    async def hang() -> Outcome:
        await asyncio.Event().wait()
        return Outcome()

    shutdown = await run_steps([_failing(hang), log.step("last")], Shutdown.begin("x"), folder, log.course())
    assert shutdown.steps[0].state is StepState.FAILED
    assert "left behind" in shutdown.steps[0].detail
    assert log.done[-1] == "last 5"


async def test_mains_that_return_undo_what_was_done(log: Log, folder: UpsFolder) -> None:
    """In the middle of a step; the ones after it never come."""
    course = log.course()

    async def wait() -> Outcome:
        course.cancelled.set()
        await asyncio.Event().wait()
        return Outcome()

    steps = [_failing(wait, reversible=True), log.step("b")]
    shutdown = await run_steps(steps, Shutdown.begin("x"), folder, course)
    assert shutdown.cancelled
    assert not shutdown.committed
    assert log.done == ["reopen"]
    assert folder.measured_s() is None


async def test_a_stack_that_does_not_open_again_keeps_no_watch_from_going_on(
    log: Log, folder: UpsFolder
) -> None:
    """Its supervisor hangs while the mains return: the order to refuse ends by itself."""
    course = log.course()
    course.cancelled.set()

    async def refuse() -> None:
        raise FailedError("the supervisor does not answer")

    hung = Course(course.time_left_s, course.cancelled, refuse, course.on_commit)
    with structlog.testing.capture_logs() as told:
        shutdown = await run_steps([log.step("a")], Shutdown.begin("x"), folder, hung)
    assert shutdown.cancelled
    assert [one.id for one in folder.history()] == [shutdown.id]
    assert [one["event"] for one in told] == ["ups_not_reopened"]


async def test_a_disk_that_takes_nothing_keeps_no_step_from_coming(log: Log, tmp_path: Path) -> None:
    """The journal cannot be written, which is said once of each file, and anew after it could be."""
    (tmp_path / "ups").write_text("where the folder should be")
    folder = UpsFolder(tmp_path / "ups")
    with structlog.testing.capture_logs() as told:
        await run_steps([log.step("a"), log.step("b")], Shutdown.begin("x"), folder, log.course())
    assert log.done == ["commit", "a 5", "b 5"]
    unwritten = [one["file"] for one in told if one["event"] == "ups_not_recorded"]
    assert sorted(unwritten) == [str(folder.root / "shutdown.json"), str(folder.root / "shutdowns.jsonl")]
    (tmp_path / "ups").unlink()
    shutdown = Shutdown.begin("y")
    folder.save(shutdown)
    folder.finish(shutdown)
    assert [one.id for one in folder.history()] == [shutdown.id]
    (tmp_path / "ups").rename(tmp_path / "gone")
    (tmp_path / "ups").write_text("once more")
    with structlog.testing.capture_logs() as again:
        folder.save(shutdown)
        folder.save(shutdown)
    assert [one["event"] for one in again] == ["ups_not_recorded"]


async def test_mains_that_return_past_the_point_change_nothing(log: Log, folder: UpsFolder) -> None:
    """A step that cannot be undone is not broken off."""
    course = log.course()

    async def returns() -> Outcome:
        course.cancelled.set()
        return Outcome()

    shutdown = await run_steps([_failing(returns), log.step("b")], Shutdown.begin("x"), folder, course)
    assert not shutdown.cancelled
    assert log.done == ["commit", "b 5"]


async def test_a_short_battery_shortens_what_can_be_cut_and_leaves_out_what_can_be(
    log: Log, folder: UpsFolder
) -> None:
    """Streams get what is left beyond the rest; the WAL's push gets no half of its time."""
    steps = [
        log.step("streams", reversible=True, box_s=20.0),
        log.step("wal", reversible=True, optional=True, box_s=20.0),
        log.step("postgres", box_s=30.0),
    ]
    shutdown = await run_steps(steps, Shutdown.begin("x"), folder, log.course(time_left_s=40.0))
    assert log.done == ["streams 1", "commit", "postgres 30"]
    assert folder.measured_s() is None  # a run that was cut does not tell how long a whole one takes
    assert shutdown.steps[1].state is StepState.SKIPPED


@pytest.mark.parametrize("optional", [False, True])
@pytest.mark.parametrize(("left_s", "whole"), [(65.0, True), (45.0, False)])
async def test_a_run_in_which_a_step_was_cut_tells_no_length(
    log: Log, folder: UpsFolder, left_s: float, whole: bool, optional: bool
) -> None:
    """The next one would begin too late. One that was left out was cut, too."""
    steps = [log.step("first", box_s=20.0, optional=optional), log.step("postgres", box_s=30.0, firm=True)]
    shutdown = await run_steps(steps, Shutdown.begin("x"), folder, log.course(time_left_s=left_s))
    assert shutdown.whole is whole
    assert (folder.measured_s() is not None) is whole


@pytest.mark.parametrize(
    ("left_s", "engines_s"), [(1000.0, 20.0), (75.0, 20.0), (55.0, 15.0), (30.0, 1.0), (0.0, 1.0)]
)
async def test_engines_and_the_failover_hook_leave_the_database_its_time(
    log: Log, folder: UpsFolder, left_s: float, engines_s: float
) -> None:
    """What the engines' step may take and PostgreSQL's stop never add up to more than the battery has: the
    engines (and the stop hook beside them) are cut, down to a second. PostgreSQL's stop never is.
    """
    steps = [
        log.step("engines", box_s=20.0),
        log.step("postgres", box_s=30.0, firm=True),
        log.step("redis"),
        log.step("host", box_s=10.0, firm=True),
    ]
    await run_steps(steps, Shutdown.begin("x"), folder, log.course(time_left_s=left_s))
    assert log.done[:3] == ["commit", f"engines {engines_s:g}", "postgres 30"]
    assert log.done[-1] == "host 10"


def test_what_has_data_to_lose_or_ends_the_box_is_firm(tmp_path: Path) -> None:
    """In the real sequence."""
    steps = Steps(StateDir(tmp_path), load_profile("rtx5090x3"), host=False).all()
    assert [step.name for step in steps if step.firm] == ["postgres", "cycle", "host"]


async def test_what_is_done_is_not_done_again(log: Log, folder: UpsFolder) -> None:
    """A watcher that died goes on with the next step."""
    shutdown = Shutdown.begin("x")
    shutdown.committed = True
    shutdown.steps.append(StepRecord("a", StepState.DONE, 1.0, 5.0))
    folder.save(shutdown)
    found = folder.unfinished()
    assert found is not None
    await run_steps([log.step("a"), log.step("b")], found, folder, log.course())
    assert log.done == ["b 5"]


def test_a_shutdown_of_another_boot_is_over(folder: UpsFolder) -> None:
    """The box went down in it."""
    shutdown = Shutdown.begin("x")
    shutdown.committed, shutdown.boot = True, "another"
    folder.save(shutdown)
    assert folder.unfinished() is None


def test_a_stack_is_told_of_a_shutdown_that_it_would_run_into(folder: UpsFolder) -> None:
    """One that ends the host, whoever goes on with it; a rehearsal only while it goes on."""
    assert folder.under_way() is None
    shutdown = Shutdown.begin("x", host=True)
    folder.save(shutdown)
    assert folder.under_way() is None  # not past its point of no return
    shutdown.committed = True
    folder.save(shutdown)
    assert folder.under_way() == shutdown
    shutdown.host = False
    folder.save(shutdown)
    assert folder.under_way() is None
    with folder.only_watcher():
        assert folder.under_way() == shutdown
    folder.finish(shutdown)
    with folder.only_watcher():
        assert folder.under_way() is None


def test_only_whole_runs_tell_how_long_the_next_takes(folder: UpsFolder) -> None:
    """The longest of the last five; a line that a crash cut short is left out."""
    for took_s, whole in ((9.0, False), *((float(index), True) for index in range(10, 0, -1))):
        shutdown = Shutdown.begin("x")
        shutdown.whole = whole
        shutdown.steps.append(StepRecord("a", StepState.DONE, took_s, 5.0))
        folder.finish(shutdown)
    append_line(folder.root / "shutdowns.jsonl", b'{"id":"half')
    assert folder.measured_s() == 5.0


def test_one_watcher_at_a_time(folder: UpsFolder) -> None:
    """The second is told who stands in its way."""
    with folder.only_watcher(), pytest.raises(FailedError, match="another watcher"), folder.only_watcher():
        pass
    with folder.only_watcher():
        assert list(folder.root.iterdir()) == []  # a read-only disk does not keep one from starting
