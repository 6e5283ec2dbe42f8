"""Object names: made and read back, and nothing foreign taken for ours."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone

import pytest

from dreamseed_cli.backup import names
from dreamseed_cli.backup.names import Heartbeat, Kind, NameInvalid
from dreamseed_cli.backup.wal_names import parse_wal_file

NOW = datetime(2025, 11, 10, 3, 0, 5, 900_000, tzinfo=UTC)
ID = "20251110T030005Z-physical-7f3a9c01"
DIGEST = "ab" * 32


def test_ids_say_when_and_what() -> None:
    """An id is its moment in UTC, its kind and a random suffix."""
    seoul = NOW.astimezone(timezone(timedelta(hours=9)))
    made = names.new_backup_id(Kind.PHYSICAL, seoul, "7f3a9c01")
    assert made == ID
    assert names.parse_backup_id(made).kind is Kind.PHYSICAL
    assert names.parse_backup_id(made).stamp == NOW.replace(microsecond=0)


def test_ids_sort_by_moment_and_never_collide() -> None:
    """Later ids sort behind; two of one second (a clock set back) differ by chance."""
    assert names.new_backup_id(Kind.LOGICAL, NOW + timedelta(seconds=1)) > ID
    assert len({names.new_backup_id(Kind.LOGICAL, NOW) for _ in range(100)}) == 100


def test_a_moment_without_a_time_zone_is_refused() -> None:
    """Local time would sort wrongly twice a year."""
    with pytest.raises(NameInvalid):
        names.stamp(NOW.replace(tzinfo=None))


def test_backup_objects_round_trip() -> None:
    """Manifest and parts are told apart; parts sort in their order."""
    assert names.parse_backup_object(names.manifest_name(ID)) == names.BackupObject(ID, None)
    assert names.parse_backup_object(names.part_name(ID, 42)) == names.BackupObject(ID, 42)
    assert names.part_name(ID, 9) < names.part_name(ID, 10) < names.part_name(ID, 100_000)


@pytest.mark.parametrize(
    "file", ["000000020000000000000007", "000000020000000000000007.00000028.backup", "00000002.history"]
)
def test_wal_objects_round_trip(file: str) -> None:
    """A WAL object names its file and its content, and lies in its timeline's folder."""
    wal = parse_wal_file(file)
    name = names.wal_name(wal, DIGEST)
    assert name == f"wal/00000002/{file}.{DIGEST}"
    assert names.parse_wal_object(name) == names.WalObject(wal, DIGEST)
    assert name.startswith(names.wal_prefix(wal))


def test_a_segments_prefix_does_not_match_its_label() -> None:
    """Only digests, not labels or partial files, may be taken for other bytes of the same segment."""
    segment = parse_wal_file("000000020000000000000007")
    label = names.wal_name(parse_wal_file("000000020000000000000007.00000028.backup"), DIGEST)
    assert label.startswith(names.wal_prefix(segment))
    assert names.parse_wal_object(label).file != segment


def test_small_objects_round_trip() -> None:
    """Pins, verifications, heartbeats and blobs."""
    beat = Heartbeat(NOW.replace(microsecond=0), 2, 0x16B374D848)
    assert names.parse_heartbeat(names.heartbeat_name(beat)) == beat
    assert names.parse_pin(names.pin_name(ID)) == ID
    found = names.parse_verification(names.verification_name(ID, NOW, "restored"))
    assert (found.backup_id, found.at, found.level) == (ID, NOW.replace(microsecond=0), "restored")
    assert names.blob_name(DIGEST) == f"blobs/{DIGEST}"


@pytest.mark.parametrize(
    ("parse", "name"),
    [
        (names.parse_backup_object, f"backups/{ID}/parts/1"),
        (names.parse_backup_object, f"backups/{ID}/manifest.json.tmp"),
        (names.parse_backup_object, "backups/../manifest.json"),
        (names.parse_wal_object, f"wal/00000001/000000020000000000000007.{DIGEST}"),
        (names.parse_wal_object, f"wal/00000002/0000000200000000000FFFFF.{DIGEST}"),
        (names.parse_wal_object, "wal/00000002/000000020000000000000007"),
        (names.parse_pin, "pins/x"),
        (names.parse_verification, f"verifications/{ID}/yesterday.restored"),
        (names.parse_verification, f"verifications/{ID}/20251399T030005Z.restored"),
        (names.parse_heartbeat, "heartbeats/20251110T030005Z.2.16"),
        (names.parse_backup_id, f"{ID}\n"),
        (names.blob_name, DIGEST.upper()),
        (names.manifest_name, "../../etc"),
    ],
)
def test_foreign_names_are_refused(parse: Callable[[str], object], name: str) -> None:
    """What does not fit exactly is no object of ours."""
    with pytest.raises(NameInvalid):
        parse(name)


@pytest.mark.parametrize("index", [-1, 1_000_000])
def test_part_numbers_have_six_digits(index: int) -> None:
    """A number that would not sort is refused."""
    with pytest.raises(NameInvalid):
        names.part_name(ID, index)
