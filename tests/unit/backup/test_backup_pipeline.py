"""Streams to parts and back: equal bytes, bounded memory, and never a success that is none."""

import io
import random
import threading
from collections.abc import Iterator

import pytest
from faulty_store import STORE_FAULTS, FaultyStore, StoreFault
from flipped import flipped
from hypothesis import given, settings
from hypothesis import strategies as st
from logical_backups import KEYS, manifest_of, new_downloader, new_uploader
from memory_store import MemoryStore

from dreamseed_cli.backup.keys import Identity, WrongKey
from dreamseed_cli.backup.manifest import Manifest
from dreamseed_cli.backup.names import BACKUPS, part_name
from dreamseed_cli.backup.pipeline import Downloader, Joined, StreamUnknown, UploadIncomplete, reread
from dreamseed_cli.backup.seal import SealBroken
from dreamseed_cli.backup.store.base import Store, Stored
from dreamseed_cli.backup.store.errors import ObjectCorrupt, ObjectMissing, StoreError
from dreamseed_cli.core.errors import DreamseedError

PART = 4096
DATA = random.Random(3).randbytes(3 * PART + 17)  # noqa: S311


@pytest.fixture
def store() -> MemoryStore:
    """An empty store."""
    return MemoryStore()


def save(store: Store, *streams: tuple[str, bytes]) -> Manifest:
    """A backup of these streams."""
    with new_uploader(store, part_bytes=PART) as uploader:
        made = [uploader.stream(name, io.BytesIO(data)) for name, data in streams]
        return manifest_of(uploader.backup_id, made, uploader.parts())


def load(store: Store, manifest: Manifest, name: str = "a") -> bytes:
    """A stream's bytes."""
    return b"".join(new_downloader(store, manifest).stream(name))


@given(st.lists(st.binary(max_size=40), max_size=12), st.integers(1, 17))
@settings(max_examples=50)
def test_chunks_of_any_size_are_joined(chunks: list[bytes], size: int) -> None:
    """Every read is full but the last one, and nothing is lost or added, with empty chunks too."""
    reader = Joined(chunks)
    pieces = list(iter(lambda: reader.read(size), b""))
    assert b"".join(pieces) == b"".join(chunks)
    assert all(len(piece) == size for piece in pieces[:-1])


def test_what_goes_up_comes_down(store: Store) -> None:
    """Several streams, one of them empty, one exactly a part long."""
    manifest = save(store, ("a", DATA), ("none", b""), ("one", DATA[:PART]))
    assert [load(store, manifest, name) for name in ("a", "none", "one")] == [DATA, b"", DATA[:PART]]
    assert [part.stream for part in manifest.parts] == ["a"] * 4 + ["one"]
    assert reread(store, manifest) == ()


def test_a_pipe_that_gives_little_at_a_time(store: Store) -> None:
    """Short reads do not make short parts."""

    class Trickle(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            return super().read(min(size or 0, 100))

    with new_uploader(store, part_bytes=PART) as uploader:
        uploader.stream("a", Trickle(DATA))
        assert [part.plain_size for part in uploader.parts()] == [PART, PART, PART, 17]


def test_streams_side_by_side(store: Store) -> None:
    """Their parts interleave, and each comes back whole."""
    with new_uploader(store, part_bytes=PART) as uploader:
        streams = []
        threads = [
            threading.Thread(
                target=lambda name=name: streams.append(
                    uploader.stream(name, io.BytesIO(name.encode() * PART))
                )
            )
            for name in "abc"
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        manifest = manifest_of(uploader.backup_id, streams, uploader.parts())
    assert {name: load(store, manifest, name) for name in "abc"} == {n: n.encode() * PART for n in "abc"}


def test_a_stream_is_fed_to_a_sink(store: MemoryStore) -> None:
    """In order and whole, whether its parts could be compressed or not."""
    rows = b"".join(b"row %d\n" % number for number in range(3 * PART))
    for data in (rows, DATA, rows + DATA, b""):
        given: list[bytes] = []
        downloader = new_downloader(store, save(store, ("a", data), ("b", rows)))
        assert downloader.feed("a", lambda piece: given.append(bytes(piece))) == len(data)  # noqa: B023
        assert b"".join(given) == data


def test_a_stream_is_fed_from_one_of_its_parts_on(store: MemoryStore) -> None:
    """The parts before it are not fetched; they are told of as plain bytes that cost nothing."""
    manifest, faulty = save(store, ("a", DATA)), FaultyStore(store)
    seen: list[tuple[int, int]] = []
    given: list[bytes] = []
    downloader = Downloader(faulty, manifest, [KEYS.daily], told=lambda *done: seen.append(done))
    start = manifest.parts[2].offset
    assert downloader.feed("a", lambda piece: given.append(bytes(piece)), start) == len(DATA)
    assert b"".join(given) == DATA[start:]
    assert {name for _, name in faulty.calls} == {part_name(manifest.identity.backup_id, at) for at in (2, 3)}
    assert (seen[0], seen[-1][0]) == ((start, 0), len(DATA))


def test_a_sink_that_fails_ends_the_stream(store: MemoryStore) -> None:
    """Its error comes out, and nothing more is given to it."""
    given: list[int] = []

    def sink(piece: memoryview) -> None:
        given.append(len(piece))
        raise OSError("the disk is full")

    with pytest.raises(OSError, match="full"):
        new_downloader(store, save(store, ("a", DATA))).feed("a", sink)
    assert given == [PART]


def test_no_more_pieces_are_read_than_there_is_room_for(store: Store) -> None:
    """While the store takes nothing, `threads` + 1 pieces are read and not one more: memory is bounded."""

    class Stalled(FaultyStore):
        def put(self, name: str, data: bytes) -> Stored:
            started.release()
            go_on.wait(60)
            return super().put(name, data)

    read = []
    go_on, started = threading.Event(), threading.Semaphore(0)

    def source() -> Iterator[bytes]:
        for index in range(20):
            read.append(index)
            yield bytes(PART)

    with new_uploader(Stalled(store), part_bytes=PART, threads=2) as uploader:
        thread = threading.Thread(target=uploader.stream, args=("a", source()))
        thread.start()
        assert all(started.acquire(timeout=60) for _ in range(2))
        thread.join(0.1)
        assert len(read) <= 3
        go_on.set()
        thread.join()
    assert len(read) == 20


@pytest.mark.parametrize("fault", STORE_FAULTS)
@pytest.mark.parametrize("at", range(4))
def test_a_fault_at_every_call(store: Store, fault: StoreFault, at: int) -> None:
    """Either the backup is whole, or the error came out and no parts are given; the next run converges."""
    faulty = FaultyStore(store, {at: fault})
    try:
        manifest = save(faulty, ("a", DATA))
    except StoreError:
        assert fault not in {"corrupt", "missing"}
    else:
        assert load(store, manifest) == DATA
    assert load(store, save(faulty, ("a", DATA))) == DATA


@pytest.mark.parametrize("fault", STORE_FAULTS)
@pytest.mark.parametrize("at", range(4))
def test_a_fault_at_every_call_of_a_download(store: Store, fault: StoreFault, at: int) -> None:
    """The error comes out before wrong bytes do; the next try works."""
    manifest = save(store, ("a", DATA))
    faulty = FaultyStore(store, {at: fault})
    given: list[memoryview] = []
    with pytest.raises(StoreError):
        given.extend(new_downloader(faulty, manifest).stream("a"))
    assert DATA.startswith(b"".join(given))
    assert len(given) <= at
    assert load(faulty, manifest) == DATA


def test_a_producer_that_dies(store: Store) -> None:
    """Its own error comes out, and neither parts nor another stream can be had from this backup."""

    def source() -> Iterator[bytes]:
        yield DATA
        raise OSError("died")

    with new_uploader(store, part_bytes=PART) as uploader:
        with pytest.raises(OSError, match="died"):
            uploader.stream("a", source())
        with pytest.raises(UploadIncomplete):
            uploader.parts()
        with pytest.raises(UploadIncomplete):
            uploader.stream("b", io.BytesIO(DATA))


def damage(store: Store, manifest: Manifest) -> DreamseedError:
    """What a restore says of it; its part is named, and a reread finds the same."""
    with pytest.raises(DreamseedError) as caught:
        load(store, manifest)
    assert [type(error) for error in reread(store, manifest)] == [type(caught.value)]
    return caught.value


@pytest.mark.parametrize("kind", ["flipped", "truncated", "swapped", "deleted"])
def test_damage_is_named(store: MemoryStore, kind: str) -> None:
    """A part whose bytes were changed, cut off, taken from another part or removed is named."""
    manifest = save(store, ("a", DATA))
    name, other = (part_name(manifest.identity.backup_id, index) for index in (1, 2))
    content = store.objects.pop(name)
    damaged = {"flipped": flipped(content), "truncated": content[:-1], "swapped": store.objects[other]}
    if kind != "deleted":
        store.objects[name] = damaged[kind]
    error = damage(store, manifest)
    assert isinstance(error, ObjectMissing if kind == "deleted" else ObjectCorrupt)
    assert name in error.place


def test_a_manifest_that_lies(store: Store) -> None:
    """Parts that are what the store holds, but not what was sealed, are refused too."""
    manifest = save(store, ("a", DATA[:PART]))
    wrong = manifest.parts[0].model_copy(update={"plain_sha256": "0" * 64})
    with pytest.raises(SealBroken):
        load(store, manifest.model_copy(update={"parts": (wrong,)}))


def test_wrong_key_and_unknown_stream(store: Store) -> None:
    """Named for what they are."""
    manifest = save(store, ("a", DATA))
    with pytest.raises(WrongKey):
        list(Downloader(store, manifest, [Identity.create()]).stream("a"))
    with pytest.raises(StreamUnknown):
        Downloader(store, manifest, [KEYS.daily]).stream("b")


def test_progress(store: Store) -> None:
    """Both ways, plain and stored bytes add up to the manifest's."""
    manifest = save(store, ("a", DATA))
    seen: list[tuple[int, int]] = []
    downloader = Downloader(store, manifest, [KEYS.daily], told=lambda *done: seen.append(done))
    list(downloader.stream("a"))
    assert seen[-1] == (manifest.plain_bytes, manifest.stored_bytes)
    assert sorted(seen) == seen


def test_a_download_that_is_left(store: Store) -> None:
    """Nothing goes on in the background."""
    stream = new_downloader(store, save(store, ("a", DATA))).stream("a")
    next(stream)
    stream.close()
    assert not any(thread.name.startswith("download") for thread in threading.enumerate())
    assert sum(1 for _ in store.list(BACKUPS)) == 4
