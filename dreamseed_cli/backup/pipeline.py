"""Streams to parts and back: cut, sealed and stored side by side; fetched, proven and joined again.

Memory is bounded by pieces, never by the size of a database: there is room for `threads` + 1 of them. age
keeps the interpreter's lock while it encrypts, so two threads are enough to keep the reading, compressing,
encrypting and storing of neighbouring pieces going at once.
"""

from __future__ import annotations

import hashlib
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import Future
from contextlib import closing
from queue import Empty, LifoQueue
from types import TracebackType
from typing import Final, Protocol, Self, cast

import pyrage

from dreamseed_cli.backup import ending
from dreamseed_cli.backup.keys import Identity
from dreamseed_cli.backup.manifest import Blob, Manifest, StoredPart, Stream
from dreamseed_cli.backup.memory import fresh, keep_little
from dreamseed_cli.backup.names import blob_name, part_name
from dreamseed_cli.backup.pool import Pool
from dreamseed_cli.backup.seal import Expected, Sealed, open_sealed, payload_size, seal, sha256
from dreamseed_cli.backup.store.base import MIB, Store
from dreamseed_cli.backup.store.errors import ObjectConflict, ObjectCorrupt
from dreamseed_cli.core.errors import DreamseedError, FailedError

PART_BYTES: Final = 16 * MIB
"""Plain bytes of a part. Of rows that do not compress, some eight times as much lies in memory at once."""

KEY_TAG_BYTES: Final = 32

Told = Callable[[int, int], None]
"""Called with the plain bytes so far and the stored bytes they became; from any thread, one at a time. No
stored bytes: the plain ones were there already.
"""


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
    """Stores the streams of one backup. A context manager: left by an error, it drops what is under way.

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
        self._pool = Pool(threads, "upload")
        keep_little()
        # The last one given back first: a small backup touches one of them only.
        self._rooms: LifoQueue[memoryview] = LifoQueue()
        for _ in range(threads + 1):
            self._rooms.put(fresh(part_bytes))
        self._lock = threading.Lock()
        self._parts: dict[int, StoredPart] = {}
        self._begun = 0
        self._streaming = 0
        self._plain = 0
        self._stored = 0
        self._failure: BaseException | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pool.__exit__(kind, error, trace)

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

    def seal(self, plain: bytes | memoryview) -> Sealed:
        """Sealed to this backup's keys."""
        return seal(plain, self._recipients, self.level)

    def key_tag(self, again: int = 0) -> bytes:
        """Of the keys this backup is sealed to, as the function of this name says."""
        return key_tag(self._recipients, again)

    def blob(self, tagged: bytes) -> Blob:
        """Store a piece of a folder's, which begins with a key_tag(); it was read back when this returns.

        No backup may name it yet. One that is there already, from a run that failed later, is kept: its name
        tells content and keys. Nothing tells what its bytes should be, so only its length (ObjectCorrupt)
        and what the store keeps with it are compared; `verify` with the private key opens it.
        """
        sealed = self.seal(tagged)
        name, cipher = blob_name(sealed.plain_sha256), sealed.cipher
        try:
            self.store.put(name, cipher)
        except ObjectConflict:
            cipher = self.store.get(name)
            if payload_size(cipher) != payload_size(sealed.cipher):
                raise ObjectCorrupt(
                    f"an unfinished run left {len(cipher)} bytes of it, which are not all",
                    place=f"{self.store.name}: {name}",
                    remedy="Delete that object, with a key that may.",
                ) from None
            # Proven once more, and made durable: they may have changed on their way here.
            self.store.put(name, cipher)
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
                    ending.result(waiting.popleft())
            while waiting:
                ending.result(waiting.popleft())
        except BaseException:
            for future in waiting:
                future.cancel()
            raise
        return size

    def _take(self, name: str, offset: int, reader: Readable, waiting: deque[Future[None]]) -> int:
        """Read a piece when there is room for it, and hand it to the pool; its length, 0 at the end."""
        room = self._room()
        future: Future[None] | None = None
        try:
            size = _fill(room, reader)
            if size:
                index = self._next_index()
                future = self._pool.submit(self._store_piece, room[:size], index, name, offset)
        finally:
            if future is None:
                self._rooms.put(room)
        if future is not None:
            future.add_done_callback(lambda _: self._rooms.put(room))
            waiting.append(future)
        return size

    def _room(self) -> memoryview:
        """Waits for one, and for a signal."""
        ending.check()
        while True:
            try:
                return self._rooms.get(timeout=ending.LOOK_S)
            except Empty:
                ending.check()

    def _next_index(self) -> int:
        with self._lock:
            if self._failure is not None:
                raise UploadIncomplete(
                    "another stream of this backup failed", place=self.backup_id
                ) from self._failure
            self._begun += 1
            return self._begun - 1

    def _store_piece(self, piece: memoryview, index: int, stream: str, offset: int) -> None:
        sealed = self.seal(piece)
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


def key_tag(recipients: Iterable[object], again: int = 0) -> bytes:
    """KEY_TAG_BYTES that stand for the keys a piece is sealed to. again: for a further name of the same
    content, whose object under the one before it is damaged, and may be neither replaced nor deleted.
    """
    keys = [*sorted(map(str, recipients)), *(["again"] * again)]
    return hashlib.sha256("\n".join(keys).encode()).digest()


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
        keep_little()
        self.store = store
        self.manifest = manifest
        self._identities = tuple(identities)
        self._threads = threads
        self._told = told
        self._lock = threading.Lock()
        self._plain = 0
        self._stored = 0

    def stream(self, name: str) -> Generator[memoryview, None, None]:
        """Its plain bytes in order, a part at a time, a few parts fetched ahead. StreamUnknown."""
        return self._ahead(self.parts_of(name), ())

    def feed(self, name: str, sink: Callable[[memoryview], None], start: int = 0) -> int:
        """The same, faster: each part's bytes are given to the sink, whose memory is used again once it
        returns. start: the offset of the first part that is wanted. How many bytes the stream has.
        """
        parts, size = [part for part in self.parts_of(name) if part.offset >= start], start
        if start:
            self.have(start)
        largest = max((part.plain_size for part in parts), default=0)
        # One more than threads: all of these work while the sink has a piece.
        with closing(self._ahead(parts, [fresh(largest) for _ in range(self._threads + 1)])) as pieces:
            for piece in pieces:
                sink(piece)
                size += len(piece)
                del piece  # or it would lie in memory until the next one has come
        return size

    def have(self, size: int) -> None:
        """So many plain bytes were there already, and proven."""
        self._add(size, 0)

    def blob(self, blob: Blob) -> memoryview:
        """The plain bytes of a folder's content."""
        name = blob_name(blob.plain_sha256)
        return self._open(name, blob)

    def part(self, part: StoredPart, room: memoryview | None = None) -> memoryview:
        """The plain bytes of one part: to go on where something was interrupted. room: see open_sealed."""
        return self._open(part_name(self.manifest.identity.backup_id, part.index), part, room)

    def parts_of(self, name: str) -> list[StoredPart]:
        """A stream's parts in order. StreamUnknown."""
        if name not in {stream.name for stream in self.manifest.streams}:
            raise StreamUnknown(
                f"there is no stream '{name}' in it",
                place=self.manifest.identity.backup_id,
                remedy="dreamseed backup show tells what is.",
            )
        return [part for part in self.manifest.parts if part.stream == name]

    def _ahead(
        self, parts: Sequence[StoredPart], rooms: Sequence[memoryview]
    ) -> Generator[memoryview, None, None]:
        """rooms: for as many parts at a time, to be used again and again; none: every part has its own, and
        there is one for each thread.
        """
        coming: deque[Future[memoryview]] = deque()
        most = len(rooms) or self._threads
        # Left by whoever does not want the rest, too: that closes this generator, which raises GeneratorExit.
        with Pool(self._threads, "download") as pool:
            for number, part in enumerate(parts):
                if len(coming) >= most:
                    yield ending.result(coming.popleft())
                room = rooms[number % most] if rooms else None
                coming.append(pool.submit(self.part, part, room))
            while coming:
                yield ending.result(coming.popleft())

    def _open(self, name: str, known: StoredPart | Blob, room: memoryview | None = None) -> memoryview:
        expected = Expected(
            name=f"{self.store.name}: {name}",
            plain_sha256=known.plain_sha256,
            plain_size=known.plain_size,
        )
        cipher = self.store.get(name, known.cipher_sha256)
        plain = open_sealed(cipher, self._identities, expected, room)
        self._add(len(plain), len(cipher))
        return plain

    def _add(self, plain: int, stored: int) -> None:
        with self._lock:
            self._plain += plain
            self._stored += stored
            self._told(self._plain, self._stored)


def reread(
    store: Store, manifest: Manifest, *, threads: int = 2, told: Told = _quiet
) -> tuple[DreamseedError, ...]:
    """Read every part and blob again and compare its digest; what is wrong with each, none: all are good.

    Needs no private key. Errors that are not about one object (unreachable, refused) stand in it too. told:
    only how much was read is known, sealed.
    """
    read, lock = [0], threading.Lock()

    objects = {
        part_name(manifest.identity.backup_id, part.index): part.cipher_sha256 for part in manifest.parts
    }
    for folder in manifest.folders:
        objects |= {blob_name(blob.plain_sha256): blob.cipher_sha256 for blob in folder.blobs}

    def check(item: tuple[str, str]) -> DreamseedError | None:
        try:
            size = len(store.get(*item))
        except DreamseedError as error:
            return error
        with lock:
            read[0] += size
            told(read[0], read[0])
        return None

    with Pool(threads, "reread") as pool:
        return tuple(error for error in pool.map(check, objects.items()) if error is not None)


class Joined:
    """Chunks of any size as something to read from. It keeps nothing that it gave away."""

    def __init__(self, chunks: Iterable[bytes | memoryview]) -> None:
        self._chunks = iter(chunks)
        # A view: a part is read in small pieces, and its rest must not be copied for each of them.
        self._rest = memoryview(b"")

    def read(self, size: int, /) -> bytes:
        held: list[memoryview] = []
        wanted = size
        while wanted > 0:
            if not self._rest:
                ending.check()
                chunk = next(self._chunks, None)
                if chunk is None:
                    break
                self._rest = memoryview(chunk)
            held.append(self._rest[:wanted])
            # Even an empty view would keep its chunk.
            self._rest = self._rest[wanted:] or memoryview(b"")
            wanted -= len(held[-1])
        return b"".join(held)


def _fill(room: memoryview, reader: Readable) -> int:
    """Read as many bytes as there is room for, fewer only at the end: a raw pipe gives what it has."""
    filled = 0
    while filled < len(room) and (came := reader.read(min(len(room) - filled, MIB))):
        room[filled : filled + len(came)] = came
        filled += len(came)
    return filled
