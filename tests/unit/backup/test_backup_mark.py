"""The mark of an unfinished restore: the same one goes on, any other begins anew."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from dreamseed_cli.backup.physical.folder import TargetTaken, finish, held, prepare
from dreamseed_cli.backup.physical.mark import MARKER, SIGNAL, Mark, read_mark, write_mark
from dreamseed_cli.backup.physical.verify import Verified
from dreamseed_cli.backup.unpack import JOURNAL
from dreamseed_cli.core.errors import UsageError

WANTED = Mark(backup_id="a", goal={"recovery_target": "immediate"}, compare_at=None, thorough=True)


@pytest.fixture
def unpacked(tmp_path: Path) -> Path:
    """A folder in which a restore was interrupted while it recovered."""
    folder = tmp_path / "data"
    prepare(folder, WANTED, 0)
    (folder / "PG_VERSION").write_text("18")
    (folder / SIGNAL).touch()
    write_mark(folder, WANTED.model_copy(update={"size": 7, "verified": Verified.CONTENT}))
    return folder


def test_the_same_restore_goes_on(unpacked: Path) -> None:
    """With what it knows already; when it is done, the folder is one like any other."""
    found, cleared = prepare(unpacked, WANTED, 0)
    assert (found.size, found.verified, cleared) == (7, Verified.CONTENT, False)
    assert (unpacked / "PG_VERSION").exists()
    finish(unpacked)
    with pytest.raises(TargetTaken):
        prepare(unpacked, WANTED, 0)


def test_one_restore_at_a_time_goes_into_a_folder(tmp_path: Path) -> None:
    """A second one is told at once, and disturbs nothing; after the first it may."""
    folder = tmp_path / "data"
    with held(folder), pytest.raises(TargetTaken, match="another restore"), held(folder):
        pass
    with held(folder):
        assert prepare(folder, WANTED, 0) == (WANTED, False)


@pytest.mark.parametrize(
    "other",
    [
        {"backup_id": "b"},
        {"goal": {"recovery_target_lsn": "0/1"}},
        {"compare_at": {"recovery_target": "immediate"}},
        {"thorough": False},
    ],
)
def test_another_one_knows_nothing_of_it(unpacked: Path, other: dict[str, Any]) -> None:
    """Recovery cannot go back, and nobody knows whether it went too far."""
    wanted = WANTED.model_copy(update=other)
    assert prepare(unpacked, wanted, 0) == (wanted, True)
    assert read_mark(unpacked) == wanted


def test_what_postgresql_has_opened_is_not_gone_on_with(unpacked: Path) -> None:
    """It has written to it since."""
    (unpacked / SIGNAL).unlink()
    assert prepare(unpacked, WANTED, 0) == (WANTED, True)


def test_one_that_was_not_unpacked(tmp_path: Path) -> None:
    """Or one whose mark is of an older version, or half written: nothing is known of it."""
    prepare(tmp_path / "a", WANTED, 0)
    assert prepare(tmp_path / "a", WANTED, 0) == (WANTED, True)
    (tmp_path / "a" / MARKER).write_text("20251110T030005Z-physical-7f3a9c01\n")
    assert read_mark(tmp_path / "a") is None
    assert prepare(tmp_path / "a", WANTED, 0) == (WANTED, True)


def test_a_finished_one_has_nothing_of_ours(tmp_path: Path) -> None:
    """Neither the mark nor the journal."""
    prepare(tmp_path, WANTED, 0)
    (tmp_path / JOURNAL).touch()
    finish(tmp_path)
    assert not any(tmp_path.iterdir())


def test_a_live_folder_is_refused(tmp_path: Path) -> None:
    """A process with the pid in postmaster.pid may be the server, even beside our mark."""
    prepare(tmp_path, WANTED, 0)
    (tmp_path / "postmaster.pid").write_text("1\n")
    with pytest.raises(TargetTaken, match="pid 1"):
        prepare(tmp_path, WANTED, 0)


def test_too_little_space(tmp_path: Path) -> None:
    """Told before anything is downloaded, and nothing is left."""
    with pytest.raises(UsageError, match="are free"):
        prepare(tmp_path, WANTED, 1 << 60)
    assert not any(tmp_path.iterdir())
