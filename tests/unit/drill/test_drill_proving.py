"""A drill passes on what it compared, not on what it could not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import pytest
from backup_runs import settings
from drill_records import TARGETS

from dreamseed_cli.backup.manifest import Table
from dreamseed_cli.drill.content import DIGESTS, NO_TABLE, ROW_COUNTS, Content
from dreamseed_cli.drill.history import Folder
from dreamseed_cli.drill.proving import OWN_DIGESTS, Known, prove_compared
from dreamseed_cli.drill.record import DrillRecord
from dreamseed_cli.drill.run import Company, run_drill
from dreamseed_cli.drill.stage import Stage, Wish
from dreamseed_cli.drill.timeline import Check, Heartbeat, Outcome, Step
from dreamseed_cli.profile.drill import ScenarioName

_UNDONE = (Check(ROW_COUNTS, None, "moved"), Check(DIGESTS, None, "moved"), Check(OWN_DIGESTS, None, "none"))
_EMPTY = Content(100, {"school": ()}, {})
_FIVE = Content(
    100,
    {"school": ()},
    {
        ("school", "public", name): Table(
            database="school", schema_name="public", name=name, rows=1, digest="a" * 64
        )
        for name in "abcde"
    },
)
_SOUND = (Check("schema", True, "equal"), Check("page checksums", True, "no bad page"))


@dataclass
class Compared:
    """Everything came back in time: these tables, with these checks of them, of a source that had those."""

    found: Content
    checks: Sequence[Check]
    source: Content | None = None
    name: ClassVar[ScenarioName] = "lost-host"
    title: ClassVar[str] = "a test's own"

    def play(self, stage: Stage) -> None:
        stage.mark(Step.LOSS)
        stage.mark(Step.ANSWERED)
        stage.prove([Heartbeat(stage.clock.now(), "a row")])
        stage.checks += [*_SOUND, *self.checks]
        prove_compared(stage, Known(self.source, "", lambda: self.found), self.found)


def _drill(folder: Path, scenario: Compared) -> DrillRecord:
    made = settings(folder / "home")
    company = Company(TARGETS, Folder(folder / "drills"), folder / "scratch")
    return run_drill(scenario, Wish(made, made.key_file), company)


@pytest.mark.parametrize("checks", [_UNDONE, _UNDONE[1:2], ()], ids=["undone", "no source", "none at all"])
def test_a_drill_that_compared_no_table_is_no_pass(tmp_path: Path, checks: Sequence[Check]) -> None:
    """However fast and sound what came back is: it may be the wrong data."""
    record = _drill(tmp_path, Compared(_FIVE, checks))
    assert record.outcome is Outcome.FAILED
    (said,) = record.misses
    assert said.startswith("content compared: of 5 tables, none: nobody knows")
    assert "backup.digests" in said


@pytest.mark.parametrize("which", range(3))
def test_one_comparison_of_the_content_is_enough(tmp_path: Path, which: int) -> None:
    """With the source, or with what the backup itself noted: it is named."""
    done = Check(_UNDONE[which].name, True, "equal")
    record = _drill(tmp_path, Compared(_FIVE, [*_UNDONE[:which], done, *_UNDONE[which + 1 :]]))
    assert record.outcome is Outcome.PASSED
    assert record.checks[-1] == Check("content compared", True, f"by {done.name}")


def test_nothing_of_a_source_with_tables_is_no_pass(tmp_path: Path) -> None:
    """The backup was of another server, or of a time before there was anything."""
    record = _drill(tmp_path, Compared(_EMPTY, _UNDONE, _FIVE))
    assert record.outcome is Outcome.FAILED


def test_a_database_without_a_table_has_nothing_to_compare_and_says_so(tmp_path: Path) -> None:
    """It came back as it was: a pass, and no word about data."""
    record = _drill(tmp_path, Compared(_EMPTY, _UNDONE, _EMPTY))
    assert record.outcome is Outcome.PASSED
    assert record.checks[-1] == Check("content compared", None, NO_TABLE)
    assert record.notes == ("There was no table in it: nothing is shown about data.",)
