"""A base backup's tar: read in any portions, and nothing forged or cut off gets past it."""

from __future__ import annotations

import errno
import io
import os
import tarfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dreamseed_cli.backup import unpack
from dreamseed_cli.backup.physical.label import LabelInvalid, read_span
from dreamseed_cli.backup.tar import TarBroken, TarReader, is_safe
from dreamseed_cli.backup.unpack import Unpacking


class _Kept:
    """A handler that keeps all."""

    def __init__(self) -> None:
        self.found: list[tuple[str, bool, bytes]] = []

    def header(self, block: bytes) -> None:
        assert len(block) == tarfile.BLOCKSIZE

    def begin(self, path: str, mode: int, *, folder: bool) -> None:
        self._now = (path, folder, bytearray())

    def data(self, piece: memoryview) -> None:
        self._now[2].extend(piece)

    def end(self) -> None:
        self.found.append((self._now[0], self._now[1], bytes(self._now[2])))


def _tar(files: dict[str, bytes], folders: tuple[str, ...] = ()) -> bytes:
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for folder in folders:
            info = tarfile.TarInfo(folder)
            info.type = tarfile.DIRTYPE
            archive.addfile(info)
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return sink.getvalue()


@given(st.lists(st.integers(1, 4000), max_size=8), st.lists(st.binary(max_size=1500), max_size=4))
@settings(max_examples=40, deadline=None)
def test_any_portions_give_the_same_members(cuts: list[int], contents: list[bytes]) -> None:
    """Where the stream is cut does not matter."""
    files = {f"base/{number}": data for number, data in enumerate(contents)}
    data = _tar(files, ("base",))
    kept = _Kept()
    reader = TarReader(kept, place="base.tar")
    for cut in cuts:
        reader.feed(data[:cut])
        data = data[cut:]
    reader.feed(data)
    reader.finish()
    assert kept.found == [("base", True, b""), *((name, False, content) for name, content in files.items())]


@pytest.mark.parametrize("keep", [0, 100, 512, 700, 1024])
def test_a_tar_that_is_cut_off(keep: int) -> None:
    """Without its end it is no whole copy."""
    reader = TarReader(_Kept(), place="base.tar")
    reader.feed(_tar({"PG_VERSION": b"18\n"})[:keep])
    with pytest.raises(TarBroken, match="cut off"):
        reader.finish()


def test_a_damaged_header() -> None:
    """A header has a checksum."""
    data = bytearray(_tar({"PG_VERSION": b"18\n"}))
    data[3] ^= 1
    with pytest.raises(TarBroken, match="damaged"):
        TarReader(_Kept(), place="base.tar").feed(bytes(data))


@pytest.mark.parametrize("name", ["/etc/passwd", "../x", "base/../../x", "a//b", "x/.."])
def test_no_name_leaves_the_folder(name: str) -> None:
    """A forged archive writes nowhere else."""
    assert not is_safe(name)


def test_links_are_refused() -> None:
    """A link could lead anywhere; tablespaces are refused when the backup is made."""
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode="w") as archive:
        info = tarfile.TarInfo("pg_tblspc/16384")
        info.type, info.linkname = tarfile.SYMTYPE, "/etc"
        archive.addfile(info)
    with pytest.raises(TarBroken, match="neither a file nor a folder"):
        TarReader(_Kept(), place="base.tar").feed(sink.getvalue())


def test_files_are_written_once_and_for_their_owner(tmp_path: Path) -> None:
    """Modes are the server's own, and a second file of one name is a forgery."""
    data = _tar({"base/1": b"one", "empty": b""}, ("base",))
    with Unpacking(tmp_path, place="base.tar") as unpacking:
        unpacking.feed(data)
        unpacking.finish()
    assert (tmp_path / "base" / "1").read_bytes() == b"one"
    assert (tmp_path / "base" / "1").stat().st_mode & 0o077 == 0
    with pytest.raises(TarBroken, match="twice"), Unpacking(tmp_path, place="base.tar") as unpacking:
        unpacking.feed(data)


def test_the_disk_is_sent_to_work_while_a_file_grows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every byte once, so that little is left for recovery's fsync."""
    sent: list[tuple[int, int]] = []
    monkeypatch.setattr(unpack, "_SENT_AT_ONCE", 1000)
    monkeypatch.setattr(os, "posix_fadvise", lambda _fd, start, size, _advice: sent.append((start, size)))
    data = _tar({"1": bytes(2500), "2": b"small"})
    with Unpacking(tmp_path, place="base.tar") as unpacking:
        for start in range(0, len(data), 600):
            unpacking.feed(data[start : start + 600])
    assert sent[0][0] == 0
    assert sum(size for _, size in sent[:-1]) == 2500
    assert [start for start, _ in sent[1:-1]] == [start + size for start, size in sent[:-2]]
    assert sent[-1] == (0, 5)


def test_a_disk_that_takes_no_advice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Is written to all the same."""

    def refuse(*_: object) -> None:
        raise OSError(errno.ENOSYS, "not there")

    monkeypatch.setattr(os, "posix_fadvise", refuse)
    with Unpacking(tmp_path, place="base.tar") as unpacking:
        unpacking.feed(_tar({"1": b"one"}))
    assert (tmp_path / "1").read_bytes() == b"one"


def test_a_copy_that_does_not_say_where_it_lies() -> None:
    """Label and manifest give the span, or there is no backup."""
    label = b"START WAL LOCATION: 0/2000028 (file 000000010000000000000002)\nCHECKPOINT LOCATION: 0/2000080\n"
    manifest = b'{"WAL-Ranges": [{"Timeline": 1, "Start-LSN": "0/2000028", "End-LSN": "0/2000120"}]}'
    span = read_span(label, manifest, 1 << 24)
    assert (span.timeline, span.start_lsn, span.stop_lsn) == (1, "0/2000028", "0/2000120")
    for broken in (b"{}", b'{"WAL-Ranges": []}', b"[", manifest.replace(b"2000120", b"1000000")):
        with pytest.raises(LabelInvalid):
            read_span(label, broken, 1 << 24)
    with pytest.raises(LabelInvalid):
        read_span(b"", manifest, 1 << 24)
