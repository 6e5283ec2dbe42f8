"""What proves a restore, and what it is made from: comparing, packing, and roles that exist already."""

from contextlib import ExitStack, suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dreamseed_cli.backup.logical.archive import packed
from dreamseed_cli.backup.logical.proof import DigestsDiffer, compare_tables
from dreamseed_cli.backup.logical.restore import without_existing
from dreamseed_cli.backup.manifest import Table
from dreamseed_cli.backup.store.errors import StoreFull, StoreUnreachable
from dreamseed_cli.backup.temporary import DUMP, check_room, forget_left, lasting_folder, temporary_folder
from dreamseed_cli.backup.unpack import Unpacking


def table(name: str = "t", rows: int = 1, digest: str | None = "0" * 64) -> Table:
    """A table of the schema `s`."""
    return Table(database="d", schema_name="s", name=name, rows=rows, digest=digest)


def test_equal_tables() -> None:
    """Everything is counted; a table without a digest is compared by its rows."""
    compared = compare_tables([table(), table("u", 2, None)], [table("u", 2), table()], set())
    assert (compared.tables, compared.rows, compared.refreshed) == (2, 3, ())


@pytest.mark.parametrize(
    ("found", "told"),
    [
        ([], "s.t is missing"),
        ([table(), table("new")], "s.new is not in the backup"),
        ([table(rows=2)], "s.t has 2 rows, 1 in the backup"),
        ([table(digest="1" * 64)], "s.t has other content"),
    ],
)
def test_any_difference_is_an_error(found: list[Table], told: str) -> None:
    """Named with its table."""
    with pytest.raises(DigestsDiffer, match=told) as caught:
        compare_tables([table()], found, set())
    assert caught.value.place == "d"


def test_many_differences_stay_readable() -> None:
    """Ten are named, the rest counted."""
    with pytest.raises(DigestsDiffer, match=r"and 20 more\. "):
        compare_tables([table(f"t{n}") for n in range(30)], [], set())


def test_only_materialised_views_may_differ() -> None:
    """Their content is in no dump; a missing one is an error all the same."""
    compared = compare_tables([table()], [table(rows=5, digest="1" * 64)], {("s", "t")})
    assert compared.refreshed == ("s.t",)
    with pytest.raises(DigestsDiffer, match="missing"):
        compare_tables([table()], [], {("s", "t")})


@given(st.lists(st.binary(max_size=1500), max_size=4), st.integers(1, 2000))
@settings(max_examples=25)
def test_a_packed_folder_unpacks(
    tmp_path_factory: pytest.TempPathFactory, files: list[bytes], cut: int
) -> None:
    """Byte for byte, in chunks of any size; packing leaves the folder empty."""
    folder = tmp_path_factory.mktemp("dump")
    for index, data in enumerate(files):
        (folder / f"{index}.dat").write_bytes(data)
    stream = b"".join(packed(folder))
    assert list(folder.iterdir()) == []
    with Unpacking(folder, place="dump.tar") as unpacking:
        for at in range(0, len(stream), cut):
            unpacking.feed(memoryview(stream)[at : at + cut])
        unpacking.finish()
    assert [(folder / f"{index}.dat").read_bytes() for index in range(len(files))] == files


def test_roles_and_tablespaces_that_exist() -> None:
    """They are not made again; our own password stays; everything else is done."""
    script = b"""CREATE ROLE me;
ALTER ROLE me WITH SUPERUSER PASSWORD 'x';
ALTER ROLE me SET work_mem TO '1MB';
CREATE ROLE "B c";
CREATE ROLE "B c2";
ALTER ROLE "B c" WITH LOGIN;
CREATE TABLESPACE fast OWNER me LOCATION '/fast';
CREATE TABLESPACE faster OWNER me LOCATION '/faster';
ALTER TABLESPACE fast SET (seq_page_cost=1);"""
    left = b"""ALTER ROLE me SET work_mem TO '1MB';
CREATE ROLE "B c2";
ALTER ROLE "B c" WITH LOGIN;
CREATE TABLESPACE faster OWNER me LOCATION '/faster';
ALTER TABLESPACE fast SET (seq_page_cost=1);"""
    assert without_existing(script, ["me", '"B c"'], ["fast"], "me") == left


def test_temporary_folders_do_not_stay(tmp_path: Path) -> None:
    """Nor do those of a run that was killed; one that is in use, and other files, are left alone."""
    (tmp_path / "dreamseed-dump-old" / "dump").mkdir(parents=True)
    (tmp_path / "other").mkdir()
    with temporary_folder(tmp_path, DUMP) as folder:
        (folder / "dump").mkdir()
        forget_left(tmp_path, DUMP)
        assert {path.name for path in tmp_path.iterdir()} == {folder.name, "other"}
        assert folder.stat().st_mode & 0o077 == 0
    assert [path.name for path in tmp_path.iterdir()] == ["other"]


@pytest.mark.parametrize(
    ("ended_by", "stays"),
    [(None, False), (KeyboardInterrupt(), False), (StoreUnreachable("away"), True), (ValueError(), False)],
)
def test_what_an_interrupted_run_had_stays_for_the_next(
    tmp_path: Path, ended_by: BaseException | None, stays: bool
) -> None:
    """Unless it ended well, was told to end, or failed otherwise. Other work there removes it."""
    name = f"{DUMP}a-1"
    with suppress(type(ended_by) if ended_by else OSError), lasting_folder(tmp_path, name) as folder:
        (folder / "toc.dat").touch()
        if ended_by:
            raise ended_by
    forget_left(tmp_path, DUMP, but=f"{DUMP}a")
    assert (tmp_path / name / "toc.dat").exists() == stays
    with lasting_folder(tmp_path, name) as folder:
        assert (folder / "toc.dat").exists() == stays
        forget_left(tmp_path, DUMP)
        assert folder.exists()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("somebody", ["open", "link", "file", "busy"])
def test_a_folder_that_is_not_ours_alone_is_not_used(tmp_path: Path, somebody: str) -> None:
    """One that others may read or have made, and one in which another run works."""
    taken, elsewhere = tmp_path / f"{DUMP}a-1", tmp_path / "elsewhere"
    elsewhere.mkdir()
    with ExitStack() as others:
        if somebody == "open":
            taken.mkdir()
            taken.chmod(0o777)
        elif somebody == "link":
            taken.symlink_to(elsewhere)
        elif somebody == "file":
            taken.touch()
        else:
            others.enter_context(lasting_folder(tmp_path, taken.name))
        with lasting_folder(tmp_path, taken.name) as folder:
            (folder / "toc.dat").touch()
            assert not folder.samefile(taken)
            assert folder.stat().st_mode & 0o077 == 0
        assert taken.exists()
        assert list(elsewhere.iterdir()) == []


def test_room_is_checked_beforehand(tmp_path: Path) -> None:
    """With both figures."""
    check_room(tmp_path, 1)
    with pytest.raises(StoreFull, match="are free and about 1,000,000,000,000,000 are needed"):
        check_room(tmp_path, 10**15)
