"""Folders of a backup back onto a disk, and on from where that was interrupted.

A mark beside them says until the end that they are not whole. Where it lies, what is there is no more than
what a restore had come to: a file whose pieces have the SHA-256 of the backup's is kept, all else goes.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Final

from dreamseed_cli.backup import ending
from dreamseed_cli.backup.folders import NAMES, Item
from dreamseed_cli.backup.keys import parse_recipients
from dreamseed_cli.backup.manifest import Blob, Folder, Manifest
from dreamseed_cli.backup.physical.folder import check_space, held
from dreamseed_cli.backup.pipeline import KEY_TAG_BYTES, Downloader, key_tag
from dreamseed_cli.backup.store.files import os_errors, write_all
from dreamseed_cli.core.errors import FailedError, UsageError
from dreamseed_cli.core.files import sync_folder, write_atomically

MARKER: Final = ".dreamseed-restore-unfinished"
"""Lies beside the folders from the first byte to the last; no folder of a backup has a name with a dot."""


class FolderInvalid(FailedError):
    """A folder's list names what no folder of ours holds."""

    kind = "folder_invalid"


@dataclass(frozen=True, slots=True)
class RestoredFolder:
    """files: how many. kept: bytes that an interrupted restore had written, proven again."""

    files: int
    kept: int


@dataclass(frozen=True, slots=True)
class RestoredFolders:
    """files: how many, by the folder's name. kept: as of each. resumed: an interrupted one lay there."""

    files: dict[str, int]
    kept: int
    resumed: bool


def restore_folders(download: Downloader, to: Path, tell: Callable[[str], None]) -> RestoredFolders:
    """Every folder of a backup, each below `to` by its name, durably.

    Raises UsageError (one is not empty, too little space), TargetTaken (another restore is at work there),
    FolderInvalid, and the Downloader's errors.
    """
    folders = download.manifest.folders
    with held(to), os_errors(str(to)):
        begun = _begin(to, download.manifest)
        done = [
            restore_folder(folder, download, to / folder.name, begun=folder.name in begun)
            for folder in folders
        ]
        (to / MARKER).unlink()
        sync_folder(to)
    kept = sum(one.kept for one in done)
    if begun:
        tell(f"An interrupted restore lay there: {kept} bytes of it are proven again, the rest was fetched.")
    return RestoredFolders(
        {folder.name: one.files for folder, one in zip(folders, done, strict=True)}, kept, bool(begun)
    )


def restore_folder(folder: Folder, download: Downloader, to: Path, *, begun: bool = False) -> RestoredFolder:
    """Write a folder's files into `to`. begun: what lies there is a restore's that was interrupted; else `to`
    must be empty or not exist.

    Files appear whole or not at all. Raises UsageError, FolderInvalid, and the Downloader's errors.
    """
    if not begun:
        _check_empty(to)
    tags = [key_tag(parse_recipients(download.manifest.recipients, place=""), n) for n in range(NAMES)]
    return _Work(download, to, {blob.plain_sha256: blob for blob in folder.blobs}, tags).restore(
        folder.index_stream, clear=begun
    )


def _begin(to: Path, manifest: Manifest) -> frozenset[str]:
    """Mark it; the names of folders that an interrupted restore had begun."""
    folders, begun = manifest.folders, _marked(to)
    others = sorted(begun - {folder.name for folder in folders})
    if others:
        raise UsageError(
            f"an unfinished restore lies there, of folders that this backup lacks: {', '.join(others)}",
            place=str(to),
            remedy="Give another folder, or finish that one.",
        )
    for folder in folders:
        if folder.name not in begun:
            _check_empty(to / folder.name)
    lying = sum(_size(to / name) for name in begun)
    check_space(to, sum(folder.size for folder in folders) - lying)
    write_atomically(to / MARKER, "".join(f"{folder.name}\n" for folder in folders).encode())
    return begun


def _marked(to: Path) -> frozenset[str]:
    """What the mark names; nothing if there is none."""
    try:
        return frozenset((to / MARKER).read_text(encoding="utf-8").split())
    except (FileNotFoundError, UnicodeDecodeError):
        return frozenset()


def _check_empty(folder: Path) -> None:
    if folder.exists() and any(folder.iterdir()):
        raise UsageError("this folder is not empty", place=str(folder), remedy="Name a new one.")


@dataclass(frozen=True, slots=True)
class _Work:
    """One folder under way. blobs: its pieces, by their plain SHA-256. tags: what one may begin with."""

    download: Downloader
    to: Path
    blobs: Mapping[str, Blob]
    tags: Sequence[bytes]

    def restore(self, index_stream: str, *, clear: bool) -> RestoredFolder:
        """clear: what is not the backup's goes first."""
        self.to.mkdir(parents=True, exist_ok=True)
        text = b"".join(self.download.stream(index_stream)).decode()
        items = [_item(line, self.to) for line in text.split("\n") if line]
        if clear:
            _clear(self.to, {self.to / item.path: _type_of(item) for item in items})
        kept = sum(map(self._written, sorted(items, key=lambda item: item.link is not None)))
        for item in reversed(items):  # folders last, as their content changes their times; links have none
            if item.link is None:
                self._finish(item)
        sync_folder(self.to)
        return RestoredFolder(sum(item.pieces is not None for item in items), kept)

    def _written(self, item: Item) -> int:
        """Bytes that were there. Links come last: nothing is written through one."""
        path = self.to / item.path
        with os_errors(str(path)):
            if item.pieces is None:
                _make(item, path)
            elif path.exists() and self._is_there(item, path):
                self.download.have(item.size)
                return item.size
            else:
                self._write_file(item, path)
        return 0

    def _finish(self, item: Item) -> None:
        path = self.to / item.path
        with os_errors(str(path)):
            if item.pieces is None:
                sync_folder(path)
            path.chmod(item.mode)
            os.utime(path, ns=(item.modified_ns, item.modified_ns))

    def _is_there(self, item: Item, path: Path) -> bool:
        """Whether a file's bytes are the backup's: each piece gives the SHA-256 that it is named by."""
        path.chmod(0o600)
        if path.stat().st_size != item.size:
            return False
        with path.open("rb") as file:
            return all(_is_piece(file, blob, self.tags) for blob in self._blobs(item, path))

    def _write_file(self, item: Item, path: Path) -> None:
        draft = path.with_name(f".{hashlib.sha256(os.fsencode(path.name)).hexdigest()[:16]}.part")
        try:
            with draft.open("xb") as file:
                for blob in self._blobs(item, path):
                    write_all(file, memoryview(self.download.blob(blob))[KEY_TAG_BYTES:])
                file.flush()
                os.fsync(file.fileno())
            if draft.stat().st_size != item.size:
                raise FolderInvalid("its pieces do not add up to its size", place=str(path))
            draft.rename(path)
        finally:
            draft.unlink(missing_ok=True)

    def _blobs(self, item: Item, path: Path) -> Iterator[Blob]:
        """A file's pieces in order. FolderInvalid."""
        for sha256 in item.pieces or ():
            if sha256 not in self.blobs:
                raise FolderInvalid(f"the manifest has no blob {sha256}", place=str(path))
            yield self.blobs[sha256]


def _item(line: str, to: Path) -> Item:
    try:
        data: dict[str, Any] = json.loads(line)
        pieces = data.pop("pieces")
        item = Item(pieces=None if pieces is None else tuple(pieces), **data)
    except (ValueError, TypeError, KeyError) as error:
        raise FolderInvalid("its list cannot be read", place=str(to)) from error
    steps = Path(item.path).parts
    if not steps or ".." in steps or steps[0] == os.sep:
        raise FolderInvalid("this would lie outside of the folder", place=item.path)
    return item


def _make(item: Item, path: Path) -> None:
    """A folder, or a link."""
    if item.link is None:
        path.mkdir(mode=0o700, exist_ok=True)
        return
    path.unlink(missing_ok=True)
    path.symlink_to(item.link)


def _is_piece(file: BinaryIO, blob: Blob, tags: Sequence[bytes]) -> bool:
    ending.check()
    piece = file.read(blob.plain_size - KEY_TAG_BYTES)
    return any(hashlib.sha256(tag + piece).hexdigest() == blob.plain_sha256 for tag in tags)


def _type_of(item: Item) -> int:
    if item.link is not None:
        return stat.S_IFLNK
    return stat.S_IFDIR if item.pieces is None else stat.S_IFREG


def _clear(folder: Path, wanted: Mapping[Path, int]) -> None:
    """Remove what the backup does not have, or has as something else; what stays can be written to."""
    for path in list(folder.iterdir()):
        found = stat.S_IFMT(path.lstat().st_mode)
        if found == stat.S_IFDIR:
            path.chmod(0o700)
            _clear(path, wanted)
        if wanted.get(path) == found:
            continue
        if found == stat.S_IFDIR:
            path.rmdir()
        else:
            path.unlink()


def _size(folder: Path) -> int:
    """Bytes of the files below it, about: some may go."""
    return sum(path.lstat().st_size for path in folder.rglob("*") if stat.S_ISREG(path.lstat().st_mode))
