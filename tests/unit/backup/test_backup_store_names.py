"""Names of objects: what every kind of store can hold, and no way out of the store's folder."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dreamseed_cli.backup.store.base import Version, check_name, check_prefix, visible
from dreamseed_cli.core.errors import UsageError


@pytest.mark.parametrize(
    "name",
    [
        "wal/000000010000000A000000FF",
        "wal/00000002.history",
        "wal/000000010000000000000003.00000028.backup",
        "backups/2026-11-29T03-00-00Z/part_00001.zst.age",
        "a",
    ],
)
def test_names_that_backups_have(name: str) -> None:
    """WAL segments, history files, backup labels and parts can be stored under their own names."""
    assert check_name(name) == name


@pytest.mark.parametrize(
    "name",
    [
        *("", "/", "/etc/passwd", "a/", "a//b", ".", "..", "a/../b", "../a", "a/..", ".hidden", "a/.part"),
        *("a b", "a\nb", "a\0b", "a\\b", "C:a", "naïve", "a*", "-rf", "a/" + "x" * 201, "a/" * 300 + "a"),
    ],
)
def test_names_refused(name: str) -> None:
    """Absolute, relative, hidden, odd and overlong names are refused before anything is done."""
    with pytest.raises(UsageError):
        check_name(name)


@settings(max_examples=60, deadline=None)
@given(st.text(alphabet="ab./-~ _\\0\n", max_size=12))
def test_no_name_leaves_the_folder(name: str) -> None:
    """Whatever is accepted stays below the folder that it is joined to, in as many parts as it shows."""
    try:
        check_name(name)
    except UsageError:
        return
    parts = name.split("/")
    assert all(part not in {"", ".", ".."} and not part.startswith(".") for part in parts)


@pytest.mark.parametrize("prefix", ["", "wal/", "wal/0000", "a/b"])
def test_prefixes_accepted(prefix: str) -> None:
    """A prefix may end anywhere in a name."""
    assert check_prefix(prefix) == prefix


@pytest.mark.parametrize("prefix", ["/", "..", "a/../", "a//", "a b"])
def test_prefixes_refused(prefix: str) -> None:
    """A prefix with which no name can start is a mistake, not an empty list."""
    with pytest.raises(UsageError):
        check_prefix(prefix)


def test_a_hide_marker_hides(version: Version, marker: Version) -> None:
    """Only the newest version counts for a reader, and a marker on top leaves nothing to see."""
    assert visible((version, marker)) is version
    assert visible((marker, version)) is None
    assert visible(()) is None


@pytest.fixture
def version() -> Version:
    """One version of an object."""
    return Version("a", "1", 3, None, datetime.now(UTC))


@pytest.fixture
def marker(version: Version) -> Version:
    """Its hide marker."""
    return replace(version, key="2", marker=True)
