"""Folders beside the database (§C3: models, configuration, uploads), stored once by content.

Files are cut into pieces of a part's size; a piece is a blob, shared by all files and all backups that hold
it. Its plain bytes are a tag of 32 bytes and the piece, and its name their SHA-256: the tag stands for the
keys it is sealed to, so that new keys give new blobs, and no backup leans on one that only an old key opens.
What lies where is a sealed stream of its own: JSON, an entry a line. Owners are not saved.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO, Final

from dreamseed_cli.backup.manifest import Blob, Folder, Manifest, Stream
from dreamseed_cli.backup.pipeline import KEY_TAG_BYTES, Downloader, Uploader
from dreamseed_cli.backup.store.files import os_errors
from dreamseed_cli.core.errors import FailedError, UsageError

_TRIES: Final = 3


class FolderChanging(FailedError):
    """A file is written to while it is saved."""

    kind = "folder_changing"


class FolderInvalid(FailedError):
    """A folder's list names what no folder of ours holds."""

    kind = "folder_invalid"


@dataclass(frozen=True, slots=True)
class Item:
    """One entry of a folder. path: below it, with `/`, as os.fsencode and surrogateescape give it.

    mode: permission bits. modified_ns: since the epoch. pieces: blobs of a file, in order; None for others.
    link: where a symbolic link points; None for others.
    """

    path: str
    mode: int
    modified_ns: int
    size: int
    pieces: tuple[str, ...] | None
    link: str | None


@dataclass(frozen=True, slots=True)
class SavedFolder:
    """What the manifest needs of a folder. skipped: sockets, pipes and devices, which have no content."""

    folder: Folder
    stream: Stream
    skipped: tuple[str, ...]


def known_blobs(manifests: Sequence[Manifest], recipients: Sequence[str]) -> dict[str, Blob]:
    """The blobs that backups to the same keys have stored: what is in here is not uploaded again."""
    return {
        blob.plain_sha256: blob
        for manifest in manifests
        if set(manifest.recipients) == set(recipients)
        for folder in manifest.folders
        for blob in folder.blobs
    }


def backup_folder(name: str, root: Path, uploader: Uploader, known: Mapping[str, Blob]) -> SavedFolder:
    """Save a folder. known: from known_blobs(). Raises UsageError, FolderChanging, the Uploader's errors."""
    if not root.is_dir():
        raise UsageError("there is no such folder", place=str(root), remedy="Mend [backup] in the profile.")
    blobs: dict[str, Blob] = {}
    items: list[Item] = []
    skipped: list[str] = []
    for path in _walk(root):
        with os_errors(str(path)):
            item = _save(root, path, uploader, known, blobs)
        if item is None:
            skipped.append(str(path))
        else:
            items.append(item)
    index = f"folder/{name}.jsonl"
    stream = uploader.stream(index, (_line(item) for item in items))
    files = [item for item in items if item.pieces is not None]
    return SavedFolder(
        folder=Folder(
            name=name,
            files=len(files),
            size=sum(item.size for item in files),
            index_stream=index,
            blobs=tuple(blobs[sha256] for sha256 in sorted(blobs)),
        ),
        stream=stream,
        skipped=tuple(skipped),
    )


def restore_folder(folder: Folder, downloader: Downloader, to: Path) -> int:
    """Write a folder's files into `to`, which must be empty or not exist; how many files.

    Files appear whole or not at all. Raises UsageError, FolderInvalid, and the Downloader's errors.
    """
    if to.exists() and any(to.iterdir()):
        raise UsageError("this folder is not empty", place=str(to), remedy="Name a new one.")
    to.mkdir(parents=True, exist_ok=True)
    text = b"".join(downloader.stream(folder.index_stream)).decode()
    items = [_item(line, to) for line in text.split("\n") if line]
    blobs = {blob.plain_sha256: blob for blob in folder.blobs}
    for item in sorted(items, key=lambda item: item.link is not None):  # nothing is written through a link
        with os_errors(str(to / item.path)):
            _write(item, to / item.path, downloader, blobs)
    for item in reversed(items):  # folders last, as their content changes their times; links have none
        if item.link is None:
            (to / item.path).chmod(item.mode)
            os.utime(to / item.path, ns=(item.modified_ns, item.modified_ns))
    return sum(item.pieces is not None for item in items)


def _walk(root: Path) -> Iterator[Path]:
    """All below the folder, folders before what is in them."""
    with os.scandir(root) as entries:
        found = sorted(entries, key=lambda entry: entry.name)
    for entry in found:
        yield Path(entry.path)
        if entry.is_dir(follow_symlinks=False):
            yield from _walk(Path(entry.path))


def _save(
    root: Path, path: Path, uploader: Uploader, known: Mapping[str, Blob], blobs: dict[str, Blob]
) -> Item | None:
    """An entry, its pieces stored; None for what has no content."""
    status = path.lstat()
    link = str(path.readlink()) if stat.S_ISLNK(status.st_mode) else None
    if not (stat.S_ISREG(status.st_mode) or stat.S_ISDIR(status.st_mode) or link is not None):
        return None
    pieces = None
    if stat.S_ISREG(status.st_mode):
        status, pieces = _save_file(path, uploader, known, blobs)
    return Item(
        path=str(path.relative_to(root)),
        mode=stat.S_IMODE(status.st_mode),
        modified_ns=status.st_mtime_ns,
        size=0 if pieces is None else status.st_size,
        pieces=pieces,
        link=link,
    )


def _save_file(
    path: Path, uploader: Uploader, known: Mapping[str, Blob], blobs: dict[str, Blob]
) -> tuple[os.stat_result, tuple[str, ...]]:
    """Again if it changed meanwhile, but not for ever."""

    def find(sha256: str) -> Blob | None:
        return blobs.get(sha256) or known.get(sha256)

    for _ in range(_TRIES):
        with path.open("rb") as file:
            before = os.fstat(file.fileno())
            stored = _save_pieces(file, uploader, find)
            after = os.fstat(file.fileno())
        if (before.st_size, before.st_mtime_ns) == (after.st_size, after.st_mtime_ns):
            blobs.update({blob.plain_sha256: blob for blob in stored})
            return after, tuple(blob.plain_sha256 for blob in stored)
    raise FolderChanging("it changed each time it was read", place=str(path), remedy="Save it when it rests.")


def _save_pieces(file: BinaryIO, uploader: Uploader, known: Callable[[str], Blob | None]) -> list[Blob]:
    """Two pieces at a time: one is read and sealed while the other is stored."""
    tag = uploader.key_tag

    def store(piece: bytes) -> Blob:
        tagged = tag + piece
        return known(hashlib.sha256(tagged).hexdigest()) or uploader.blob(tagged)

    stored: list[Blob] = []
    with ThreadPoolExecutor(1, thread_name_prefix="folder") as pool:
        coming = None
        while piece := file.read(uploader.part_bytes):
            if coming is not None:
                stored.append(coming.result())
            coming = pool.submit(store, piece)
        if coming is not None:
            stored.append(coming.result())
    return stored


def _line(item: Item) -> bytes:
    # ASCII, with escapes: names on a disk are bytes, and some are no text.
    return json.dumps(asdict(item), separators=(",", ":")).encode() + b"\n"


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


def _write(item: Item, path: Path, downloader: Downloader, blobs: Mapping[str, Blob]) -> None:
    if item.link is not None:
        path.symlink_to(item.link)
    elif item.pieces is None:
        path.mkdir(mode=0o700)
    else:
        _write_file(item, path, downloader, blobs)


def _write_file(item: Item, path: Path, downloader: Downloader, blobs: Mapping[str, Blob]) -> None:
    draft = path.with_name(f".{hashlib.sha256(os.fsencode(path.name)).hexdigest()[:16]}.part")
    try:
        with draft.open("xb") as file:
            for sha256 in item.pieces or ():
                if sha256 not in blobs:
                    raise FolderInvalid(f"the manifest has no blob {sha256}", place=str(path))
                file.write(memoryview(downloader.blob(blobs[sha256]))[KEY_TAG_BYTES:])
            file.flush()
            os.fsync(file.fileno())
        if draft.stat().st_size != item.size:
            raise FolderInvalid("its pieces do not add up to its size", place=str(path))
        draft.rename(path)
    finally:
        draft.unlink(missing_ok=True)
