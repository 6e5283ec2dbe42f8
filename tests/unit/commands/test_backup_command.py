"""The backup verbs through `main`, on a local store without a server."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from backup_runs import Clock, PlayedSource, settings, wish

from dreamseed_cli.app import main
from dreamseed_cli.backup.lock import only_one
from dreamseed_cli.backup.run import Report, run_backup
from dreamseed_cli.backup.settings import Settings

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


def made(host: Settings) -> Report:
    """A backup in the host's store."""
    store = host.open()
    try:
        return run_backup(store, PlayedSource(), wish(Clock()))
    finally:
        store.close()


def test_init_prints_the_recovery_key_once_and_never_overwrites(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run: Run
) -> None:
    """The key file is its owner's alone, and does not hold the recovery key."""
    monkeypatch.setenv("DREAMSEED_BACKUP_DIR", str(tmp_path / "new"))
    code, answer = run("backup", "init")
    assert (code, answer["command"]) == (0, "backup init")
    key = Path(answer["data"]["key_file"])
    assert key.stat().st_mode & 0o777 == 0o600
    assert answer["data"]["recovery_key"] not in key.read_text()
    assert run("backup", "init")[0] == 2


def test_a_damaged_backup_is_listed_and_exits_with_1(host: Settings, run: Run) -> None:
    """`show` and `verify` of it name what is wrong."""
    report = made(host)
    assert run("backup", "list")[0] == 0
    (host.home / "store" / "backups" / report.id / "parts" / "000000").unlink()
    code, answer = run("backup", "list")
    assert (code, answer["data"]["damaged"][0]["id"]) == (1, report.id)
    assert run("backup", "show", report.id)[0] == 2


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


def test_a_restore_without_yes_does_nothing(host: Settings, run: Run) -> None:
    """A logical backup cannot be rolled to a moment, and two goals are one too many."""
    id_ = made(host).id
    code, answer = run("restore")
    assert (code, answer["data"]["id"], answer["data"]["done"]) == (0, id_, False)
    assert run("restore", id_, "--lsn", "0/1")[0] == 2
    assert run("restore", "--lsn", "0/1", "--point", "x")[0] == 2
    assert run("restore", "--time", "yesterday")[0] == 2
