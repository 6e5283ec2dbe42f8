"""Drills that are kept: signed, told apart from changed ones, with a trend; and when the next is due."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path

import pytest
from drill_records import START, record

from dreamseed_cli.core.errors import UsageError
from dreamseed_cli.drill.doors import alarm, standings
from dreamseed_cli.drill.due import standing
from dreamseed_cli.drill.history import Folder, History, trends
from dreamseed_cli.drill.record import SignedDrill
from dreamseed_cli.drill.signing import DrillKey
from dreamseed_cli.drill.timeline import Outcome
from dreamseed_cli.profile.drill import Drill

_MONTHLY = Drill()


def test_a_kept_drill_is_read_back_whole_and_signed(tmp_path: Path) -> None:
    """Every field; the key is readable by its owner only."""
    folder = Folder(tmp_path / "drills")
    kept = [record(0), record(1)]
    for one in reversed(kept):
        folder.add(one)
    found = folder.read()
    assert [one.model_copy(update={"previous": None}) for one in found.records] == kept
    assert found.errors == ()
    assert (folder.root / "signing.key").stat().st_mode & 0o777 == 0o600


def test_a_record_that_was_changed_is_no_record(tmp_path: Path) -> None:
    """Nor one that another host signed, nor something else; the others are still read."""
    folder = Folder(tmp_path)
    for day in range(3):
        folder.add(record(day))
    changed, foreign = (folder.root / f"{record(day).id}.json" for day in range(2))
    data = json.loads(changed.read_text())
    data["record"] = data["record"].replace('"rto_s":42.5', '"rto_s":2.5')
    changed.write_text(json.dumps(data))
    other = DrillKey.load(tmp_path / "other.key").sign(record(1))
    foreign.write_text(other.model_dump_json())
    (tmp_path / "20251110T000000Z-nonsense.json").write_text("{}")
    found = folder.read()
    assert [one.id for one in found.records] == [record(2).id]
    causes = sorted(error.cause for error in found.errors if hasattr(error, "cause"))
    assert causes == [
        "another key signed it", "it was changed after it was signed",
        f"the drill kept before {record(2).id} is gone, or another is in its place",
        "this is no record of a drill",
    ]  # fmt: skip


def _three(root: Path) -> tuple[Folder, list[Path]]:
    """A folder of three drills, and their files."""
    folder = Folder(root)
    return folder, [root / f"{folder.add(record(day)).id}.json" for day in range(3)]


def _causes(folder: Folder) -> list[str]:
    return [error.cause for error in folder.read().errors]


@pytest.mark.parametrize("gone", range(3))
def test_a_drill_that_was_removed_is_missed(tmp_path: Path, gone: int) -> None:
    """The first, one in between, the newest: also after another drill, which mends nothing."""
    folder, paths = _three(tmp_path)
    assert folder.read().errors == ()
    paths[gone].unlink()
    wanted = f"before {record(gone + 1).id} is gone" if gone < 2 else "the newest drill is gone"
    assert [wanted in cause for cause in _causes(folder)] == [True]
    folder.add(record(3))
    assert [f"before {record(gone + 1).id} is gone" in cause for cause in _causes(folder)] == [True]


def test_a_drill_in_the_place_of_another_is_told(tmp_path: Path) -> None:
    """A failed one's file overwritten with one that passed: both the name and the gap are told."""
    folder, paths = _three(tmp_path)
    paths[1].write_bytes(paths[0].read_bytes())
    name, gap = _causes(folder)
    assert name == f"this is the record of another drill, {record(0).id}"
    assert f"before {record(2).id} is gone" in gap
    assert [one.id for one in folder.read().records] == [record(0).id, record(2).id]


def test_the_newest_drill_cannot_go_with_its_mark(tmp_path: Path) -> None:
    """Nor does a drill after that hide it. All but the key removed: the mark misses them."""
    folder, paths = _three(tmp_path)
    mark = tmp_path / "newest"
    kept = mark.read_bytes()
    paths[2].unlink()
    mark.write_text("0" * 128 + " " + "0" * 128)
    assert _causes(folder) == ["nothing says any more which drill is the newest"]
    mark.unlink()
    folder.add(record(3))
    assert sum("does not follow" in cause for cause in _causes(folder)) == 2
    for path in tmp_path.glob("*.json"):
        path.unlink()
    mark.write_bytes(kept)
    assert _causes(folder) == ["the newest drill is gone, or another is in its place"]


def test_a_power_cut_between_a_drill_and_its_mark_breaks_nothing(tmp_path: Path) -> None:
    """The mark is one behind; the next drill follows the right one."""
    folder, _ = _three(tmp_path)
    behind = (tmp_path / "newest").read_bytes()
    folder.add(record(3))
    (tmp_path / "newest").write_bytes(behind)
    assert folder.read().errors == ()
    folder.add(record(4))
    assert folder.read().errors == ()


def test_drills_from_before_there_was_a_chain_stay_readable(tmp_path: Path) -> None:
    """The chain begins behind them."""
    folder = Folder(tmp_path)
    key = DrillKey.load(tmp_path / "signing.key")
    old = [record(0), record(1)]
    for one in old:
        data = one.model_dump(mode="json", exclude={"previous"})
        text = json.dumps(data)
        signed = SignedDrill(
            record=text, public_key=key.public, signature=key.private.sign(text.encode()).hex()
        )
        (tmp_path / f"{one.id}.json").write_text(signed.model_dump_json())
    assert folder.read() == History(tuple(old))
    folder.add(record(2))
    assert folder.read().errors == ()
    (tmp_path / f"{old[1].id}.json").unlink()
    assert len(_causes(folder)) == 1


def test_a_file_that_is_no_key_is_refused(tmp_path: Path) -> None:
    """It is never overwritten."""
    (tmp_path / "key").write_bytes(b"short")
    with pytest.raises(UsageError, match="no key for drills"):
        DrillKey.load(tmp_path / "key")
    assert (tmp_path / "key").read_bytes() == b"short"


def test_the_trend_is_the_newest_against_the_median_before() -> None:
    """By scenario; a drill that never answered has no RTO."""
    drills = [record(day, rto_s=rto) for day, rto in enumerate((10.0, None, 30.0, 20.0, 99.0))]
    (one,) = trends([*drills])
    assert (one.drills, one.rto_s, one.rto_before_s, one.rpo_before_s) == (5, 99.0, 20.0, 41.5)
    assert trends([record(0)])[0].rto_before_s is None


def test_a_drill_is_due_a_month_after_the_last_that_passed() -> None:
    """One that did not pass is tried again a day later, not every hour."""
    assert standing("lost-host", [], _MONTHLY, START, START).due
    passed = record(0)
    assert not standing("lost-host", [passed], _MONTHLY, None, START + timedelta(days=29)).due
    assert standing("lost-host", [passed], _MONTHLY, None, START + timedelta(days=31)).due
    failed = record(31, Outcome.FAILED)
    assert not standing("lost-host", [passed, failed], _MONTHLY, None, START + timedelta(days=31.5)).due
    assert standing("lost-host", [passed, failed], _MONTHLY, None, START + timedelta(days=32.1)).due


def test_overdue_and_failed_drills_are_told_of() -> None:
    """Overdue counts from the last that passed, or from the beginning of the schedule."""
    passed = record(0)
    assert standing("lost-host", [passed], _MONTHLY, None, START + timedelta(days=36)).alarm is None
    late = standing("lost-host", [passed], _MONTHLY, None, START + timedelta(days=38))
    assert late.alarm == "the lost-host drill is overdue: it last passed on 2025-11-10"
    never = standing("lost-host", [], _MONTHLY, START, START + timedelta(days=38))
    assert never.alarm == "the lost-host drill is overdue: it has never passed here"
    assert standing("lost-host", [], _MONTHLY, None, START + timedelta(days=999)).alarm is None
    missed = standing("lost-host", [record(0, Outcome.MISSED)], _MONTHLY, None, START + timedelta(days=1))
    assert missed.alarm == "the lost-host drill of 2025-11-10 missed: RTO: 42.5 s, the target is 40 s"


def test_a_drill_of_the_future_says_nothing() -> None:
    """A wrong clock made it."""
    assert standing("lost-host", [record(40)], _MONTHLY, None, START).due


def test_alarms_of_all_scenarios_are_one_text(tmp_path: Path) -> None:
    """None while all is well."""
    settings = Drill(scenarios=("lost-host", "failover"))
    found = standings(Folder(tmp_path), settings, START, START + timedelta(days=60))
    assert (alarm(found) or "").count("overdue") == 2
    assert alarm([]) is None
