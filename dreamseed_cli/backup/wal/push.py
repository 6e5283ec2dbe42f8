"""`archive_command`: a WAL file is acknowledged only once it is proven to be in the store.

PostgreSQL hands out one file at a time. Each call also pushes files that wait behind it, side by side, so
that their own calls find them proven and return at once. A host that is lost meanwhile leaves a hole of a few
segments at the archive's end, with nothing behind it that was ever acknowledged: restore tells such a hole
from a deleted segment by its size.
"""

from __future__ import annotations

import errno
import fcntl
import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Final

import pyrage

from dreamseed_cli.backup import ending
from dreamseed_cli.backup.names import wal_name
from dreamseed_cli.backup.owner import claim
from dreamseed_cli.backup.pool import Pool
from dreamseed_cli.backup.rpo import SIDE_BY_SIDE
from dreamseed_cli.backup.seal import seal, sha256
from dreamseed_cli.backup.store.base import MIB, Store
from dreamseed_cli.backup.store.errors import ObjectConflict, ObjectCorrupt
from dreamseed_cli.backup.store.files import make_folder, os_errors
from dreamseed_cli.backup.wal.archive import find
from dreamseed_cli.backup.wal.index import ProvenIndex
from dreamseed_cli.backup.wal.outage import measure_backlog, note_failure, note_success, ready_files
from dreamseed_cli.backup.wal.segment import check_content, segment_bytes, system_in
from dreamseed_cli.backup.wal_names import WalFile, WalNameError, parse_wal_file
from dreamseed_cli.core.errors import DreamseedError, FailedError, MissingError

_MOST_HELD: Final = 64 * MIB
"""Plain bytes in flight: each is held about three times (plain, sealed, read back)."""


class PushBusy(FailedError):
    """Another push is under way on this host."""

    kind = "push_busy"


@dataclass(frozen=True, slots=True)
class Archiving:
    """Where WAL goes. state: a folder of this host's own, on another disk than `pg_wal` if there is one.

    ahead: how many waiting files a call may push besides its own. level: zstd's.
    """

    store: Store
    recipients: Sequence[pyrage.x25519.Recipient]
    state: Path
    threads: int = SIDE_BY_SIDE
    ahead: int = 16
    level: int = 3


@dataclass(frozen=True, slots=True)
class Pushed:
    """What a call did. known: it was proven before, and the store was not asked. ahead: pushed besides."""

    name: str
    known: bool
    ahead: tuple[str, ...] = ()


def utc_now() -> datetime:
    """The moment in UTC."""
    return datetime.now(UTC)


def push(path: Path, to: Archiving, now: Callable[[], datetime] = utc_now) -> Pushed:
    """Archive one file of `pg_wal` (`%p`). It returns only if the file is durable in the store.

    Raises the store's error, ObjectConflict (other bytes are archived under this name: never overwritten),
    NotASegment, OtherCluster, WalNameError, PushBusy. Each failure is noted in the state file with what the
    disk has left.
    """
    with failures_noted(path, to.state, now), _alone(to.state):
        pushed = _push(path, to, ProvenIndex(to.state / "wal-proven.json", to.store.name))
    with suppress(DreamseedError, OSError):
        note_success(to.state, measure_backlog(path.absolute().parent), now())
    return pushed


@contextmanager
def failures_noted(path: Path, state: Path, now: Callable[[], datetime] = utc_now) -> Iterator[None]:
    """Whatever fails in here while this file of `pg_wal` should be archived is noted in the state's folder,
    with what the disk has left: the settings and the key are asked for before a push begins.
    """
    try:
        yield
    except Exception as error:
        # The state may be on the very disk that is full: the failure itself must still be told.
        with suppress(DreamseedError, OSError):
            note_failure(state, error, measure_backlog(path.absolute().parent), now())
        raise


def _push(path: Path, to: Archiving, index: ProvenIndex) -> Pushed:
    if not path.exists():
        raise MissingError(
            "there is no such WAL file",
            place=str(path),
            remedy="PostgreSQL calls this in its data directory (%p): run it there, or give the whole path.",
        )
    size = segment_bytes(path.absolute().parent)
    file = parse_wal_file(path.name, size)
    data = _read(path)
    check_content(file, data, place=str(path))
    name = wal_name(file, sha256(data))
    if index.is_proven(name):
        return Pushed(file.name, known=True)
    _check_owner(system_in(file, data), to.store, index)
    neighbours = _neighbours(path, to.ahead, size)
    threads = max(1, min(to.threads, SIDE_BY_SIDE, _MOST_HELD // size))
    with Pool(threads, "wal-push") as pool:
        asked = pool.submit(_store, file, data, to, index)
        others = ((one.name, pool.submit(_store_path, path.parent, one, to, index)) for one in neighbours)
        begun = deque(islice(others, threads - 1))
        ending.result(asked)
        return Pushed(file.name, known=False, ahead=tuple(_in_order(begun, others)))


def _check_owner(system: int | None, store: Store, index: ProvenIndex) -> None:
    """The store is asked once: then this host knows whose it is. A history or a label says of nobody."""
    if system is not None and index.owner != str(system):
        claim(store, str(system))
        index.owned_by(str(system))


def _neighbours(path: Path, most: int, size: int) -> list[WalFile]:
    """Files that wait besides this one. Names that are not ours wait for their own call to be refused."""
    found: list[WalFile] = []
    for ready in ready_files(path.absolute().parent):
        with suppress(WalNameError):
            if ready.name != path.name and len(found) < most:
                found.append(parse_wal_file(ready.name, size))
    return found


def _in_order(
    begun: deque[tuple[str, Future[None]]], others: Iterator[tuple[str, Future[None]]]
) -> Iterator[str]:
    """The names of neighbours that are in. others: begins the next one each time it is asked.

    A neighbour's failure is not this file's: PostgreSQL asks for it again, and it is told then. But none is
    begun behind it: the hole would grow, and where the store is away each would wait as long.
    """
    with suppress(Exception):
        while begun := deque([*begun, *islice(others, 1)]):
            name, future = begun.popleft()
            ending.result(future)
            yield name


def _store_path(folder: Path, file: WalFile, to: Archiving, index: ProvenIndex) -> None:
    path = folder / file.name
    data = _read(path)
    check_content(file, data, place=str(path))
    _store(file, data, to, index)


def _store(file: WalFile, data: bytes, to: Archiving, index: ProvenIndex) -> None:
    digest = sha256(data)
    name = wal_name(file, digest)
    if index.is_proven(name):
        return
    if _look(file, digest, to.store):
        _prove_present(name, to.store, index)
    else:
        sealed = seal(data, to.recipients, to.level)
        index.begin(name, sealed.cipher_sha256)
        try:
            to.store.put(name, sealed.cipher)
        except ObjectConflict:
            # The same content, sealed by a call that was killed: the list did not show it yet.
            _prove_present(name, to.store, index)
        # Two servers may both have looked before either stored; the later of their second looks sees both.
        _look(file, digest, to.store)
    index.prove(name)


def _look(file: WalFile, digest: str, store: Store) -> bool:
    """Whether these bytes are archived. ObjectConflict if others are."""
    present = {found.sha256 for found in find(store, file)}
    if present - {digest}:
        raise _other_bytes(store, file, present - {digest})
    return bool(present)


def _prove_present(name: str, store: Store, index: ProvenIndex) -> None:
    """An object of this content is there, but whether it is whole and durable was never told."""
    cipher = store.get(name)
    ours = index.sealed_as(name)
    # Without a record (this host's state was lost) the store's own checks are all there is to go by.
    if ours and sha256(cipher) not in ours:
        raise ObjectCorrupt(
            "what is stored is not what this host sealed",
            place=f"{store.name}: {name}",
            remedy="Delete that object, with a key that may; the next call stores it again.",
        )
    store.put(name, cipher)


def _other_bytes(store: Store, file: WalFile, digests: set[str]) -> ObjectConflict:
    return ObjectConflict(
        f"{file.name} is archived already with other bytes ({', '.join(sorted(digests))[:80]})",
        place=store.name,
        remedy="Two servers archive to one place, or a restored one to its old place: give each its own.",
    )


def _read(path: Path) -> bytes:
    with os_errors(str(path)):
        return path.read_bytes()


@contextmanager
def _alone(state: Path) -> Iterator[None]:
    """One push at a time: two would seal the same file twice, and find each other's bytes."""
    with os_errors(str(state)):
        make_folder(state)
        try:
            fd = os.open(state / "wal-push.lock", os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise
            fd = os.open(state, os.O_RDONLY | os.O_DIRECTORY)  # which takes no room
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(fd)
        raise PushBusy("another push is under way", place=str(state), remedy="It ends by itself.") from None
    try:
        yield
    finally:
        os.close(fd)
