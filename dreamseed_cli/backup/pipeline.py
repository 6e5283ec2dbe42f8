"""Streams to parts and back: cut, sealed and stored side by side; fetched, proven and joined again.

Memory is bounded by pieces, never by the size of a database: a piece is read only when one of `threads` + 1
places is free for it. age keeps the interpreter's lock while it encrypts, so two threads are enough to keep
the reading, compressing, encrypting and storing of neighbouring pieces going at once.
"""

from __future__ import annotations

import hashlib
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Final, Protocol, Self, cast

import pyrage

from dreamseed_cli.backup.keys import Identity
from dreamseed_cli.backup.manifest import Blob, Manifest, StoredPart, Stream
from dreamseed_cli.backup.names import blob_name, part_name
from dreamseed_cli.backup.seal import Expected, Sealed, open_sealed, seal, sha256
from dreamseed_cli.backup.store.base import MIB, Store
from dreamseed_cli.backup.store.errors import ObjectConflict
from dreamseed_cli.core.errors import DreamseedError, FailedError

PART_BYTES: Final = 32 * MIB
"""Plain bytes of a part."""

KEY_TAG_BYTES: Final = 32

Told = Callable[[int, int], None]
"""Called with the plain bytes so far and the stored bytes they became; from any thread, one at a time."""


class UploadIncomplete(FailedError):
    """Parts were asked for although one of the streams failed or has not ended."""

    kind = "upload_incomplete"


class StreamUnknown(FailedError):
    """The manifest names no such stream."""

    kind = "stream_unknown"


class Readable(Protocol):
    """What a pipe, a file or a socket's file has: up to `size` bytes, none at the end."""

    def read(self, size: int, /) -> bytes: ...


def _quiet(_plain: int, _stored: int) -> None:
    return None


class Uploader:
    """Stores the streams of one backup. Use it as a context manager: leaving waits for what is under way.

    level: zstd's. Several threads may call stream() at once, if no producer waits for another to be read.
    Once a stream failed, nothing more is taken: its numbers are used up, and there is no backup.
    """

    def __init__(
        self,
        store: Store,
        backup_id: str,
        recipients: Sequence[pyrage.x25519.Recipient],
        *,
        threads: int = 2,
        level: int = 3,
        part_bytes: int = PART_BYTES,
        told: Told = _quiet,
    ) -> None:
        self.store = store
        self.backup_id = backup_id
        self.level = level
        self.part_bytes = part_bytes
        self._recipients = tuple(recipients)
        self._told = told
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="upload")
        self._places = threading.BoundedSemaphore(threads + 1)
        self._lock = threading.Lock()
        self._parts: dict[int, StoredPart] = {}
        self._begun = 0
        self._streaming = 0
        self._plain = 0
        self._stored = 0
        self._failure: BaseException | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def close(self) -> None:
        """Drop what has not begun and wait for the rest, which the store bounds in time."""
        self._pool.shutdown(wait=True, cancel_futures=True)

    def stream(self, name: str, source: Readable | Iterable[bytes]) -> Stream:
        """Store all that the source gives, in parts; every part has been read back when this returns.

        Raises the store's error, or whatever the source raises: then this Uploader is done for.
        """
        reader = cast("Readable", source) if hasattr(source, "read") else Joined(source)
        with self._lock:
            self._streaming += 1
        try:
            size = self._upload(name, reader)
        except BaseException as error:
            with self._lock:
                self._failure = self._failure or error
            raise
        finally:
            with self._lock:
                self._streaming -= 1
        return Stream(name=name, size=size)

    def parts(self) -> tuple[StoredPart, ...]:
        """All parts so far, in order. UploadIncomplete unless every stream ended well."""
        with self._lock:
            if self._failure is not None or self._streaming or len(self._parts) != self._begun:
                raise UploadIncomplete(
                    "not every stream of this backup was stored whole", place=self.backup_id
                ) from self._failure
            return tuple(self._parts[index] for index in sorted(self._parts))

    def seal(self, plain: bytes) -> Sealed:
        """Sealed to this backup's keys."""
        return seal(plain, self._recipients, self.level)

    @property
    def key_tag(self) -> bytes:
        """KEY_TAG_BYTES that stand for the keys this is sealed to."""
        return hashlib.sha256("\n".join(sorted(map(str, self._recipients))).encode()).digest()

    def blob(self, tagged: bytes) -> Blob:
        """Store a piece of a folder's, which begins with `key_tag`; it has been read back when this returns.

        One that is there already (from a run that failed later) is kept: its name tells content and keys.
        """
        sealed = self.seal(tagged)
        name, cipher = blob_name(sealed.plain_sha256), sealed.cipher
        try:
            self.store.put(name, cipher)
        except ObjectConflict:
            cipher = self.store.get(name)
            # Twice: nothing tells yet what its bytes should be, and they may have changed on their way here.
            self.store.get(name, sha256(cipher))
        with self._lock:
            self._add(len(tagged), len(cipher))
        return Blob(
            plain_sha256=sealed.plain_sha256,
            cipher_sha256=sha256(cipher),
            plain_size=sealed.plain_size,
            stored_size=len(cipher),
        )

    def _add(self, plain: int, stored: int) -> None:
        self._plain += plain
        self._stored += stored
        self._told(self._plain, self._stored)

    def _upload(self, name: str, reader: Readable) -> int:
        """Bytes read."""
        size = 0
        waiting: deque[Future[None]] = deque()
        try:
            while (length := self._take(name, size, reader, waiting)) > 0:
                size += length
                while waiting and waiting[0].done():
                    waiting.popleft().result()
            while waiting:
                waiting.popleft().result()
        except BaseException:
            for future in waiting:
                future.cancel()
            raise
        return size

    def _take(self, name: str, offset: int, reader: Readable, waiting: deque[Future[None]]) -> int:
        """Read a piece when there is a place for it, and hand it to the pool; its length, 0 at the end."""
        self._places.acquire()
        future: Future[None] | None = None
        try:
            piece = _read(reader, self.part_bytes)
            if piece:
                index = self._next_index()
                # In a list that the task empties: the pool would keep the piece alive until it is stored.
                future = self._pool.submit(self._store_piece, [piece], index, name, offset)
        finally:
            if future is None:
                self._places.release()
        if future is not None:
            future.add_done_callback(lambda _: self._places.release())
            waiting.append(future)
        return len(piece)

    def _next_index(self) -> int:
        with self._lock:
            if self._failure is not None:
                raise UploadIncomplete(
                    "another stream of this backup failed", place=self.backup_id
                ) from self._failure
            self._begun += 1
            return self._begun - 1

    def _store_piece(self, piece: list[bytes], index: int, stream: str, offset: int) -> None:
        sealed = self.seal(piece.pop())
        self.store.put(part_name(self.backup_id, index), sealed.cipher)
        part = StoredPart(
            index=index,
            stream=stream,
            offset=offset,
            plain_size=sealed.plain_size,
            stored_size=len(sealed.cipher),
            plain_sha256=sealed.plain_sha256,
            cipher_sha256=sealed.cipher_sha256,
        )
        with self._lock:
            self._parts[index] = part
            self._add(part.plain_size, part.stored_size)


class Downloader:
    """Gives the streams of a stored backup, each part proven equal to what was sealed before it is given on.

    Raises ObjectMissing, ObjectCorrupt, SealBroken (with the part's name), WrongKey, and the store's errors.
    """

    def __init__(
        self,
        store: Store,
        manifest: Manifest,
        identities: Sequence[Identity],
        *,
        threads: int = 2,
        told: Told = _quiet,
    ) -> None:
        self.store = store
        self.manifest = manifest
        self._identities = tuple(identities)
        self._threads = threads
        self._told = told
        self._lock = threading.Lock()
        self._plain = 0
        self._stored = 0

    def stream(self, name: str) -> Generator[bytes, None, None]:
        """Its plain bytes in order, a part at a time, a few parts fetched ahead. StreamUnknown."""
        if name not in {stream.name for stream in self.manifest.streams}:
            raise StreamUnknown(
                f"there is no stream '{name}' in it",
                place=self.manifest.identity.backup_id,
                remedy="dreamseed backup show tells what is.",
            )
        return self._ahead([part for part in self.manifest.parts if part.stream == name])

    def blob(self, blob: Blob) -> bytes:
        """The plain bytes of a folder's content."""
        name = blob_name(blob.plain_sha256)
        return self._open(name, blob)

    def part(self, part: StoredPart) -> bytes:
        """The plain bytes of one part: to go on where something was interrupted."""
        return self._open(part_name(self.manifest.identity.backup_id, part.index), part)

    def _ahead(self, parts: Sequence[StoredPart]) -> Generator[bytes, None, None]:
        pool = ThreadPoolExecutor(self._threads, thread_name_prefix="download")
        coming: deque[Future[bytes]] = deque()
        try:
            for part in parts:
                if len(coming) >= self._threads:
                    yield coming.popleft().result()
                coming.append(pool.submit(self.part, part))
            while coming:
                yield coming.popleft().result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)

    def _open(self, name: str, known: StoredPart | Blob) -> bytes:
        expected = Expected(
            name=f"{self.store.name}: {name}",
            plain_sha256=known.plain_sha256,
            plain_size=known.plain_size,
            cipher_sha256=known.cipher_sha256,
        )
        cipher = self.store.get(name, known.cipher_sha256)
        plain = open_sealed(cipher, self._identities, expected)
        with self._lock:
            self._plain += len(plain)
            self._stored += len(cipher)
            self._told(self._plain, self._stored)
        return plain


def reread(store: Store, manifest: Manifest, *, threads: int = 2) -> tuple[DreamseedError, ...]:
    """Read every part and blob again and compare its digest; what is wrong with each, none: all are good.

    Needs no private key. Errors that are not about one object (unreachable, refused) stand in it too.
    """
    objects = {
        part_name(manifest.identity.backup_id, part.index): part.cipher_sha256 for part in manifest.parts
    }
    for folder in manifest.folders:
        objects |= {blob_name(blob.plain_sha256): blob.cipher_sha256 for blob in folder.blobs}

    def check(item: tuple[str, str]) -> DreamseedError | None:
        try:
            store.get(*item)
        except DreamseedError as error:
            return error
        return None

    with ThreadPoolExecutor(threads, thread_name_prefix="reread") as pool:
        return tuple(error for error in pool.map(check, objects.items()) if error is not None)


class Joined:
    """Chunks of any size as something to read from. It keeps nothing that it gave away."""

    def __init__(self, chunks: Iterable[bytes]) -> None:
        self._chunks = iter(chunks)
        # A view: a part is read in small pieces, and its rest must not be copied for each of them.
        self._rest = memoryview(b"")

    def read(self, size: int, /) -> bytes:
        held: list[memoryview] = []
        wanted = size
        while wanted > 0:
            if not self._rest:
                chunk = next(self._chunks, None)
                if chunk is None:
                    break
                self._rest = memoryview(chunk)
            held.append(self._rest[:wanted])
            # Even an empty view would keep its chunk.
            self._rest = self._rest[wanted:] or memoryview(b"")
            wanted -= len(held[-1])
        return b"".join(held)


def _read(reader: Readable, size: int) -> bytes:
    """Exactly `size` bytes, fewer only at the end: a raw pipe gives what happens to be there."""
    piece = reader.read(size)
    while 0 < len(piece) < size and (more := reader.read(size - len(piece))):
        piece += more
    return piece
