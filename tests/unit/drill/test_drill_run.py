"""A drill's frame: recorded and cleaned up however it ends."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import ClassVar

import psycopg
import pytest
from backup_runs import PlayedSource, settings
from backup_runs import wish as backup_wish
from drill_records import TARGETS
from drill_records import record as record_of

from dreamseed_cli.app import main
from dreamseed_cli.backup.lock import AlreadyRunning, only_one
from dreamseed_cli.backup.run import run_backup
from dreamseed_cli.core.errors import FailedError
from dreamseed_cli.core.processes import ProcessIdentity, boot_id
from dreamseed_cli.drill.doors import play, settle
from dreamseed_cli.drill.due import standing
from dreamseed_cli.drill.extrapolate import Sizes
from dreamseed_cli.drill.history import Folder
from dreamseed_cli.drill.leftovers import clear
from dreamseed_cli.drill.run import UNFINISHED, Company, DrillFailed, raise_failure, run_drill
from dreamseed_cli.drill.stage import Stage, Wish
from dreamseed_cli.drill.timeline import Heartbeat, Outcome, Step, Targets
from dreamseed_cli.profile.drill import Drill, ScenarioName


class Killed(BaseException):
    """Stands for a SIGKILL: nothing of ours records it."""


@dataclass
class Played:
    """Ends as it is told to."""

    error: BaseException | None = None
    name: ClassVar[ScenarioName] = "lost-host"
    title: ClassVar[str] = "a test's own"

    def play(self, stage: Stage) -> None:
        (stage.scratch / "copy").mkdir()
        stage.mark(Step.LOSS)
        if self.error is not None:
            raise self.error
        stage.prove([None, Heartbeat(stage.clock.now(), "a row")])
        stage.sizes = Sizes(1000, 2000, 1.0, 1.0)
        stage.database_bytes = 4000
        stage.mark(Step.ANSWERED)


@pytest.fixture
def wish(tmp_path: Path) -> Wish:
    """Keys and a store, no database."""
    made = settings(tmp_path / "home")
    return Wish(made, made.key_file)


@pytest.fixture
def company(tmp_path: Path) -> Company:
    """Of the test's own."""
    return Company(TARGETS, Folder(tmp_path / "drills"), tmp_path / "scratch", link_mbps=8.0)


def test_a_drill_that_went_well_is_kept_and_leaves_nothing(wish: Wish, company: Company) -> None:
    """With what the link says, computed."""
    record = run_drill(Played(), wish, company)
    assert record.outcome is Outcome.PASSED
    assert record.extrapolated is not None
    assert record.extrapolated.fetch_s == 0.002
    assert company.folder.read().records == (record,)
    assert list(company.scratch.iterdir()) == []
    raise_failure(record)


def test_a_forced_miss_is_no_failure(wish: Wish, company: Company) -> None:
    """Targets that nothing can meet: recorded as missed."""
    hard = Company(Targets(rpo_s=900.0, rto_s=0.0), company.folder, company.scratch)
    record = run_drill(Played(), wish, hard)
    assert (record.outcome, record.passed) == (Outcome.MISSED, False)
    raise_failure(record)


@pytest.mark.parametrize(
    "error", [FailedError("the bucket is empty"), psycopg.OperationalError("the bucket is empty\n")]
)
def test_a_forced_failure_is_kept_with_its_cause(wish: Wish, company: Company, error: Exception) -> None:
    """And can be raised from its record."""
    record = run_drill(Played(error), wish, company)
    assert record.outcome is Outcome.FAILED
    assert record.misses == ("the bucket is empty",)
    assert list(company.scratch.iterdir()) == []
    with pytest.raises(DrillFailed, match="the bucket is empty"):
        raise_failure(record)


@pytest.mark.parametrize("error", [KeyboardInterrupt(), RuntimeError("a mistake of ours")])
def test_interrupted_or_broken_it_is_cleaned_up_and_recorded(
    wish: Wish, company: Company, error: BaseException
) -> None:
    """Raised on, too."""
    with pytest.raises(type(error)):
        run_drill(Played(error), wish, company)
    assert [one.outcome for one in company.folder.read().records] == [Outcome.FAILED]
    assert list(company.scratch.iterdir()) == []


def test_a_killed_drill_counts_as_failed(wish: Wish, company: Company) -> None:
    """Once, with a page; it is tried again a day later, not every hour."""
    with pytest.raises(Killed):
        run_drill(Played(Killed()), wish, company)
    assert company.folder.read().records == ()
    settle(company.folder)
    settle(company.folder)
    (record,) = company.folder.read().records
    assert (record.outcome, record.misses) == (Outcome.FAILED, (UNFINISHED,))
    assert (company.folder.root / f"{record.id}.html").is_file()
    found = [
        standing("lost-host", [record], Drill(), None, record.began + timedelta(hours=h)) for h in (1, 25)
    ]
    assert [one.due for one in found] == [False, True]
    assert UNFINISHED in (found[0].alarm or "")


def test_a_drill_that_was_killed_after_it_was_kept_is_no_second_one(wish: Wish, company: Company) -> None:
    """Its record stands."""
    record = run_drill(Played(), wish, company)
    company.folder.begin(record.model_copy(update={"outcome": Outcome.FAILED}))
    settle(company.folder)
    assert company.folder.read().records == (record,)


def test_the_schedule_does_not_rehearse_right_after_a_killed_drill(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It records what the killed one could not."""
    monkeypatch.setenv("DREAMSEED_BACKUP_DIR", str(tmp_path / "home"))
    now = datetime.now(UTC)
    began = record_of(outcome=Outcome.FAILED, began=now, ended=now)
    Folder(tmp_path / "state" / "drills").begin(began)
    for words, drills in (("due", 0), ("history", 1)):
        with pytest.raises(SystemExit):
            main(["drill", words, "--state-dir", str(tmp_path / "state"), "--json"])
        assert len(json.loads(capsys.readouterr().out)["data"]["drills"]) == drills


def test_what_a_killed_drill_left_is_removed_by_the_next(company: Company) -> None:
    """One that still runs is left alone."""
    dead = company.scratch / "dreamseed-drill-dead"
    dead.mkdir(parents=True)
    (dead / "owner.json").write_text('{"pid": 1, "started": -1, "boot": "another"}')
    broken = company.scratch / "dreamseed-drill-broken"
    broken.mkdir()
    me = ProcessIdentity.of(os.getpid())
    assert me is not None
    alive = company.scratch / "dreamseed-drill-alive"
    alive.mkdir()
    (alive / "owner.json").write_text(f'{{"pid": {me.pid}, "started": {me.started}, "boot": "{boot_id()}"}}')
    assert clear(company.scratch) == [broken, dead]
    assert list(company.scratch.iterdir()) == [alive]


def test_without_room_for_its_copies_a_drill_copies_nothing(
    wish: Wish, company: Company, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It fails with place, cause and remedy before the first copy; three databases and a reserve must fit."""
    run_backup(wish.settings.open(), PlayedSource(), backup_wish())
    plain = sum(map(len, PlayedSource().chunks))
    usage = shutil.disk_usage(company.scratch.parent)
    needed = 3 * plain + 2**30
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=needed - 1))
    record = run_drill(Played(), wish, company)
    assert record.outcome is Outcome.FAILED
    assert [event.step for event in record.events] == [Step.BEGUN, Step.CLEANED]
    assert "1 GiB to spare, and 1.0 GiB are free" in record.misses[0]
    assert "--scratch" in record.misses[0]
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=needed))
    assert run_drill(Played(), wish, company).outcome is Outcome.PASSED


def test_copies_lie_in_the_cache_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The temporary one is memory on many hosts."""
    made = settings(tmp_path / "home")
    monkeypatch.setenv("DREAMSEED_BACKUP_DIR", str(made.home))
    monkeypatch.setenv("DREAMSEED_CACHE_DIR", str(tmp_path / "cache"))
    words = ["drill", "lost-host", "--surprise", "0", "--store", made.store_url]
    with pytest.raises(SystemExit) as ended:
        main([*words, "--state-dir", str(tmp_path / "state"), "--json"])
    assert ended.value.code == 4, capsys.readouterr()
    assert (tmp_path / "cache" / "drills").is_dir()


def test_two_drills_do_not_run_at_once(wish: Wish, company: Company) -> None:
    """The second is told who is at work."""
    with only_one(company.folder.root, "drill"), pytest.raises(AlreadyRunning):
        play(["lost-host"], wish, company)


def test_without_a_backup_a_drill_fails_and_says_so(wish: Wish, company: Company) -> None:
    """The real scenario, an empty store; its page is written."""
    (played,) = play(["lost-host"], wish, company)
    assert played.record.outcome is Outcome.FAILED
    assert "there is no good backup" in played.record.misses[0]
    assert "there is no good backup" in played.page.read_text()
