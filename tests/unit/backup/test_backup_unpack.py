"""A tar into a folder, interrupted anywhere: what is proven stays, what is not goes."""

from __future__ import annotations

import hashlib
import io
import os
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
from flipped import flipped
from hypothesis import given, settings
from hypothesis import strategies as st

from dreamseed_cli.backup import ending
from dreamseed_cli.backup.manifest import StoredPart
from dreamseed_cli.backup.unpack import JOURNAL, Unpacking

PART = 2 * tarfile.BLOCKSIZE
FILES = {
    "base/1": b"one" * 700,
    "base/empty": b"",
    "base/2": b"two" * 1024,
    "global/3": b"three" * 500,
    "backup_manifest": b"{}",
}


def _tar() -> bytes:
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for folder in ("base", "global"):
            info = tarfile.TarInfo(folder)
            info.type, info.mode = tarfile.DIRTYPE, 0o700
            archive.addfile(info)
        for name, data in FILES.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return sink.getvalue()


TAR = _tar()


def _cut_in(size: int) -> list[StoredPart]:
    """The tar's parts."""
    plain = {offset: TAR[offset : offset + size] for offset in range(0, len(TAR), size)}
    return [
        StoredPart(
            index=offset // size,
            stream="base.tar",
            offset=offset,
            plain_size=len(piece),
            stored_size=1,
            plain_sha256=hashlib.sha256(piece).hexdigest(),
            cipher_sha256="0" * 64,
        )
        for offset, piece in plain.items()
    ]


PARTS = _cut_in(PART)


def _interrupted(folder: Path, size: int, parts: list[StoredPart] | None = None) -> None:
    """The first bytes of the tar; after parts were given, behind what is kept of those."""
    with Unpacking(folder, place="base.tar") as unpacking:
        kept = 0 if parts is None else unpacking.take_up(parts)
        unpacking.feed(memoryview(TAR)[kept:size])


def _went_on(folder: Path, parts: list[StoredPart] = PARTS) -> int:
    """To the end; how much was kept. All that lies there then is what the tar holds."""
    with Unpacking(folder, place="base.tar") as unpacking:
        kept = unpacking.take_up(parts)
        unpacking.feed(memoryview(TAR)[kept:])
        unpacking.finish()
    (folder / JOURNAL).unlink()
    found = {str(path.relative_to(folder)): path for path in folder.rglob("*") if not path.is_dir()}
    assert {name: path.read_bytes() for name, path in found.items()} == FILES
    assert not any(path.is_symlink() for path in found.values())
    return kept


@given(st.lists(st.integers(0, len(TAR)), min_size=1, max_size=3))
@settings(max_examples=40, deadline=None)
def test_interrupted_anywhere(tmp_path_factory: pytest.TempPathFactory, sizes: list[int]) -> None:
    """Also while it goes on: whole parts are kept; a file's padding may be known before it comes."""
    folder = tmp_path_factory.mktemp("data")
    for size in sizes:
        _interrupted(folder, size, PARTS)
    assert 0 <= _went_on(folder) - max(sizes) // PART * PART <= PART


@given(st.integers(1, 3 * PART), st.lists(st.integers(0, len(TAR)), min_size=1, max_size=3))
@settings(max_examples=40, deadline=None)
def test_parts_of_any_size(tmp_path_factory: pytest.TempPathFactory, part: int, sizes: list[int]) -> None:
    """Those that end in the middle of a header, too."""
    folder, parts = tmp_path_factory.mktemp("data"), _cut_in(part)
    for size in sizes:
        _interrupted(folder, size, parts)
    _went_on(folder, parts)


def test_what_lies_there_is_not_read_to_the_end_when_told_to_end(tmp_path: Path) -> None:
    """It may be a whole database; the next one can still go on from it."""
    _interrupted(tmp_path, 3 * PART)
    before, work = ending.current(), ending.Work()
    work.tell()
    ending.follow(work)
    try:
        with pytest.raises(KeyboardInterrupt), Unpacking(tmp_path, place="base.tar") as unpacking:
            unpacking.take_up(PARTS)
    finally:
        ending.follow(before)
    assert _went_on(tmp_path) == 3 * PART


def _at(name: str, change: Callable[[Path], object]) -> Callable[[Path], object]:
    return lambda folder: change(folder / name)


def _outside(folder: Path) -> dict[str, bytes]:
    """What lies beside it."""
    found = [path for path in folder.parent.rglob("*") if path.is_file() and folder not in path.parents]
    return {str(path): path.read_bytes() for path in found}


def _flip(path: Path) -> None:
    path.write_bytes(flipped(path.read_bytes()))


def _cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def _lengthen(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"\0")


def _link(path: Path) -> None:
    """Another file of the same content, which is somebody else's."""
    elsewhere = path.parents[2] / "elsewhere"
    path.rename(elsewhere)
    path.symlink_to(elsewhere)


def _link_folder(folder: Path) -> None:
    elsewhere = folder.parent / "elsewhere"
    (folder / "base").rename(elsewhere)
    (folder / "base").symlink_to(elsewhere)


def _forge(folder: Path) -> None:
    """A journal that names a file outside."""
    info = tarfile.TarInfo("../elsewhere")
    info.size = 3
    (folder / JOURNAL).write_bytes(info.tobuf(tarfile.USTAR_FORMAT))


@pytest.mark.parametrize(
    "damage",
    [
        _at("base/1", _flip),
        _at("base/2", _flip),
        _at("base/1", _cut),
        _at("base/1", _lengthen),
        _at("base/1", Path.unlink),
        _at("base/1", _link),
        _at("base/empty", Path.unlink),
        _at("base", shutil.rmtree),
        _at(JOURNAL, _flip),
        _at(JOURNAL, _cut),
        _at(JOURNAL, Path.unlink),
        _link_folder,
        _forge,
    ],
)
def test_what_was_changed_meanwhile_is_not_trusted(tmp_path: Path, damage: Callable[[Path], object]) -> None:
    """It and all that follows goes, and nothing outside of the folder is written to."""
    folder = tmp_path / "data"
    folder.mkdir()
    _interrupted(folder, len(TAR) - PART)
    damage(folder)
    outside = _outside(folder)
    assert _went_on(folder) < len(TAR) - 2 * PART
    assert _outside(folder) == outside


@pytest.mark.parametrize(
    "damage",
    [
        _at("base/pipe", os.mkfifo),
        _at("base/stray", Path.touch),
        _at("stray", Path.mkdir),
        _at(JOURNAL, _lengthen),
    ],
)
def test_what_never_came_goes(tmp_path: Path, damage: Callable[[Path], object]) -> None:
    """Beside what is kept."""
    _interrupted(tmp_path, len(TAR) - PART)
    damage(tmp_path)
    assert _went_on(tmp_path) > len(TAR) - 2 * PART
    assert not (tmp_path / "stray").exists()


def test_parts_of_another_backup(tmp_path: Path) -> None:
    """Nothing of it is kept, however alike it is."""
    _interrupted(tmp_path, len(TAR))
    with Unpacking(tmp_path, place="base.tar") as unpacking:
        other = PARTS[0].model_copy(update={"plain_sha256": "0" * 64})
        assert unpacking.take_up([other, *PARTS[1:]]) == 0
    assert [(path.name, path.stat().st_size) for path in tmp_path.iterdir()] == [(JOURNAL, 0)]
