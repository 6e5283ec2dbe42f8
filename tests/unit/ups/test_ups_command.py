"""`dreamseed ups`: its results and exit codes, through the program's own door."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ups_daemons import LOST, REPLACE, MadeUpUps, NisServer, nis_server

from dreamseed_cli.app import main
from dreamseed_cli.core.paths import StateDir
from dreamseed_cli.ups.journal import Shutdown, StepRecord, StepState, UpsFolder

_PROFILE = """
name = "small"
description = "one emulated engine"
[engine]
kind = "emulated"
[engine.card]
source = "made up for this test"
prefill_tokens_per_s = 100000.0
decode_step_ms = 2.0
decode_step_ms_per_seq = 0.01
kv_cache_tokens = 5000
[services.postgres]
mode = "off"
[services.redis]
mode = "off"
[ups]
source = "{source}"
port = {port}
hold_s = 0.0
poll_s = 0.1
"""


@pytest.fixture(scope="module")
def ups() -> Iterator[NisServer]:
    """A UPS behind NIS."""
    with nis_server(MadeUpUps()) as server:
        yield server


@pytest.fixture
def profile(tmp_path: Path, ups: NisServer) -> str:
    """A profile with that UPS, on mains."""
    ups.ups.__init__()  # type: ignore[misc]
    path = tmp_path / "small.toml"
    path.write_text(_PROFILE.format(source="apcupsd", port=ups.port))
    return str(path)


def _run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    with pytest.raises(SystemExit) as ended:
        main(["ups", *arguments])
    return int(str(ended.value.code or 0)), capsys.readouterr().out


def _json(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, dict[str, Any]]:
    code, said = _run(capsys, *arguments, "--json")
    document = json.loads(said)
    return code, document["data"] or {"errors": document["errors"]}


def _apart(*arguments: str) -> dict[str, Any]:
    """The data of a command that logs, and so has a process of its own."""
    argv = [sys.executable, "-m", "dreamseed_cli", "ups", *arguments, "--json"]
    environment = {name: value for name, value in os.environ.items() if name != "INVOCATION_ID"}
    done = subprocess.run(argv, capture_output=True, text=True, env=environment, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    data: dict[str, Any] = json.loads(done.stdout)["data"]
    return data


def test_a_ups_on_mains_is_well(capsys: pytest.CaptureFixture[str], profile: str) -> None:
    """With its figures, and where they come from."""
    code, data = _json(capsys, "status", "-p", profile)
    assert code == 0
    assert data["seen"]["status"] == "ONLINE"
    assert data["energy_kwh"]["provenance"] == "computed"
    assert "ONLINE" in _run(capsys, "status", "-p", profile)[1]


def test_a_ups_that_needs_attention_exits_with_1(
    capsys: pytest.CaptureFixture[str], profile: str, ups: NisServer
) -> None:
    """So that a monitor sees it; on battery, too."""
    ups.ups.flags |= REPLACE
    code, said = _run(capsys, "status", "-p", profile)
    assert code == 1
    assert "must be replaced" in said
    ups.ups.fail_mains()
    assert _json(capsys, "status", "-p", profile)[0] == 1


def test_a_ups_that_is_lost_exits_with_3(
    capsys: pytest.CaptureFixture[str], profile: str, ups: NisServer
) -> None:
    """With place, cause and remedy."""
    ups.ups.flags = LOST
    code, data = _json(capsys, "status", "-p", profile)
    assert code == 3
    assert "COMMLOST" in data["errors"][0]["cause"]


def test_no_ups_is_said_plainly(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """By status as a fact, by watch as a wrong wish."""
    path = tmp_path / "none.toml"
    path.write_text(_PROFILE.format(source="none", port=1))
    code, said = _run(capsys, "status", "-p", str(path))
    assert code == 0
    assert "No UPS is configured" in said
    assert _run(capsys, "watch", "-p", str(path))[0] == 2


def test_a_dry_rehearsal_asks_everybody_and_changes_nothing(
    capsys: pytest.CaptureFixture[str], profile: str
) -> None:
    """Here no stack runs: exit code 1, and the timeline all the same."""
    code, data = _json(capsys, "test", "--dry-run", "-p", profile)
    assert code == 1
    assert [one["ok"] for one in data["heard"]] == [True, False]
    assert [step["name"] for step in data["timeline"]][-2:] == ["cycle", "host"]
    assert data["timeline"][1]["begins_s"] == 5.0
    assert data["measured_s"] is None
    assert "never measured" in _run(capsys, "test", "-p", profile)[1]


def test_a_real_rehearsal_spares_ups_and_host(profile: str) -> None:
    """Without a stack its length says nothing of the next one."""
    data = _apart("test", "--real-services", "-p", profile)
    details = {step["name"]: step["detail"] for step in data["steps"]}
    assert details["host"] == "dry run: systemctl poweroff"
    assert details["cycle"] == "dry run: would write /etc/apcupsd/powerfail"
    assert not data["whole"]
    assert UpsFolder.of(StateDir.locate()).measured_s() is None


def test_a_watch_stops_the_box_and_tells_how(profile: str, ups: NisServer) -> None:
    """Outside a unit it only says what it would tell UPS and host."""
    ups.ups.fail_mains()
    ups.ups.charge = 5.0
    data = _apart("watch", "-p", profile)
    assert (data["reason"], data["committed"], data["cancelled"]) == ("low_charge", True, False)
    assert data["steps"][-1]["detail"] == "dry run: systemctl poweroff"


def test_a_watch_makes_no_folder_that_the_stack_has_to_write_to(
    profile: str, ups: NisServer, tmp_path: Path
) -> None:
    """It may run as root, and before the stack has ever run."""
    ups.ups.fail_mains()
    ups.ups.charge = 5.0
    _apart("watch", "-p", profile, "--state-dir", str(tmp_path / "state"))
    assert not {"run", "logs"} & {one.name for one in (tmp_path / "state").iterdir()}


@pytest.mark.parametrize(("signum", "code"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)])
def test_a_watch_that_is_ended_tells_an_interruption(profile: str, signum: signal.Signals, code: int) -> None:
    """systemd's way to end it is no failure; Ctrl-C is as everywhere."""
    looked = UpsFolder.of(StateDir.locate()).textfile
    looked.unlink(missing_ok=True)
    argv = [sys.executable, "-m", "dreamseed_cli", "ups", "watch", "-p", profile]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as watch:
        while not looked.exists():
            assert watch.poll() is None
            time.sleep(0.05)
        watch.send_signal(signum)
        _, said = watch.communicate(timeout=60)
    assert watch.returncode == code, said


def test_a_stack_does_not_start_into_a_shutdown_of_its_box(
    profile: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """systemd would begin anew what the watcher has just killed; exit code 2 keeps it from trying."""
    folder, shutdown = UpsFolder.of(StateDir.locate()), Shutdown.begin("low_charge", host=True)
    shutdown.committed = True
    folder.save(shutdown)
    with pytest.raises(SystemExit) as ended:
        main(["serve", "-p", profile, "--json"])
    (error,) = json.loads(capsys.readouterr().out)["errors"]
    assert (ended.value.code, error["place"]) == (2, str(folder.current))
    assert "low_charge" in error["cause"]
    assert "ups watch" in error["remedy"]
    assert folder.current.stat().st_mode & 0o777 == 0o644


def test_a_plan_goes_by_what_was_measured(capsys: pytest.CaptureFixture[str]) -> None:
    """And by all the boxes before; §B2's box is too much for §H3's UPS: exit code 1."""
    code, data = _json(capsys, "plan", "-p", "rtx5090x3")
    assert (code, data["shutdown_s"]["provenance"]) == (1, "computed")
    assert [load["enough"] for load in data["loads"]] == [True, False, True]
    shutdown = Shutdown.begin("rehearsal")
    shutdown.steps.append(StepRecord("engines", StepState.DONE, 12.5, 20.0))
    UpsFolder.of(StateDir.locate()).finish(shutdown)
    code, data = _json(capsys, "plan", "-p", "rtx5090x3")
    assert data["shutdown_s"] == {"value": 12.5, "provenance": "measured"}
    assert "takes 12.5 s (the longest of the last ones, measured)" in _run(capsys, "plan", "-p", "laptop")[1]
