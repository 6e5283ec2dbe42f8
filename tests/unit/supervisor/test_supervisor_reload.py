"""What a reload decides and says, and that a profile with mistakes changes nothing."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from dreamseed_cli.core.errors import ErrorGroup, FailedError, MissingError, UsageError
from dreamseed_cli.core.paths import StateDir
from dreamseed_cli.profile.load import load_profile, shipped_dir
from dreamseed_cli.profile.schema import Profile
from dreamseed_cli.profile.select import Choice, choose_profile
from dreamseed_cli.supervisor.reload import plan_reload, reload_note, restart_command
from dreamseed_cli.supervisor.reload_request import outcome_error, request_reload
from dreamseed_cli.supervisor.reloader import reload_profile
from dreamseed_cli.supervisor.snapshot import ReloadOutcome
from dreamseed_cli.supervisor.stack import plan_stack, reloaded_plan


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A profile of the operator's own."""
    path = tmp_path / "own.toml"
    path.write_text((shipped_dir() / "emulated-rtx5090x3.toml").read_text(encoding="utf-8"))
    return path


def _reload(choice: Choice, running: Profile, socket: Path | None) -> tuple[Profile, ReloadOutcome]:
    return asyncio.run(reload_profile(choice, running, socket, state_dir=None))


def _with(profile: Profile, **gateway: object) -> Profile:
    return profile.model_copy(update={"gateway": profile.gateway.model_copy(update=gateway)})


def test_every_change_is_either_taken_or_needs_a_restart() -> None:
    """What runs afterwards is the old profile with what was taken."""
    old = load_profile("emulated-rtx5090x3")
    engine = old.engine.model_copy(update={"replicas": 2, "served_name": "other"})
    new = _with(old, default_timeout_s=9.0, port=1).model_copy(update={"engine": engine})
    plan = plan_reload(old, new)
    assert [change.path for change in plan.taken] == ["gateway.default_timeout_s"]
    assert {change.path for change in plan.needs_restart} == {
        "engine.served_name",
        "engine.replicas",
        "gateway.port",
    }
    assert plan.profile == _with(old, default_timeout_s=9.0)
    # What needs a restart is still said at the next reload.
    assert plan_reload(plan.profile, new).needs_restart == plan.needs_restart
    assert plan_reload(plan.profile, new).taken == ()


def test_nothing_changed() -> None:
    """Neither list holds anything, and the note says so."""
    profile = load_profile("laptop")
    plan = plan_reload(profile, profile)
    assert (plan.taken, plan.needs_restart, plan.profile) == ((), (), profile)
    assert "nothing new" in reload_note(ReloadOutcome(0.0))


def test_the_command_that_takes_the_rest() -> None:
    """With the cards and the state folder that this stack was started with, quoted."""
    assert restart_command("laptop", None, None) == "dreamseed stop && dreamseed serve --profile laptop"
    assert restart_command("/a b.toml", 2, "/s") == (
        "dreamseed stop --state-dir /s && dreamseed serve --profile '/a b.toml' --gpus 2 --state-dir /s"
    )


def test_the_choice_is_read_again_as_it_was_made(file: Path) -> None:
    """The same file, with as many cards as were asked for."""
    choice = choose_profile(str(file), 2, list)
    text = file.read_text().replace("[engine]", "[engine]\nseed = 5", 1)
    file.write_text(text)
    again = choice.read_again()
    assert (again.box.gpus, again.engine.model_dump()["seed"]) == (2, 5)
    fitted = choose_profile(None, None, lambda: ["RTX 5090"] * 2)
    assert fitted.read_again() == fitted.profile
    assert choose_profile(None, None, list).read_again().name == "laptop"


def test_a_broken_file_changes_nothing_and_all_its_mistakes_are_said(file: Path) -> None:
    """Two mistakes, two errors with their paths."""
    choice = choose_profile(str(file), None, list)
    file.write_text(file.read_text() + "\n[supervision]\nhang_after_s = -1.0\nno_such_key = 1\n")
    running, outcome = _reload(choice, choice.profile, None)
    assert running is choice.profile
    assert not outcome.taken
    assert {error["place"].rpartition(" ")[2] for error in outcome.errors} == {
        "supervision.hang_after_s",
        "supervision.no_such_key",
    }
    assert "changed nothing" in reload_note(outcome)
    error = outcome_error(outcome)
    assert isinstance(error, ErrorGroup)
    assert error.exit_code == 2


def test_a_file_that_is_gone(file: Path) -> None:
    """One error, exit code 2."""
    choice = choose_profile(str(file), None, list)
    file.unlink()
    _, outcome = _reload(choice, choice.profile, None)
    assert isinstance(outcome_error(outcome), UsageError)


def test_the_supervisors_own_sections_need_no_gateway(file: Path) -> None:
    """They are taken even while it is not there; the gateway's rules are then not taken in part."""
    choice = choose_profile(str(file), None, list)
    text = file.read_text()
    file.write_text(f"{text}\n[supervision]\nmost_failures = 3\n")
    running, outcome = _reload(choice, choice.profile, None)
    assert running.supervision.most_failures == 3
    assert [change.path for change in outcome.taken] == ["supervision.most_failures"]
    assert outcome.restart_with == ""
    file.write_text(f"{text}\n[supervision]\nmost_failures = 2\n[gateway.cache]\nttl_s = 5\n")
    same, failed = _reload(choice, running, None)
    assert same is running
    assert isinstance(outcome_error(failed), FailedError)


def test_a_gateway_that_does_not_answer_leaves_everything_as_it_was(file: Path, tmp_path: Path) -> None:
    """It is told first."""
    choice = choose_profile(str(file), None, list)
    file.write_text(f"{file.read_text()}\n[supervision]\nmost_failures = 3\n[gateway.cache]\nttl_s = 5\n")
    running, outcome = _reload(choice, choice.profile, tmp_path / "no.sock")
    assert running is choice.profile
    assert "does not answer" in outcome.errors[0]["cause"]


def test_a_reloaded_plan_has_the_same_processes(tmp_path: Path) -> None:
    """The gateway has longer to drain, its file says so, and it is still the same to whoever adopts it."""
    state = StateDir(tmp_path)
    profile = load_profile("emulated-rtx5090x3")
    plan = plan_stack(profile, state, valkey_ports=range(1, 7))
    longer = reloaded_plan(plan, _with(profile, drain_timeout_s=99.0), state)
    assert longer.gateway.grace_s == plan.gateway.grace_s - profile.gateway.drain_timeout_s + 99.0
    assert longer.stop_bound_s > plan.stop_bound_s
    assert '"drain_timeout_s":99.0' in longer.files[state.root / "gateway.json"]
    assert longer.gateway.fingerprint() == plan.gateway.fingerprint()
    assert longer.replicas == plan.replicas


def test_without_a_stack_there_is_nothing_to_reload(tmp_path: Path) -> None:
    """The remedy starts one."""
    with pytest.raises(MissingError, match="dreamseed serve"):
        request_reload(StateDir(tmp_path))


def test_a_reload_without_errors_is_none() -> None:
    """The note names what was taken and what was not."""
    old = load_profile("laptop")
    plan = plan_reload(old, _with(old, default_timeout_s=9.0, port=1))
    outcome = ReloadOutcome(0.0, plan.taken, plan.needs_restart, "x")
    assert outcome_error(outcome) is None
    note = reload_note(outcome)
    assert "took gateway.default_timeout_s" in note
    assert "needs a restart for gateway.port" in note
