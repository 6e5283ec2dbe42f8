"""What proves a restore, and what it is made from: comparing, packing, and roles that exist already."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dreamseed_cli.backup.logical.archive import ArchiveInvalid, packed, unpack
from dreamseed_cli.backup.logical.proof import DigestsDiffer, compare_tables
from dreamseed_cli.backup.logical.restore import without_existing
from dreamseed_cli.backup.logical.temporary import check_room, forget_dumps, temporary_folder
from dreamseed_cli.backup.manifest import Table
from dreamseed_cli.backup.store.errors import StoreFull


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
    unpack((stream[at : at + cut] for at in range(0, len(stream), cut)), folder)
    assert [(folder / f"{index}.dat").read_bytes() for index in range(len(files))] == files


def test_an_archive_that_is_cut_off(tmp_path: Path) -> None:
    """It never looks whole."""
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "toc.dat").write_bytes(b"x" * 5000)
    stream = b"".join(packed(tmp_path / "a"))
    for length in (3000, 100):
        with pytest.raises(ArchiveInvalid):
            unpack([stream[:length]], tmp_path / f"b{length}")


def test_roles_that_exist() -> None:
    """They are not made again; our own password stays; everything else is done."""
    script = b"""CREATE ROLE me;
ALTER ROLE me WITH SUPERUSER PASSWORD 'x';
ALTER ROLE me SET work_mem TO '1MB';
CREATE ROLE "B c";
CREATE ROLE "B c2";
ALTER ROLE "B c" WITH LOGIN;"""
    assert without_existing(script, ["me", '"B c"'], "me") == (
        b'ALTER ROLE me SET work_mem TO \'1MB\';\nCREATE ROLE "B c2";\nALTER ROLE "B c" WITH LOGIN;'
    )


def test_temporary_folders_do_not_stay(tmp_path: Path) -> None:
    """Nor do those of a run that was killed; one that is in use, and other files, are left alone."""
    (tmp_path / "dreamseed-dump-old" / "dump").mkdir(parents=True)
    (tmp_path / "other").mkdir()
    with temporary_folder(tmp_path) as folder:
        (folder / "dump").mkdir()
        forget_dumps(tmp_path)
        assert {path.name for path in tmp_path.iterdir()} == {folder.name, "other"}
        assert folder.stat().st_mode & 0o077 == 0
    assert [path.name for path in tmp_path.iterdir()] == ["other"]


def test_room_is_checked_beforehand(tmp_path: Path) -> None:
    """With both figures."""
    check_room(tmp_path, 1)
    with pytest.raises(StoreFull, match="are free and about 1,000,000,000,000,000 are needed"):
        check_room(tmp_path, 10**15)
