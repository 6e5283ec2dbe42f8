"""The manifest: what contradicts itself is no backup, and every mistake is named with its path."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from manifests import ID, document

from dreamseed_cli.backup.manifest import (
    Level,
    Locale,
    Manifest,
    ManifestInvalid,
    ManifestTooNew,
    next_sequence,
    parse_manifest,
)
from dreamseed_cli.core.errors import DreamseedError

Edit = Callable[[dict[str, Any]], object]


def canonical(data: object) -> bytes:
    """The bytes that dreamseed writes for this data."""
    return json.dumps(data, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def manifest() -> Manifest:
    """The document as a manifest."""
    return Manifest.model_validate_json(json.dumps(document()))


def test_a_manifest_round_trips_through_its_canonical_bytes() -> None:
    """The same manifest gives the same bytes and digest, whatever order its keys came in."""
    made = manifest()
    assert parse_manifest(made.to_bytes(), place="test") == made
    turned = Manifest.model_validate_json(json.dumps(dict(reversed(document().items()))))
    assert turned.digest() == made.digest()
    assert made.to_bytes() == canonical(document())


def test_a_manifest_from_before_content_was_digested_is_what_it_was() -> None:
    """Backups that exist stay good: their bytes do not change."""
    data = document() | {"tables": []}
    del data["content"]
    old = parse_manifest(canonical(data), place="test")
    assert old.content is None
    assert old.to_bytes() == canonical(data)


def test_a_manifest_from_before_locales_were_kept_is_what_it_was() -> None:
    """And one that has them reads back as it was written."""
    old = parse_manifest(canonical(document()), place="test")
    assert old.databases[0].locale is None
    locale = Locale(ctype="ko_KR.UTF-8", provider="icu", name="ko-KR")
    new = old.model_copy(update={"databases": (old.databases[0].model_copy(update={"locale": locale}),)})
    assert parse_manifest(new.to_bytes(), place="test").databases[0].locale == locale


def test_digests_of_a_manifest_that_names_no_method_are_the_first_one() -> None:
    """And it is written back without one: while such backups are kept, they are compared as they were."""
    data = document()
    del data["digest_method"]
    old = parse_manifest(canonical(data), place="test")
    assert old.digest_method == "md5"
    assert old.to_bytes() == canonical(data)


def test_sizes_are_the_parts() -> None:
    """What a list shows is the sum of the parts."""
    assert (manifest().plain_bytes, manifest().stored_bytes) == (110, 55)


def test_any_other_content_has_another_digest() -> None:
    """One row more is another backup."""
    data = document()
    data["tables"][0]["rows"] = 4
    assert Manifest.model_validate_json(json.dumps(data)).digest() != manifest().digest()


WRONG: dict[str, tuple[Edit, str]] = {
    "a part is missing": (lambda d: d["parts"].pop(1), "parts.1 has index 2"),
    "the last part is missing": (lambda d: d["parts"].pop(), "stream 'base.tar' has 100 bytes, its parts 60"),
    "a part is there twice": (lambda d: d["parts"].append(d["parts"][2]), "parts.3 has index 2"),
    "parts are out of order": (lambda d: d["parts"].reverse(), "parts.0 has index 2"),
    "a part begins elsewhere": (lambda d: d["parts"][2].update(offset=61), "parts.2 does not begin"),
    "a part is of no stream": (lambda d: d["parts"][1].update(stream="x"), "parts.1 belongs to 'x'"),
    "a stream is there twice": (lambda d: d["streams"].append(d["streams"][0]), "streams names 'base.tar'"),
    "a table is there twice": (lambda d: d["tables"].append(d["tables"][0]), "tables names"),
    "a producer failed": (lambda d: d["producers"][0].update(exit_code=1), "producers.0.exit_code"),
    "no producer is named": (lambda d: d.update(producers=[]), "producers is empty"),
    "there are no parts": (lambda d: d.update(parts=[]), "parts is empty"),
    "it is encrypted to nobody": (lambda d: d.update(recipients=[]), "recipients is empty"),
    "a private key stands in it": (lambda d: d.update(recipients=["AGE-SECRET-KEY-1XYZ"]), "recipients.0"),
    "a digest is malformed": (lambda d: d["parts"][2].update(plain_sha256="AB" * 32), "parts.2.plain_sha256"),
    "a size is below 0": (lambda d: d["parts"][0].update(stored_size=-1), "parts.0.stored_size"),
    "a size is a text": (lambda d: d["parts"][0].update(stored_size="1"), "parts.0.stored_size"),
    "a moment has no zone": (lambda d: d["span"].update(started="2025-11-10T03:00:05"), "span.started"),
    "the WAL runs backwards": (lambda d: d["wal"].update(stop_lsn="0/2000000"), "wal': start_lsn"),
    "the segment size is odd": (lambda d: d["wal"].update(segment_bytes=1), "wal': wal_segment_size"),
    "a physical one has no WAL": (lambda d: d.update(wal=None), "wal stands in a physical backup"),
    "nothing says where its tables were digested": (
        lambda d: d.pop("content"),
        "tables of a physical backup need a place",
    ),
    "content has neither place nor reason": (
        lambda d: d["content"].update(lsn=None, at=None, point=None),
        "content': content has a place and a moment",
    ),
    "content has both": (lambda d: d["content"].update(note="why not"), "content': content has a place"),
    "a logical one has content": (
        lambda d: (
            d["identity"].update(kind="logical", backup_id=ID.replace("physical", "logical")),
            d.update(wal=None),
        ),
        "content stands in a physical backup only",
    ),
    "its id is of another kind": (
        lambda d: (d["identity"].update(kind="logical"), d.update(wal=None)),
        "identity.backup_id names another kind",
    ),
    "a proof has no moment": (lambda d: d["proof"].update(at=None), "proof': a proof has a moment"),
    "a key is unknown": (lambda d: d.update(extra=1), "extra"),
    "a key is missing": (lambda d: d["identity"].pop("system_identifier"), "identity.system_identifier"),
    "a folder has no index": (
        lambda d: d["folders"].append(
            {"name": "uploads", "files": 0, "size": 0, "index_stream": "uploads", "blobs": []}
        ),
        "streams that are not there: uploads",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_contradicts_itself_is_no_backup(name: str) -> None:
    """Each mistake is refused, with the place, the path and what is wrong."""
    edit, message = WRONG[name]
    data = document()
    edit(data)
    with pytest.raises(DreamseedError) as caught:
        parse_manifest(canonical(data), place="store/manifest.json")
    (error,) = caught.value.causes()
    assert isinstance(error, ManifestInvalid)
    assert error.place.startswith("store/manifest.json")
    assert message in str(error)


def test_all_mistakes_are_named_at_once() -> None:
    """Two mistakes, two errors."""
    data = document()
    data["parts"][0]["stored_size"] = -1
    data["tables"][1]["rows"] = -1
    with pytest.raises(DreamseedError) as caught:
        parse_manifest(canonical(data), place="m")
    assert [error.place for error in caught.value.causes()] == ["m: parts.0.stored_size", "m: tables.1.rows"]


@pytest.mark.parametrize("version", [0, 2, 99])
def test_another_version_is_refused_with_the_remedy(version: int) -> None:
    """A future manifest is not guessed at, and not called damaged."""
    data = document() | {"version": version, "something": "new"}
    with pytest.raises(ManifestTooNew, match="or a newer one"):
        parse_manifest(canonical(data), place="m")


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"{}", b'{"version":"1"}', b"\xff", b"<html>"])
def test_what_is_no_manifest_is_named_so(data: bytes) -> None:
    """Half a file, another document, a web page."""
    with pytest.raises(ManifestInvalid):
        parse_manifest(data, place="m")


def test_only_canonical_bytes_are_taken() -> None:
    """A key that stands twice would say one thing to us and another to the next reader."""
    data = manifest().to_bytes()
    doubled = data.replace(b'{"compression"', b'{"pinned":true,"compression"', 1)
    for other in (doubled, data + b"\n"):
        with pytest.raises(ManifestInvalid, match="canonical"):
            parse_manifest(other, place="m")


def test_levels_are_ordered() -> None:
    """A restore proves more than a read, equal digests more than a restore."""
    assert [level.rank for level in Level] == [0, 1, 2, 3]


def test_sequence_numbers_go_up() -> None:
    """The first is 1; a gap left by a deleted backup is not filled."""
    assert next_sequence([]) == 1
    assert next_sequence([3, 9, 4]) == 10
