"""The backup verbs through `main`, on a local store without a server."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from backup_runs import KEYS, Clock, PlayedSource, settings, wish

from dreamseed_cli.app import main
from dreamseed_cli.backup.catalog import read_catalog
from dreamseed_cli.backup.doors import Doors, _taking, utc_now
from dreamseed_cli.backup.lock import only_one
from dreamseed_cli.backup.names import Kind, manifest_name
from dreamseed_cli.backup.records import Look, change_record, read_record
from dreamseed_cli.backup.run import Report, run_backup
from dreamseed_cli.backup.schedule import install as install_module
from dreamseed_cli.backup.settings import Settings
from dreamseed_cli.backup.store.base import Version
from dreamseed_cli.backup.store.local import LocalFolder
from dreamseed_cli.backup.view import catalog_view, report_view, status_view
from dreamseed_cli.commands.backup_choice import chosen_database
from dreamseed_cli.profile.load import shipped_dir

Run = Callable[..., tuple[int, dict[str, Any]]]


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """A host with keys and a store."""
    monkeypatch.setenv("DREAMSEED_BACKUP_DIR", str(tmp_path / "home"))
    return settings(tmp_path / "home")


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """Exit code and envelope of a command."""

    def once(*words: str) -> tuple[int, dict[str, Any]]:
        with pytest.raises(SystemExit) as ended:
            main([*words, "-p", "laptop", "--json"])
        return int(ended.value.code or 0), json.loads(capsys.readouterr().out)

    return once


def made(host: Settings, clock: Clock | None = None, folder: Path | None = None) -> Report:
    """A backup in the host's store."""
    store = host.open()
    folders = {} if folder is None else {"uploads": folder}
    try:
        return run_backup(store, PlayedSource(), wish(clock), take_folders=_taking(folders, KEYS.recipients))
    finally:
        store.close()


def test_init_prints_the_recovery_key_once_and_never_overwrites(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run: Run
) -> None:
    """The key file is its owner's alone, and does not hold the recovery key; another store gets it, too."""
    monkeypatch.setenv("DREAMSEED_BACKUP_DIR", str(tmp_path / "new"))
    code, answer = run("backup", "init")
    assert (code, answer["command"]) == (0, "backup init")
    key = Path(answer["data"]["key_file"])
    assert key.stat().st_mode & 0o777 == 0o600
    assert answer["data"]["recovery_key"] not in key.read_text()
    made_once = key.read_bytes()
    assert run("backup", "init", "--locked")[0] == 3
    code, answer = run("backup", "init", "--store", f"local:{tmp_path}/another")
    assert (code, answer["data"]["recovery_key"], key.read_bytes()) == (0, None, made_once)
    assert run("backup", "list", "--store", f"local:{tmp_path}/another")[0] == 0


def test_a_damaged_backup_is_listed_and_exits_with_1(host: Settings, run: Run) -> None:
    """`show` and `verify` of it name what is wrong."""
    report = made(host)
    assert run("backup", "list")[0] == 0
    (host.home / "store" / "backups" / report.id / "parts" / "000000").unlink()
    code, answer = run("backup", "list")
    assert (code, answer["data"]["damaged"][0]["id"]) == (1, report.id)
    assert run("backup", "show", report.id)[0] == 2


@pytest.mark.parametrize(
    ("wanted", "cause"),
    [("nothing", "not the id of a backup"), ("20251110T030000Z-logical-7f3a9c01", "no such backup")],
)
def test_a_backup_that_there_is_not_is_wrong_usage(host: Settings, run: Run, wanted: str, cause: str) -> None:
    """Whatever it is called."""
    made(host)
    for verb in ("show", "verify", "pin"):
        code, answer = run("backup", verb, wanted)
        assert (code, cause in answer["errors"][0]["cause"]) == (2, True)


def test_a_folder_that_lost_content_is_listed_and_exits_with_1(
    host: Settings, run: Run, tmp_path: Path
) -> None:
    """The backup itself stays one: its database can be restored."""
    (tmp_path / "uploads").mkdir()
    (tmp_path / "uploads" / "a").write_bytes(b"a picture")
    take = _taking({"uploads": tmp_path / "uploads"}, KEYS.recipients)
    report = run_backup(host.open(), PlayedSource(), wish(Clock()), take_folders=take)
    assert run("backup", "list")[0] == 0
    (lost,) = (host.home / "store" / "blobs").iterdir()
    lost.unlink()
    code, answer = run("backup", "list")
    (listed,) = answer["data"]["backups"]
    assert (code, listed["id"]) == (1, report.id)
    assert lost.name in listed["folders_lost"][0]["place"]
    assert run("backup", "show", report.id)[0] == 0
    assert run("backup", "status")[1]["data"]["damaged_folders"] == [report.id]
    shown = [str(line) for line in catalog_view(read_catalog(host.open()), "store")]
    assert f"Its database is whole, its folders are not: {report.id}" in shown
    assert any("compared by name and size" in str(line) for line in report_view(report))


def test_status_with_a_folder_that_lost_content_exits_with_1(
    host: Settings, run: Run, tmp_path: Path
) -> None:
    """Until a newer backup holds it again: the older one is then only named."""
    (tmp_path / "uploads").mkdir()
    (tmp_path / "uploads" / "a").write_bytes(b"a picture")
    take = _taking({"uploads": tmp_path / "uploads"}, KEYS.recipients)
    first = run_backup(host.open(), PlayedSource(), wish(Clock(utc_now())), take_folders=take)
    assert run("backup", "status")[0] == 0
    (lost,) = (host.home / "store" / "blobs").iterdir()
    lost.unlink()
    code, answer = run("backup", "status")
    assert (code, answer["data"]["over_target"]) == (1, False)
    assert lost.name in answer["data"]["folders_lost"][0]["place"]
    shown = [str(line) for line in status_view(Doors(host, str).status(), "store")]
    assert any("lacks 1 content," in line for line in shown)
    run_backup(host.open(), PlayedSource(), wish(Clock(utc_now())), take_folders=take)
    code, answer = run("backup", "status")
    assert (code, answer["data"]["folders_lost"], answer["data"]["damaged_folders"]) == (0, [], [first.id])


def test_a_backup_that_another_program_hid_is_called_so(
    host: Settings, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not a run that never finished: it did. What to do stands there, and the exit code is 1."""
    id_ = made(host).id
    (host.home / "store" / "backups" / id_ / "manifest.json").unlink()
    code, answer = run("backup", "list")
    assert (code, answer["data"]["incomplete"][0]["hidden"]) == (0, False)
    name, at = manifest_name(id_), datetime.now(UTC)
    mark = Version(name, "2", 0, None, at, marker=True)
    monkeypatch.setattr(LocalFolder, "versions", lambda _self, _name: (mark, Version(name, "1", 9, None, at)))
    code, answer = run("backup", "list")
    assert (code, answer["data"]["incomplete"][0]["hidden"]) == (1, True)
    catalog = read_catalog(host.open())
    assert [str(line) for line in catalog_view(catalog, "store", frozenset({id_}))][-1].startswith("Hidden: ")


def test_a_pin_keeps_and_an_unpin_lets_go(host: Settings, run: Run) -> None:
    """By the beginning of an id."""
    id_ = made(host).id
    run("backup", "pin", id_[:20])
    assert run("backup", "show", id_)[1]["data"]["pinned"] is True
    run("backup", "unpin", id_)
    assert run("backup", "show", id_)[1]["data"]["pinned"] is False


def test_prune_says_why_and_refuses_beside_another_run(host: Settings, run: Run) -> None:
    """Exit code 5 while one is at work."""
    id_ = made(host).id
    code, answer = run("backup", "prune", "--dry-run")
    assert code == 0
    assert answer["data"]["held"] or id_ in answer["data"]["keep"]
    with only_one(host.home, "backup"):
        assert run("backup", "prune")[0] == 5


def test_a_second_run_is_refused_before_anything_else_is_asked_for(host: Settings, run: Run) -> None:
    """What it was asked for is not looked at; a rehearsal needs no lock."""
    with only_one(host.home, "backup"):
        assert run("backup", "--kind", "none")[0] == 5
        assert run("backup", "--kind", "none", "--dry-run")[0] == 2


def test_status_over_target_exits_with_1(host: Settings, run: Run) -> None:
    """An old dump loses more than 15 minutes; an empty store loses everything."""
    assert run("backup", "status")[1]["data"]["rpo_s"] is None
    made(host)
    code, answer = run("backup", "status")
    assert (code, answer["data"]["over_target"]) == (1, True)


def test_the_name_of_a_run_in_its_envelope_is_the_verbs(host: Settings, run: Run) -> None:
    """An option's value is no sub-verb."""
    code, answer = run("backup", "--kind", "sideways")
    assert (code, answer["command"]) == (2, "backup")


def test_a_fetch_without_a_key_stops_recovery(host: Settings, run: Run, tmp_path: Path) -> None:
    """It proves no absence, which PostgreSQL would take for the archive's end."""
    host.key_file.unlink()
    with pytest.raises(SystemExit) as ended:
        main(["wal", "fetch", "000000010000000000000001", str(tmp_path / "f"), "-p", "laptop"])
    assert ended.value.code == 126


@pytest.mark.parametrize("verb", ["list", "status", "show", "verify", "prune"])
def test_a_store_that_is_not_there_is_something_missing(
    verb: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run: Run
) -> None:
    """As keys that are not: before `backup init`, or while its disk is not mounted."""
    monkeypatch.setenv("DREAMSEED_BACKUP_DIR", str(tmp_path / "home"))
    code, answer = run("backup", verb)
    assert (code, answer["errors"][0]["kind"]) == (3, "store_absent")
    assert "dreamseed backup init" in answer["errors"][0]["remedy"]


@pytest.mark.parametrize("by_option", [True, False])
def test_the_servers_command_archives_to_the_store_of_the_profile_that_was_named(
    by_option: bool, host: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    """Also to that of $DREAMSEED_PROFILE: the server's own environment does not name it."""
    box = tmp_path / "box.toml"
    box.write_text((shipped_dir() / "laptop.toml").read_text())
    monkeypatch.chdir(tmp_path)
    if not by_option:
        monkeypatch.setenv("DREAMSEED_PROFILE", "box.toml")
    with pytest.raises(SystemExit):
        main(["wal", "settings", *(["--profile", "box.toml"] if by_option else [])])
    assert f"wal push --profile {box} %p" in capsys.readouterr().out


def test_the_external_database_of_a_named_profile_is_backed_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether --profile names it or $DREAMSEED_PROFILE, and whether its stack runs or not."""
    box = tmp_path / "box.toml"
    embedded = (shipped_dir() / "laptop.toml").read_text()
    box.write_text(embedded.replace('mode = "embedded"', 'mode = "external"', 1))
    monkeypatch.setenv("DREAMSEED_DATABASE_URL", "postgresql://there/db")
    assert chosen_database(str(box), None, tmp_path) == "postgresql://there/db"
    monkeypatch.setenv("DREAMSEED_PROFILE", str(box))
    assert chosen_database(None, None, tmp_path) == "postgresql://there/db"


def test_a_restore_without_yes_does_nothing(host: Settings, run: Run) -> None:
    """A logical backup cannot be rolled to a moment, and two goals are one too many."""
    id_ = made(host).id
    code, answer = run("restore")
    assert (code, answer["data"]["id"], answer["data"]["done"]) == (0, id_, False)
    assert answer["data"]["skipped"] == []
    assert run("restore", id_, "--lsn", "0/1")[0] == 2
    assert run("restore", "--lsn", "0/1", "--point", "x")[0] == 2
    assert run("restore", "--point", "x", "--exclusive")[0] == 2
    assert run("restore", "--time", "yesterday")[0] == 2


def test_the_preview_of_folders_is_of_them(host: Settings, run: Run, tmp_path: Path) -> None:
    """Their bytes, and what is lost of them, whatever the WAL carries further; no such database is told."""
    (tmp_path / "uploads").mkdir()
    (tmp_path / "uploads" / "a").write_bytes(b"12345")
    take = _taking({"uploads": tmp_path / "uploads"}, KEYS.recipients)
    store = host.open()
    run_backup(store, PlayedSource(kind=Kind.PHYSICAL), wish(), take_folders=take)
    store.close()
    _, answer = run("restore", "--folders-into", str(tmp_path / "to"))
    assert answer["data"]["bytes"] == 5
    assert answer["data"]["lost"].startswith("Everything written to the folders after 2025-11-10 03:00")
    id_ = made(host).id
    code, answer = run("restore", "--folders-into", str(tmp_path / "to"), "--yes")
    assert (code, answer["errors"][0]["place"]) == (2, id_)
    assert "holds no folders" in answer["errors"][0]["cause"]
    code, answer = run("restore", "--database", "never")
    assert (code, answer["errors"][0]["place"]) == (2, "never")


def test_the_preview_of_a_physical_backup_is_of_that_one(host: Settings, run: Run) -> None:
    """A newer logical one loses less, but is not what would be restored."""
    store, clock = host.open(), Clock()
    older = run_backup(store, PlayedSource(kind=Kind.PHYSICAL), wish(clock)).id
    clock.pass_days(1)
    run_backup(store, PlayedSource(), wish(clock))
    store.close()
    assert "2025-11-10 03:00" in run("restore", older)[1]["data"]["lost"]


def test_an_option_of_one_kind_chooses_the_newest_of_it(host: Settings, run: Run) -> None:
    """The newest backup is the nightly logical one, which goes into no data folder."""
    store, clock = host.open(), Clock()
    physical = run_backup(store, PlayedSource(kind=Kind.PHYSICAL), wish(clock)).id
    clock.pass_days(1)
    logical = run_backup(store, PlayedSource(), wish(clock)).id
    store.close()
    chosen = [run("restore", *given)[1]["data"]["id"] for given in ([], ["--into", "/to"], ["--quick"])]
    assert chosen == [logical, physical, physical]
    code, answer = run("restore", logical, "--into", "/to")
    assert (code, answer["errors"][0]["place"]) == (2, "--into")


@pytest.mark.parametrize(
    "options",
    [
        ["--into", "/to"],
        ["--quick"],
        ["--amcheck"],
        ["--folders-into", "/to", "--replace", "x"],
        ["--folders-into", "/to", "--database", "x"],
        ["--folders-into", "/to", "--into", "/there"],
    ],
)
def test_an_option_that_would_be_passed_over_is_refused(
    host: Settings, run: Run, tmp_path: Path, options: list[str]
) -> None:
    """Of another kind of backup, or of databases where only folders are restored; by the preview, too."""
    folder = tmp_path / "uploads"
    folder.mkdir()
    made(host, folder=folder)
    for yes in ([], ["--yes"]):
        code, answer = run("restore", *options, *yes)
        assert (code, answer["errors"][0]["place"]) == (2, options[-2] if len(options) > 2 else options[0])
        assert "no option of a" in answer["errors"][0]["cause"]


def test_a_restore_that_passes_over_a_damaged_newest_says_so(
    host: Settings, run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """In the preview, and before anything is done: more is lost for it than somebody may think."""
    clock, uploads = Clock(), tmp_path / "uploads"
    uploads.mkdir()
    older = made(host, clock, uploads).id
    clock.pass_days(1)
    newer = made(host, clock, uploads).id
    (host.home / "store" / "backups" / newer / "parts" / "000000").unlink()
    _, answer = run("restore")
    assert answer["data"]["id"] == older
    (skipped,) = answer["data"]["skipped"]
    assert (skipped["id"], skipped["errors"][0]["kind"]) == (newer, "object_missing")
    with pytest.raises(SystemExit):
        main(["restore", "-p", "laptop"])
    assert newer in "".join(capsys.readouterr().out.split())
    with pytest.raises(SystemExit) as ended:
        main(["restore", "--yes", "--folders-into", str(tmp_path / "to"), "-p", "laptop", "--json"])
    told = capsys.readouterr()
    assert not ended.value.code
    assert f"Newer, but damaged: {newer}" in told.err
    assert json.loads(told.out)["data"]["skipped"] == [skipped]


def test_a_tick_beside_a_run_that_hangs_looks_and_exits_with_5(host: Settings, run: Run) -> None:
    """It keeps what it told of, and names what it could not look at: there is no server. `--only look` does
    the same without asking for the run's lock.
    """
    with only_one(host.home, "backup"):
        code, answer = run("schedule", "run")
        assert (code, answer["errors"][0]["kind"], len(answer["errors"])) == (5, "already_running", 2)
        assert "late" in read_record(host.runs).alarms
        code, answer = run("schedule", "run", "--only", "look")
    assert (code, answer["data"]["late"], answer["data"]["ran"]) == (1, True, None)


@pytest.mark.parametrize(
    ("looked_ago", "blind", "code"),
    [(timedelta(minutes=4), False, 0), (timedelta(minutes=16), False, 1), (timedelta(hours=2), True, 0)],
)
def test_a_schedule_that_nothing_runs_is_told(
    host: Settings, run: Run, monkeypatch: pytest.MonkeyPatch, looked_ago: timedelta, blind: bool, code: int
) -> None:
    """Such as a crontab without a running cron. A look that could not read the store was one."""
    monkeypatch.setattr(install_module, "installed", lambda _: True)
    now = utc_now()
    look = Look(at=now - looked_ago, rpo_s=1.0, target_s=900.0, wal_gaps=0)
    known = {
        "look": look,
        "since": now - timedelta(days=1),
        "began": now,
        "blind_since": now if blind else None,
    }
    change_record(host.runs, lambda record: record.model_copy(update={**known, "alarms": ("rpo",)}))
    found, answer = run("schedule", "show")
    assert (found, answer["data"]["asleep"]) == (code, code == 1)


def test_a_schedule_for_another_store_than_the_profiles_is_the_one_that_is_shown(
    host: Settings,
    run: Run,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Until it is taken away, or put in place for the profile's again."""
    cron = install_module.System(units=None, cron=True, user=True)
    monkeypatch.setattr(install_module.System, "look", lambda: cron)
    monkeypatch.setattr(install_module, "installed", lambda _: True)
    monkeypatch.setattr(install_module, "install", lambda *_: ["crontab"])
    monkeypatch.setattr(install_module, "remove", lambda _: ["crontab"])
    store = f"local:{tmp_path / 'disk'}"
    disk = replace(host, table=host.table.model_copy(update={"store": store}))

    def shown() -> str:
        return str(run("schedule", "show")[1]["data"]["last"]["backup_id"])

    assert run("schedule", "install", "--store", store)[0] == 0
    assert read_record(disk.runs).since is not None
    assert read_record(host.runs).since is None
    change_record(disk.runs, lambda record: record.model_copy(update={"backup_id": "on-the-disk"}))
    assert shown() == "on-the-disk"
    assert run("schedule", "install")[0] == 0
    assert shown() == ""
    assert run("schedule", "install", "--store", store)[0] == 0
    with pytest.raises(SystemExit):
        main(["schedule", "remove"])
    capsys.readouterr()
    assert shown() == ""
