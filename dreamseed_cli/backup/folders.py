"""Folders beside the database (§C3: models, configuration, uploads), stored once by content.

Files are cut into pieces of a part's size; a piece is a blob, shared by all files and all backups that hold
it. Its plain bytes are a tag of 32 bytes and the piece, and its name their SHA-256: the tag stands for the
keys it is sealed to, so that new keys give new blobs, and no backup leans on one that only an old key opens.
What lies where is a sealed stream of its own: JSON, an entry a line. Owners are not saved.

A blob that an earlier backup stored is not stored again. Each run's listing compares it by name and size (and
by digest, where the store tells one), and each is read again and compared by digest once in REREAD_RUNS runs.
One that is lost or damaged is stored anew under another name: so the next backup is whole without any help.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import BinaryIO, Final

from dreamseed_cli.backup import ending
from dreamseed_cli.backup.catalog import Entry
from dreamseed_cli.backup.manifest import Blob, Folder, Stream, next_sequence
from dreamseed_cli.backup.names import blob_name
from dreamseed_cli.backup.pipeline import Uploader
from dreamseed_cli.backup.pool import Pool
from dreamseed_cli.backup.store.errors import ObjectConflict, ObjectCorrupt, ObjectMissing
from dreamseed_cli.backup.store.files import os_errors
from dreamseed_cli.core.errors import FailedError, UsageError

REREAD_RUNS: Final = 30
"""A month of nights, in which it all is read once: B2 gives three times what is stored for nothing."""
_TRIES: Final = 3
NAMES: Final = 3
"""For one content: all but the last may be damaged. Each costs a new piece one SHA-256."""


class FolderChanging(FailedError):
    """A file is written to while it is saved."""

    kind = "folder_changing"


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


@dataclass(frozen=True, slots=True)
class Known:
    """Blobs that backups to the same keys name, by their plain SHA-256.

    trusted: named again as they are. recorded: all; one is read and compared before it is named again.
    """

    trusted: Mapping[str, Blob] = field(default_factory=dict)
    recorded: Mapping[str, Blob] = field(default_factory=dict)


def known_blobs(backups: Sequence[Entry], recipients: Sequence[str]) -> Known:
    """What need not be uploaded again. backups: all good ones.

    Only the newest is trusted: where it names a content anew, that is since the older ones' is damaged.
    """
    keys = set(recipients)
    same = [one for one in backups if one.manifest.folders and set(one.manifest.recipients) == keys]
    same.sort(key=lambda one: one.manifest.identity.sequence)
    turn = next_sequence(one.manifest.identity.sequence for one in backups) % REREAD_RUNS
    newest = {sha256: blob for one in same[-1:] for sha256, blob in _blobs_of(one) if sha256 not in one.lost}
    return Known(
        trusted={sha256: blob for sha256, blob in newest.items() if int(sha256, 16) % REREAD_RUNS != turn},
        recorded={sha256: blob for one in same for sha256, blob in _blobs_of(one)},
    )


def _blobs_of(backup: Entry) -> Iterator[tuple[str, Blob]]:
    for folder in backup.manifest.folders:
        for blob in folder.blobs:
            yield blob.plain_sha256, blob


def backup_folder(name: str, root: Path, uploader: Uploader, known: Known) -> SavedFolder:
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


def _walk(root: Path) -> Iterator[Path]:
    """All below the folder, folders before what is in them."""
    with os.scandir(root) as entries:
        found = sorted(entries, key=lambda entry: entry.name)
    for entry in found:
        yield Path(entry.path)
        if entry.is_dir(follow_symlinks=False):
            yield from _walk(Path(entry.path))


def _save(root: Path, path: Path, uploader: Uploader, known: Known, blobs: dict[str, Blob]) -> Item | None:
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
    path: Path, uploader: Uploader, known: Known, blobs: dict[str, Blob]
) -> tuple[os.stat_result, tuple[str, ...]]:
    """Again if it changed meanwhile, but not for ever."""

    def store(piece: bytes) -> Blob:
        return _store(piece, uploader, known, blobs)

    for _ in range(_TRIES):
        with path.open("rb") as file:
            before = os.fstat(file.fileno())
            stored = _save_pieces(file, uploader.part_bytes, store)
            after = os.fstat(file.fileno())
        if (before.st_size, before.st_mtime_ns) == (after.st_size, after.st_mtime_ns):
            blobs.update({blob.plain_sha256: blob for blob in stored})
            return after, tuple(blob.plain_sha256 for blob in stored)
    raise FolderChanging("it changed each time it was read", place=str(path), remedy="Save it when it rests.")


def _store(piece: bytes, uploader: Uploader, known: Known, blobs: Mapping[str, Blob]) -> Blob:
    """The blob of a piece, stored now if no whole one is there. blobs: those of this backup.

    A name that a backup has recorded is never stored to again: it stands for its sealed bytes for good, and
    sealed anew they would be others. One that none has recorded comes last: what an unfinished run or an
    interrupted pruning left there can be compared with nothing.
    """
    tags: dict[str, bytes] = {}
    for again in range(NAMES):
        tag = uploader.key_tag(again)
        digest = hashlib.sha256(tag)
        digest.update(piece)
        if (found := blobs.get(digest.hexdigest()) or known.trusted.get(digest.hexdigest())) is not None:
            return found
        tags[digest.hexdigest()] = tag
    failure: ObjectMissing | ObjectCorrupt | ObjectConflict | None = None
    for sha256 in sorted(tags, key=lambda sha256: sha256 not in known.recorded):
        try:
            if (found := known.recorded.get(sha256)) is None:
                return uploader.blob(tags[sha256] + piece)
            uploader.store.get(blob_name(sha256), found.cipher_sha256)
        except (ObjectMissing, ObjectCorrupt, ObjectConflict) as error:
            failure = error
        else:
            return found
    assert failure is not None  # noqa: S101 - every name's try ended in one
    raise failure


def _save_pieces(file: BinaryIO, size: int, store: Callable[[bytes], Blob]) -> list[Blob]:
    """size: of a piece. Two at a time: one is read and sealed while the other is stored."""
    stored: list[Blob] = []
    with Pool(1, "folder") as pool:
        coming = None
        while piece := file.read(size):
            if coming is not None:
                stored.append(ending.result(coming))
            coming = pool.submit(store, piece)
        if coming is not None:
            stored.append(ending.result(coming))
    return stored


def _line(item: Item) -> bytes:
    # ASCII, with escapes: names on a disk are bytes, and some are no text.
    return json.dumps(asdict(item), separators=(",", ":")).encode() + b"\n"
