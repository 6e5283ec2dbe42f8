"""The catalogue of a store: good backups newest first, and what only looks like one, named."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from dreamseed_cli.backup import names
from dreamseed_cli.backup.catalog import Catalog, read_catalog
from dreamseed_cli.backup.keys import NewKeys, parse_recipients
from dreamseed_cli.backup.manifest import (
    Compression,
    Identity,
    Level,
    Manifest,
    Producer,
    Proof,
    Span,
    StoredPart,
    Stream,
    Versions,
    WalSpan,
)
from dreamseed_cli.backup.seal import seal
from dreamseed_cli.backup.store.base import Store
from dreamseed_cli.backup.store.open import open_store
from dreamseed_cli.backup.wal_names import DEFAULT_SEGMENT_BYTES, SegmentRange

START = datetime(2025, 11, 10, 3, tzinfo=UTC)
KEYS = NewKeys.create()
TO = parse_recipients(KEYS.recipients, place="test")
PARTS = [seal(b"first part", TO), seal(b"second part", TO)]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """A local store of the test's own."""
    opened = open_store(f"local:{tmp_path / 'store'}", create=True)
    yield opened
    opened.close()


def manifest(sequence: int, day: int, *, pinned: bool = False) -> Manifest:
    """A physical backup of two parts, made so many days after START."""
    moment = START + timedelta(days=day)
    offsets = (0, PARTS[0].plain_size)
    return Manifest(
        identity=Identity(
            backup_id=names.new_backup_id(names.Kind.PHYSICAL, moment, f"{sequence:08x}"),
            kind=names.Kind.PHYSICAL,
            sequence=sequence,
            system_identifier="7421907384612345678",
            cluster="main",
            host="box",
        ),
        versions=Versions(dreamseed="0", server="15.14", server_version_num=150014),
        span=Span(started=moment, ended=moment, duration_s=1.0),
        wal=WalSpan(
            timeline=1,
            start_lsn="0/2000028",
            checkpoint_lsn="0/2000060",
            stop_lsn="0/4000000",
            segment_bytes=DEFAULT_SEGMENT_BYTES,
        ),
        producers=(Producer(name="pg_basebackup", version="15.14", exit_code=0),),
        streams=(Stream(name="base.tar", size=sum(part.plain_size for part in PARTS)),),
        parts=tuple(
            StoredPart(
                index=index,
                stream="base.tar",
                offset=offsets[index],
                plain_size=part.plain_size,
                stored_size=len(part.cipher),
                plain_sha256=part.plain_sha256,
                cipher_sha256=part.cipher_sha256,
            )
            for index, part in enumerate(PARTS)
        ),
        databases=(),
        extensions=(),
        roles=(),
        tables=(),
        compression=Compression(level=3),
        recipients=KEYS.recipients,
        proof=Proof(level=Level.REREAD, at=moment),
        pinned=pinned,
    )


def upload(store: Store, made: Manifest, *, parts: int = 2, with_manifest: bool = True) -> str:
    """Put a backup, or what there is of one; its id."""
    id_ = made.identity.backup_id
    for index, part in enumerate(PARTS[:parts]):
        store.put(names.part_name(id_, index), part.cipher)
    if with_manifest:
        store.put(names.manifest_name(id_), made.to_bytes())
    return id_


def ids(catalog: Catalog) -> list[str]:
    """The good backups' ids, in order."""
    return [entry.id for entry in catalog.backups]


def test_an_empty_store_has_no_backups(store: Store) -> None:
    """Nothing to offer is an answer, not an error."""
    catalog = read_catalog(store)
    assert catalog == Catalog()
    assert catalog.newest() is None


def test_backups_come_newest_first_by_sequence(store: Store) -> None:
    """One made while the clock was 40 days behind is still the newest."""
    old, middle, new = (upload(store, manifest(n, day)) for n, day in ((1, 0), (2, 1), (3, -39)))
    catalog = read_catalog(store)
    assert ids(catalog) == [new, middle, old]
    assert (catalog.damaged, catalog.incomplete, catalog.foreign) == ((), (), ())
    newest = catalog.newest(names.Kind.PHYSICAL)
    assert newest is not None
    assert newest.id == new
    assert catalog.newest(names.Kind.LOGICAL) is None


def test_parts_without_a_manifest_are_no_backup(store: Store) -> None:
    """A run that died, or is under way: its size and objects are told, it is never offered."""
    id_ = upload(store, manifest(1, 0), with_manifest=False)
    catalog = read_catalog(store)
    (found,) = catalog.incomplete
    assert catalog.backups == ()
    assert (found.id, found.size) == (id_, sum(len(part.cipher) for part in PARTS))
    assert found.objects == tuple(names.part_name(id_, index) for index in (0, 1))


def test_a_missing_part_is_named_and_an_older_backup_offered(store: Store) -> None:
    """The damaged one is out of the list; what is missing stands in its error."""
    good = upload(store, manifest(1, 0))
    bad = upload(store, manifest(2, 1), parts=1)
    catalog = read_catalog(store)
    (damaged,) = catalog.damaged
    (error,) = damaged.errors
    assert damaged.id == bad
    assert error.place.endswith(names.part_name(bad, 1))
    offered = catalog.next_older(bad)
    assert offered is not None
    assert offered.id == good
    assert catalog.next_older(good) is None


def test_a_part_of_another_size_is_named(store: Store) -> None:
    """A truncated part is seen in the listing alone."""
    made = manifest(1, 0)
    id_ = upload(store, made, parts=1)
    store.put(names.part_name(id_, 1), PARTS[1].cipher[:-1])
    (damaged,) = read_catalog(store).damaged
    assert "the manifest says" in str(damaged.errors[0])


@pytest.mark.parametrize("content", [b"", b"<html>", b'{"version":99}', b'{"version":1}'])
def test_a_damaged_manifest_hides_no_other_backup(store: Store, content: bytes) -> None:
    """One unreadable manifest is named with its place, and the rest is listed."""
    good = upload(store, manifest(1, 0))
    bad = upload(store, manifest(2, 1), with_manifest=False)
    store.put(names.manifest_name(bad), content)
    catalog = read_catalog(store)
    assert ids(catalog) == [good]
    assert catalog.damaged[0].id == bad
    assert names.manifest_name(bad) in catalog.damaged[0].errors[0].place


def test_a_manifest_in_anothers_place_is_refused(store: Store) -> None:
    """Swapped objects do not pass for a backup."""
    bad = upload(store, manifest(2, 1), with_manifest=False)
    store.put(names.manifest_name(bad), manifest(1, 0).to_bytes())
    (damaged,) = read_catalog(store).damaged
    assert "it is the manifest of" in str(damaged.errors[0])


def test_later_proofs_and_pins_count(store: Store) -> None:
    """The highest level that was ever proven, with its newest moment; a pin of either kind."""
    id_ = upload(store, manifest(1, 0))
    pinned_at_birth = upload(store, manifest(2, 1, pinned=True))
    later = [START + timedelta(days=day) for day in (1, 2, 3)]
    for moment, level in zip(later, ("restored", "restored", "none-that-we-know"), strict=True):
        store.put(names.verification_name(id_, moment, level), b"{}")
    store.put(names.pin_name(id_), b"")
    store.put("pins/nonsense", b"")
    by_id = {entry.id: entry for entry in read_catalog(store).backups}
    assert by_id[id_].proof == Proof(level=Level.RESTORED, at=later[1])
    assert by_id[id_].pinned
    assert by_id[pinned_at_birth].pinned


def test_foreign_objects_are_told(store: Store) -> None:
    """What is not ours under `backups/` is neither a backup nor touched."""
    store.put("backups/notes.txt", b"mine")
    assert read_catalog(store).foreign == ("backups/notes.txt",)


def test_retention_gets_the_segments_that_make_it_consistent(store: Store) -> None:
    """From the segment of the start LSN to the one that the stop LSN ends."""
    upload(store, manifest(5, 0))
    (entry,) = read_catalog(store).backups
    facts = entry.for_retention()
    assert (facts.sequence, facts.started, facts.level) == (5, START, Level.REREAD)
    assert facts.wal == SegmentRange(2, 3)
