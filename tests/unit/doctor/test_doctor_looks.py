"""What each look of `dreamseed doctor` says of a box that is well, and of one that is not."""

from __future__ import annotations

import ctypes
import json
import os
import resource
import shutil
from collections import namedtuple
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from doctor_findings import levels_of, program, with_parts
from drill_records import record
from security_harness import Office, ago
from stack_snapshots import stack_snapshot

from dreamseed_cli.app import main
from dreamseed_cli.backup.records import RunRecord, write_record
from dreamseed_cli.backup.schedule.install import System
from dreamseed_cli.backup.settings import Settings
from dreamseed_cli.backup.store.base import Rights
from dreamseed_cli.core import bounded, nvml
from dreamseed_cli.core.errors import FailedError, MissingError
from dreamseed_cli.core.paths import StateDir
from dreamseed_cli.core.processes import ProcessIdentity, boot_id
from dreamseed_cli.deploy.catalog import target
from dreamseed_cli.deploy.installed import install
from dreamseed_cli.deploy.render import render
from dreamseed_cli.doctor import around, data, driver, engine, host, stack
from dreamseed_cli.doctor.examine import WITHIN_S, examine
from dreamseed_cli.doctor.finding import Finding, Level, ok
from dreamseed_cli.doctor.looks import looks
from dreamseed_cli.doctor.program import WITHIN_S as PROGRAM_WITHIN_S
from dreamseed_cli.drill.history import Folder
from dreamseed_cli.gateway.security import server
from dreamseed_cli.gateway.security.authority import make_authority
from dreamseed_cli.profile.load import load_profile
from dreamseed_cli.profile.schema import Profile
from dreamseed_cli.supervisor.snapshot import ReplicaSnapshot, ServiceSnapshot, StackSnapshot
from dreamseed_cli.supervisor.state import ChildRecord, SupervisorRecord, write_children, write_supervisor
from dreamseed_cli.ups.observation import Observation


@pytest.mark.parametrize("profile", ["laptop", "emulated-rtx5090x3"])
def test_a_profile_that_needs_no_card_gets_no_false_alarm(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, profile: str
) -> None:
    """Whatever it does without is off, and the exit code is 0."""
    # Another test's stack may hold the profile's port just now.
    monkeypatch.setattr(engine, "require_port", lambda _: None)
    with pytest.raises(SystemExit) as ended:
        main(["doctor", "--profile", profile, "--json"])
    found = json.loads(capsys.readouterr().out)["data"]["findings"]
    assert [one for one in found if one["level"] in ("warning", "problem")] == []
    assert ended.value.code == 0
    assert {one["area"] for one in found} == {area for area, _ in looks(with_parts(), StateDir(Path("/x")))}


def test_a_box_that_lacks_its_cards_has_a_problem(capsys: pytest.CaptureFixture[str]) -> None:
    """Exit code 1, and what to do about it."""
    with pytest.raises(SystemExit) as ended:
        main(["doctor", "--profile", "rtx5090x3"])
    said = capsys.readouterr().out
    assert ended.value.code == 1
    assert "problem engine: driver" in said
    problems = said.count("\nproblem ")
    assert said.rstrip().endswith(f"{problems} problem{'' if problems == 1 else 's'}")
    assert "-> Install it" in said


def test_a_look_that_hangs_fails_or_refuses_hides_nothing() -> None:
    """Each becomes a finding of its own."""

    def hangs() -> Iterator[Finding]:
        import time

        time.sleep(30)
        yield ok("a", "hangs", "")

    def refuses() -> Iterator[Finding]:
        raise FailedError("no", place="there", remedy="")

    def breaks() -> Iterator[Finding]:
        raise RuntimeError("ours")

    def may_not() -> Iterator[Finding]:
        raise PermissionError(13, "Permission denied", "/closed")

    found = examine(
        {
            ("a", "hangs"): hangs,
            ("a", "refuses"): refuses,
            ("a", "breaks"): breaks,
            ("a", "may not"): may_not,
            ("a", "good"): lambda: [ok("a", "good", "")],
        },
        within_s=1.0,
    )
    assert [one.level.value for one in found] == ["warning", "problem", "warning", "warning", "ok"]
    assert found[1].remedy == "See there."
    assert (found[3].said, "bug" in found[3].remedy) == ("may not be looked at: /closed", False)


def test_who_hangs_is_killed_before_its_look_is_given_up() -> None:
    """Else it would stay; and all looks, with a start of a good second, are done in less than five."""
    asked = max(engine.NVML_WITHIN_S, PROGRAM_WITHIN_S)
    assert asked + bounded._KILL_WAIT_S < WITHIN_S <= 3.5


@pytest.mark.parametrize(
    ("unit", "level"),
    [
        (None, "warning"),
        ("LoadState=not-found\nLimitNOFILESoft=65536", "warning"),
        ("LoadState=loaded\nLimitNOFILESoft=512", "warning"),
        ("LoadState=loaded\nLimitNOFILESoft=65536", "ok"),
        ("LoadState=loaded\nLimitNOFILESoft=infinity", "ok"),
    ],
)
def test_too_few_files_for_the_sequences_is_a_warning(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, unit: str | None, level: str
) -> None:
    """A gateway without descriptors refuses everybody. The unit's limit counts where there is a unit."""
    monkeypatch.setattr(resource, "getrlimit", lambda _: (256, 256))
    if unit is not None:
        program(tmp_path, "systemctl", f"Id=dreamseed.service\n{unit}")
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin")
    assert levels_of(host.files(load_profile("emulated-rtx5090x3"))) == {"open files": level}


@pytest.mark.parametrize(
    ("state", "store", "level"),
    [(0, "b2:bucket/x", "ok"), (5, "b2:bucket/x", "warning"), (5, None, "ok"), (5, "local:/srv", "ok")],
)
def test_a_clock_that_nobody_keeps_matters_to_a_store_elsewhere(
    monkeypatch: pytest.MonkeyPatch, state: int, store: str | None, level: str
) -> None:
    """B2 refuses a clock that is ten minutes off."""
    monkeypatch.setattr(ctypes, "CDLL", lambda *_, **__: _Libc(state))
    assert levels_of(host.clock(with_parts(backup={"store": store}))) == {"clock": level}


class _Libc:
    def __init__(self, state: int) -> None:
        self._state = state

    def ntp_gettime(self, _: object) -> int:
        return self._state


def test_a_state_folder_that_serve_could_not_use_is_a_problem(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """One that is not there yet is none; a file is, and one that is closed, or has a part that is."""
    root = tmp_path / "state"
    assert not list(host.state_folder(StateDir(root)))
    StateDir(root).create()
    assert not list(host.state_folder(StateDir(root)))
    monkeypatch.setattr(os, "access", lambda path, _: path != root / "run")  # root may write everywhere
    (found,) = host.state_folder(StateDir(root))
    assert (found.level, found.said) == (Level.PROBLEM, f"nothing can be written to {root / 'run'}")
    (tmp_path / "file").touch()
    (found,) = host.state_folder(StateDir(tmp_path / "file"))
    assert (found.level, found.said) == (Level.PROBLEM, f"{tmp_path / 'file'} is no folder")


def test_a_full_disk_is_a_problem(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Before it is full."""
    usage = namedtuple("usage", "total used free")  # noqa: PYI024 - as shutil has it
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(100 * 1024**3, 98 * 1024**3, 2 * 1024**3))
    assert set(levels_of(host.disk(StateDir(tmp_path))).values()) == {"problem"}


@pytest.mark.parametrize(
    ("told", "level"),
    [
        ('{"smart_status": {"passed": true}}', "ok"),
        (
            '{"smart_status": {"passed": true}, "nvme_smart_health_information_log": {"percentage_used": 3}}',
            "ok",
        ),
        ('{"smart_status": {"passed": false}}', "problem"),
        ("{}", "warning"),
        ("permission denied", "warning"),
    ],
)
def test_an_nvme_disk_that_fails_is_a_problem(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, told: str, level: str
) -> None:
    """As smartctl tells it; one that does not tell is a warning to root, and nobody else may ask."""
    program(tmp_path, "smartctl", told)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert host._smart(str(tmp_path / "smartctl"), "nvme0").level.value == level
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    expected = "off" if level == "warning" else level
    assert host._smart(str(tmp_path / "smartctl"), "nvme0").level.value == expected


@pytest.mark.parametrize(
    ("name", "level"), [("laptop", "off"), ("emulated-rtx5090x3", "off"), ("rtx5090x3", "warning")]
)
def test_a_laptop_is_well_without_smartmontools(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str, level: str
) -> None:
    """Nearly every one has an NVMe disk, and few have the program."""
    monkeypatch.setenv("PATH", str(tmp_path))
    (tmp_path / "nvme0").mkdir()
    assert levels_of(host.disk_health(load_profile(name), tmp_path)) == {"NVMe": level}
    assert not list(host.disk_health(load_profile(name), tmp_path / "none"))


@pytest.mark.parametrize(
    ("version", "seen", "levels"),
    [
        (None, [], {"driver": "problem"}),
        ("580.95", ["NVIDIA GeForce RTX 5090"] * 3, {"driver": "ok", "cards": "ok"}),
        ("550.54", ["NVIDIA GeForce RTX 5090"] * 2, {"driver": "warning", "cards": "problem"}),
        ("580.95", ["NVIDIA GeForce RTX 4090"] * 3, {"driver": "ok", "cards": "warning"}),
        (
            "580.95",
            [*["NVIDIA GeForce RTX 5090"] * 2, "NVIDIA GeForce RTX 5090 D"],
            {"driver": "ok", "cards": "warning"},
        ),
    ],
)
def test_cards_are_held_against_the_profile(
    monkeypatch: pytest.MonkeyPatch, version: str | None, seen: list[str], levels: dict[str, str]
) -> None:
    """The driver first: without it nothing sees a card."""
    monkeypatch.setattr(driver, "version", lambda: version)
    monkeypatch.setattr(nvml, "look", lambda *_: nvml.Seen(names=tuple(seen)))
    assert levels_of(engine.cards(load_profile("rtx5090x3"))) == levels


@pytest.mark.parametrize(
    ("model", "seen", "level"),
    [
        ("h200", "NVIDIA H200", "ok"),
        ("a100-80g", "NVIDIA A100-SXM4-80GB", "ok"),
        ("a100-80g", "NVIDIA A100-SXM4-40GB", "warning"),
        ("my-own-card", "Anything", "ok"),
    ],
)
def test_a_card_is_known_by_what_nvml_calls_it(
    monkeypatch: pytest.MonkeyPatch, model: str, seen: str, level: str
) -> None:
    """Its title is for people. One that the table of cards does not know is not compared."""
    monkeypatch.setattr(driver, "version", lambda: "580.95")
    monkeypatch.setattr(nvml, "look", lambda *_: nvml.Seen(names=(seen,)))
    profile = with_parts("rtx5090x1", box={"gpus": 1, "gpu_model": model})
    assert levels_of(engine.cards(profile))["cards"] == level


@pytest.mark.parametrize(
    ("wanted_w", "seen_w", "told"),
    [
        (450.0, [450.0, 450.0, 450.0], False),
        (450.0, [450.0, 575.0, 450.0], True),
        (450.0, [400.0, 400.0, 400.0], False),
        (450.0, [], False),
        (None, [575.0], False),
    ],
)
def test_a_power_limit_that_nobody_set_is_told(
    monkeypatch: pytest.MonkeyPatch, wanted_w: float | None, seen_w: list[float], told: bool
) -> None:
    """The driver forgets it at a boot; a lower one, as on battery, harms nobody."""
    monkeypatch.setattr(driver, "version", lambda: "580.95")
    seen = nvml.Seen(names=("NVIDIA GeForce RTX 5090",) * 3, limits_w=tuple(seen_w))
    monkeypatch.setattr(nvml, "look", lambda *_: seen)
    box = load_profile("rtx5090x3").box.model_copy(update={"gpu_power_limit_w": wanted_w})
    levels = levels_of(engine.cards(with_parts("rtx5090x3", box=box.model_dump())))
    assert levels.get("power limit") == ("warning" if told else None)


def test_a_driver_that_hangs_is_a_problem_that_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """And nothing is said of cards that nobody could count."""
    monkeypatch.setattr(driver, "version", lambda: "580.95")
    monkeypatch.setattr(nvml, "look", lambda *_: nvml.Seen(fault="NVML does not answer within 5 s"))
    found = {one.name: one for one in engine.cards(load_profile("rtx5090x3"))}
    assert found["cards"].level.value == "problem"
    assert "does not answer" in found["cards"].said


def test_the_documents_plan_and_power_are_told() -> None:
    """§B3 cannot start, §B2 overloads its supply and UPS."""
    document = load_profile("rtx5090x3-document")
    assert "problem" in levels_of(engine.plan(document)).values()
    assert levels_of(engine.power(document))["UPS"] == "warning"
    assert levels_of(engine.power(load_profile("laptop"))) == {"budget": "off"}
    assert levels_of(engine.power(with_parts(box={"gpus": 1, "gpu_model": "rtx5090", "psu_w": 3000.0}))) == {
        "budget": "ok"
    }


def _snapshot(replicas: tuple[str, ...], services: tuple[str, ...] = ()) -> StackSnapshot:
    return stack_snapshot(
        replicas=tuple(
            ReplicaSnapshot(name=f"r{i}", state=state, reason="", detail="", since=0.0, endpoint="")
            for i, state in enumerate(replicas)
        ),
        services=tuple(
            ServiceSnapshot(name=f"s{i}", mode="embedded", state=one) for i, one in enumerate(services)
        ),
    )


@pytest.mark.parametrize(
    ("replicas", "level"),
    [(("ready", "ready"), "ok"), (("ready", "hung"), "warning"), (("hung",), "problem")],
)
def test_engines_that_are_out_are_told(
    monkeypatch: pytest.MonkeyPatch, replicas: tuple[str, ...], level: str
) -> None:
    """Some of them: a warning. All: a problem."""
    monkeypatch.setattr(stack, "require_running", lambda _: None)
    monkeypatch.setattr(stack, "fetch_snapshot", lambda _: _snapshot(replicas, ("ready", "failed", "off")))
    profile = with_parts(name=_snapshot(()).profile)
    assert levels_of(stack.stack(profile, StateDir(Path("/x")))) == {
        "engines": level,
        "s0": "ok",
        "s1": "problem",
        "s2": "off",
    }


def test_a_stack_of_another_profile_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is looked at is then not what runs."""
    monkeypatch.setattr(stack, "require_running", lambda _: None)
    monkeypatch.setattr(stack, "fetch_snapshot", lambda _: _snapshot(("ready",)))
    found = stack.stack(with_parts(name="another"), StateDir(Path("/x")))
    assert levels_of(found) == {"profile": "warning", "engines": "ok"}


def test_what_a_killed_supervisor_left_is_ours_and_watched_by_nobody(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Its gateway holds the port by right: no other process is to be stopped, and serve goes on with it."""
    monkeypatch.setattr(engine, "require_port", lambda _: pytest.fail("it is known who holds the port"))
    gateway = ProcessIdentity.of(os.getpid())
    assert gateway is not None
    state, killed = StateDir(tmp_path), replace(gateway, started=gateway.started - 1)
    write_supervisor(state, SupervisorRecord(killed, boot_id(), 0.0, "laptop", "0.1.0", "127.0.0.1:50051"))
    assert levels_of(stack.stack(with_parts(), state)) == {"stack": "off"}
    write_children(state, [ChildRecord("gateway", "gateway", "", gateway, (gateway,))])
    (port,), (told,) = engine.port(with_parts(), state), stack.stack(with_parts(), state)
    assert (port.level, "left by a killed supervisor" in port.said) == (Level.OK, True)
    assert (told.level, "still running: gateway (pid " in told.said) == (Level.PROBLEM, True)
    assert "dreamseed serve" in told.remedy


@pytest.fixture
def backups(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., dict[str, str]]:
    """A home of backups with a key, and the looks at it."""
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("DREAMSEED_BACKUP_DIR", str(home))

    def levels(rights: Rights | None = None, *, key: bool = True, **record: Any) -> dict[str, str]:
        monkeypatch.setattr(Settings, "recipients", lambda _: ["age1x"] if key else _no_key())
        if rights is not None:
            monkeypatch.setattr(Settings, "open", lambda _: _Store(rights))
        profile = with_parts(backup={"store": "b2:bucket/x", "schedule": {"timezone": "UTC"}})
        write_record(Settings(profile.backup).runs, RunRecord(**record))
        return levels_of(data.store(profile)) | levels_of(data.schedule(profile))

    return levels


def _no_key() -> list[str]:
    from dreamseed_cli.backup.keys import NoKey

    raise NoKey("none")


class _Store:
    def __init__(self, rights: Rights) -> None:
        self._rights = rights

    def rights(self) -> Rights:
        return self._rights


@pytest.mark.parametrize(
    ("rights", "level"),
    [
        (Rights(True, True, True, False), "ok"),
        (Rights(True, False, True, False), "problem"),
        (Rights(True, True, True, True), "warning"),
    ],
)
def test_a_key_with_too_few_or_too_many_rights_is_told(
    backups: Callable[..., dict[str, str]], rights: Rights, level: str
) -> None:
    """One that may delete is a thief's best friend."""
    assert backups(rights)["store"] == level


def test_a_bucket_that_hides_by_age_is_told(backups: Callable[..., dict[str, str]]) -> None:
    """Beside a key that is as it should be."""
    rights = Rights(read=True, write=True, list=True, delete=False, expiry=("hidden after 30 days",))
    assert backups(rights)["lifecycle"] == "warning"
    assert "lifecycle" not in backups(replace(rights, expiry=()))


def test_a_store_without_a_key_is_a_problem(backups: Callable[..., dict[str, str]]) -> None:
    """Nothing can be backed up before `backup init`."""
    assert backups(key=False)["store"] == "problem"


@pytest.mark.parametrize(
    ("there", "record", "level"),
    [
        (False, {}, "problem"),
        (True, {"ended": 0, "began": 0}, "ok"),
        (True, {"ended": 0, "began": 0, "failed": 0, "failures_in_a_row": 2, "error": "no"}, "problem"),
        (True, {"ended": -3, "began": -3, "since": -30}, "problem"),
    ],
)
def test_a_schedule_that_fails_or_is_late_is_a_problem(
    backups: Callable[..., dict[str, str]],
    monkeypatch: pytest.MonkeyPatch,
    there: bool,
    record: dict[str, Any],
    level: str,
) -> None:
    """Times in days from now."""
    monkeypatch.setattr(data, "installed", lambda _: there)
    now = datetime.now(UTC)
    times = {
        name: now + timedelta(days=value) if name in ("ended", "began", "failed", "since") else value
        for name, value in record.items()
    }
    assert backups(Rights(True, True, True, False), **times)["schedule"] == level


@pytest.mark.parametrize(("looks_as", "level"), [("ann", "warning"), ("dreamseed", "problem")])
def test_the_systems_schedule_is_judged_by_its_own_user(
    backups: Callable[..., dict[str, str]],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    looks_as: str,
    level: str,
) -> None:
    """What became of the runs of a unit of `deploy` is not in the home of whoever looks: that is not late."""
    monkeypatch.setattr(data, "SYSTEM_UNITS", tmp_path)
    monkeypatch.setattr(data, "installed", lambda _: True)
    monkeypatch.setenv("LOGNAME", looks_as)
    (tmp_path / "dreamseed-backup.timer").touch()
    assert backups(Rights(True, True, True, False))["schedule"] == level


@pytest.mark.parametrize(
    ("timers", "level"), [(("backup",), "warning"), (("backup", "look"), "ok"), ((), "problem")]
)
def test_an_older_versions_schedule_without_looks_is_told(
    backups: Callable[..., dict[str, str]],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    timers: tuple[str, ...],
    level: str,
) -> None:
    """What it lacks is named, and put in place again."""
    monkeypatch.setattr("dreamseed_cli.backup.schedule.install.SYSTEM_UNITS", tmp_path / "none")
    monkeypatch.setattr(System, "look", lambda: System(units=tmp_path, cron=False, user=True))
    for name in timers:
        (tmp_path / f"dreamseed-{name}.timer").touch()
    now = datetime.now(UTC)
    assert backups(Rights(True, True, True, False), ended=now, began=now)["schedule"] == level
    (found,) = data.schedule(with_parts(backup={"store": "b2:bucket/x", "schedule": {"timezone": "UTC"}}))
    assert ("dreamseed-look.timer" in found.said) == (level == "warning")
    assert ("dreamseed schedule install" in found.remedy) == (level != "ok")


@pytest.mark.parametrize(("deployed", "said"), [(True, "deploy render systemd"), (False, "schedule install")])
def test_the_remedy_for_a_missing_schedule_overwrites_no_unit_of_deploy(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, deployed: bool, said: str
) -> None:
    """Both write the same file as root."""
    monkeypatch.setattr(data, "SYSTEM_UNITS", tmp_path)
    monkeypatch.setattr(System, "look", lambda: System(units=tmp_path, cron=False, user=False))
    monkeypatch.setenv("DREAMSEED_BACKUP_DIR", str(tmp_path / "home"))
    if deployed:
        (tmp_path / "dreamseed-backup.service").touch()
    (found,) = data.schedule(with_parts(backup={"store": "b2:bucket/x", "schedule": {"timezone": "UTC"}}))
    assert (found.level, said in found.remedy) == (Level.PROBLEM, True)


@pytest.mark.parametrize(
    ("seen", "levels"),
    [
        (Observation(at=0.0, on_battery=False, charge_percent=100.0), ["ok"]),
        (Observation(at=0.0, on_battery=True), ["problem"]),
        (Observation(at=0.0, on_battery=False, replace_battery=True), ["warning"]),
    ],
)
def test_a_ups_on_battery_is_a_problem(
    monkeypatch: pytest.MonkeyPatch, seen: Observation, levels: list[str]
) -> None:
    """One that asks for a battery is a warning."""

    class _Told:
        async def look(self) -> Observation:
            return seen

    monkeypatch.setattr(around, "source_of", lambda _: _Told())
    assert [one.level.value for one in around.ups(with_parts(ups={"source": "apcupsd"}))] == levels


def test_a_ups_that_nobody_tells_of_is_a_problem_of_its_own() -> None:
    """Through the list of looks, which turns an error into a finding."""
    profile = with_parts(ups={"source": "apcupsd", "port": 1})
    (found,) = examine({("around", "UPS"): lambda: around.ups(profile)})
    assert (found.level, "no connection" in found.said) == (Level.PROBLEM, True)


def test_an_overdue_drill_is_a_warning(
    backups: Callable[..., dict[str, str]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """As the schedule counts it."""
    profile, state = with_parts(backup={"store": "b2:bucket/x"}), StateDir(tmp_path)
    backups(Rights(True, True, True, False), since=datetime.now(UTC) - timedelta(days=60))
    assert levels_of(data.drills(profile, state)) == {"drills": "warning"}
    monkeypatch.setattr(data, "alarm", lambda _: None)
    assert levels_of(data.drills(profile, state)) == {"drills": "ok"}
    folder = Folder.of(state)
    kept = folder.add(record())
    assert levels_of(data.drills(profile, state)) == {"drills": "ok"}
    (folder.root / f"{kept.id}.json").unlink()
    (found,) = data.drills(profile, state)
    assert (found.level, "the newest drill is gone" in found.said) == (Level.WARNING, True)


def _install_units(profile: Profile, root: Path) -> None:
    systemd = target("systemd")
    assert systemd is not None
    install(render(profile, [systemd]), root)


def test_units_that_drifted_are_a_warning(tmp_path: Path) -> None:
    """None installed is off, all as rendered is ok."""
    profile = load_profile("laptop")
    assert levels_of(around.units(profile, tmp_path)) == {"units": "off"}
    _install_units(profile, tmp_path)
    assert levels_of(around.units(profile, tmp_path)) == {"units": "ok"}
    unit = tmp_path / "etc/systemd/system/dreamseed.service"
    unit.write_text(unit.read_text() + "# mine\n")
    assert levels_of(around.units(profile, tmp_path)) == {"units": "warning"}


@pytest.mark.parametrize(
    ("active", "at_boot", "level"),
    [
        ("active", "enabled", None),
        ("inactive", "static", None),
        ("failed", "enabled", "problem"),
        ("failed", "static", "problem"),
        ("inactive", "disabled", "warning"),
        ("active", "disabled", "warning"),
        ("inactive", "enabled", "warning"),
    ],
)
def test_a_unit_that_failed_or_that_nothing_starts_is_told(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, active: str, at_boot: str, level: str | None
) -> None:
    """As systemctl tells it; a file that is as rendered does not mean that it runs."""
    _install_units(with_parts(), tmp_path)
    blocks = [
        "Id=dreamseed-backup.timer\nActiveState=active\nUnitFileState=enabled",
        f"Id=dreamseed.service\nActiveState={active}\nUnitFileState={at_boot}",
    ]
    program(tmp_path, "systemctl", "\n\n".join(blocks))
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    said = {"units": "ok"} if level is None else {"units": "ok", "dreamseed.service": level}
    assert levels_of(around.units(with_parts(), tmp_path)) == said


@pytest.mark.parametrize(("script", "source"), [("exit 1", "none"), ("exec sleep 60", "apcupsd")])
def test_where_no_systemd_answers_only_files_are_compared(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, script: str, source: str
) -> None:
    """As in a container. The watcher of the UPS is asked for only where there is a UPS."""
    profile = with_parts(ups={"source": source})
    _install_units(profile, tmp_path)
    program = tmp_path / "systemctl"
    program.write_text(f'#!/bin/sh\necho "$@" >{tmp_path}/asked\n{script}\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    monkeypatch.setattr("dreamseed_cli.doctor.program.WITHIN_S", 0.5)
    assert levels_of(around.units(profile, tmp_path)) == {"units": "ok"}
    asked = (tmp_path / "asked").read_text()
    assert "dreamseed.service" in asked
    assert ("dreamseed-ups.service" in asked) == (source != "none")


@pytest.fixture
def tls(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., dict[str, str]]:
    """The look at certificates of a gateway with TLS, whose user has none of his own."""
    monkeypatch.setenv("DREAMSEED_CERTS_DIR", str(tmp_path / "none"))

    def levels(certificate: Path, key: Path, client_ca: Path | None = None) -> dict[str, str]:
        named = {"certificate": str(certificate), "key": str(key), "client_ca": client_ca and str(client_ca)}
        return levels_of(stack.certificates(with_parts(gateway={"security": {"tls": named}})))

    return levels


@pytest.mark.parametrize(
    ("days", "ca_days", "level"), [(100, 100, "ok"), (5, 100, "problem"), (100, 5, "problem")]
)
def test_the_gateways_own_certificates_are_looked_at(
    tls: Callable[..., dict[str, str]], tmp_path: Path, days: int, ca_days: int, level: str
) -> None:
    """Where the profile says they are; the authority of its callers ends, too."""
    office = Office(tmp_path)
    pair = office.put("front", office.server(days=days))
    ca = office.put_bytes("ca.crt", make_authority(ago(0), ca_days).certificate_pem())
    assert tls(*pair, ca) == {"gateway's TLS": level}
    assert tls(*pair) == {"gateway's TLS": "ok" if days == 100 else "problem"}


def test_a_certificate_of_the_gateway_that_is_not_there_is_a_problem(
    tls: Callable[..., dict[str, str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that this user may not read is only not known."""
    assert tls(tmp_path / "no.crt", tmp_path / "no.key") == {"gateway's TLS": "problem"}

    def refuse(path: Path) -> bytes:
        raise MissingError("cannot be read", place=str(path)) from PermissionError()

    monkeypatch.setattr(server, "read_file", refuse)
    assert tls(tmp_path / "no.crt", tmp_path / "no.key") == {"gateway's TLS": "warning"}
